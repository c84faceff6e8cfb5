#!/usr/bin/python
"""Apply the migrations of a release while the release before it serves."""

from __future__ import annotations

import os
import re
import select
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import AppCommand, last_lines
from ansible_collections.slipway.kit.plugins.module_utils.release.migration_question import (
    conflict_lines,
    conflict_refusal,
    destructive_refusal,
    entry,
    find_answer,
    name_of,
    shell_words,
    shorten,
    unknown_names,
)
from ansible_collections.slipway.kit.plugins.module_utils.release.store import (
    LockedError,
    deploy_lock,
    is_complete,
    read_marker,
    write_marker,
)

DOCUMENTATION = r"""
module: release_migrate
short_description: Apply the migrations of a release while the release before it serves
description:
  - Asks the release which migrations its database lacks, with one start of Django. When there are none, that is all.
  - Refuses those that the active release cannot live with. What cannot be judged gives a warning.
  - Refuses a release that does not fit the schema of the database, where the database has migrations that the release
    does not know, or lacks some that are not to be applied.
  - Applies them in the unit C(APP-migrate.service), which outlives this module and the connection to the host. A run
    that finds the unit at work waits for it.
  - Tries again after a lock that was not to be had in time, and after a lost connection; any other failure is the last.
options:
  app: {description: "The application's name: its user, its folders.", type: str, required: true}
  release: {description: The folder of the release to migrate to, or a link to it., type: path, required: true}
  folder:
    description:
      - The application's folder, with the lock of those who change it. Without a link C(current) in it no release has
        served yet; then nothing can be broken, and all is applied.
    type: path
    required: true
  manage:
    description: The words that management commands begin with, for a release whose marker names none.
    type: list
    elements: str
    required: true
  command:
    description: The management command that migrates; without one the release is not asked.
    type: list
    elements: str
    default: [migrate, --noinput]
  lock_timeout: {description: Seconds that a statement waits for a lock., type: int, default: 5}
  statement_timeout: {description: "Seconds that a statement may take, 0 for any.", type: int, default: 0}
  attempts: {description: How often to try in all., type: int, default: 5}
  timeout: {description: Seconds that one attempt may take in all., type: int, default: 14400}
  destructive: {description: Whether to apply what breaks the active release., type: bool, default: false}
  apply:
    description:
      - Whether to apply migrations; otherwise code and schema are only compared, and a release that cannot be asked
        gives a warning.
    type: bool
    default: true
  conflicts: {description: Whether a release that does not fit the schema is allowed., type: bool, default: false}
author: Slipway contributors
"""

RETURN = r"""
pending: {description: "The migrations that were not applied before, in their order.", type: list, returned: always}
applied: {description: "Those that this run applied, or waited for.", type: list, returned: always}
warnings: {description: What the operator should know of them., type: list, returned: when there is any}
"""

SHOWN_LINES = 15
NO_PLAN: dict[str, Any] = {
    **{"pending": [], "destructive": [], "warnings": [], "limits": {}, "unknown": [], "conflicts": []}
}
BACK_OFF = 2  # seconds before the second attempt, doubled for each further one
# libpq takes the last word on a setting, so what app.env says of others stays in force. Settings that Django passes in
# OPTIONS take the place of all of it; then the plan finds other limits in force and a warning says so.
WITH_LIMITS = (
    'PGOPTIONS="${PGOPTIONS:+$PGOPTIONS }$1" PYTHONUNBUFFERED=1; export PGOPTIONS PYTHONUNBUFFERED; shift; exec "$@"'
)
LOCKED = re.compile(r"LockNotAvailable|\b55P03\b|lock timeout|lock wait timeout", re.IGNORECASE)
DATABASE_ERROR = re.compile(r"\b(OperationalError|InterfaceError)\b")
LOST = re.compile(
    r"server closed the connection|terminating connection due to|connection (is|was) (lost|closed)"
    r"|connection already closed|SSL connection has been closed|Connection (refused|timed out|reset)|timeout expired"
    r"|the database system is (starting up|shutting down|not (yet )?accepting|in recovery)"
    r"|No route to host|Network is unreachable|server has gone away|Lost connection|\b57P0[123]\b",
    re.IGNORECASE,
)


def started_in(output: str) -> tuple[list[str], str]:
    """Return the migrations that `migrate` says it has applied, and the one that it was at ("" if it says none)."""
    parts = re.split(r"\b(?:Una|A)pplying (\S+?)\.\.\.", output)[1:]
    names, said = parts[::2], parts[1::2]
    # What a migration prints stands between its name and the OK. Where another follows, it is done.
    if names and not re.search(r"^(.* )?(OK|FAKED)$", said[-1], re.MULTILINE):
        return names[:-1], names[-1]
    return names, ""


def is_locked(output: str) -> bool:
    """Tell whether a command failed for a lock that others held."""
    return bool(LOCKED.search(output))


def is_lost(output: str) -> bool:
    """Tell whether a command failed because the database was gone, and not because it said no."""
    return bool(DATABASE_ERROR.search(output) and LOST.search(output))


def leave_if_alone() -> None:
    """End this process when the connection to the control node is gone: the lock is free, and the unit goes on.

    The next run finds it and waits for it.
    """
    output = select.poll()
    output.register(sys.__stdout__.fileno(), 0)
    if output.poll(0):
        sys.exit("the control node is gone")


def who(session: dict[str, Any]) -> str:
    """Describe a session that holds locks."""
    place = f"from {session['address']}" if session["address"] else "on the database's host"
    program = session["program"] or "a program without a name"
    text = f"process {session['pid']} of user {session['user']} ({program}, {place})"
    for_long = f", in a transaction for {session['seconds']} s" if session["seconds"] is not None else ""
    state = f", {session['state']}" if session["state"] else ""
    return f"{text} holds locks on {session['tables']}{for_long}{state}"


@dataclass(frozen=True)
class Outcome:
    """How the unit ended: systemd's word for it, and what it wrote."""

    result: str
    output: str

    @property
    def succeeded(self) -> bool:
        """Whether the command ended with 0."""
        return self.result == "success"


class Unit:
    """The unit that migrates. By its name there is one at a time; what is left of it stays until its end was seen."""

    def __init__(self, module: AnsibleModule, name: str) -> None:
        self.module = module
        self.name = name

    def show(self) -> dict[str, str]:
        """Return systemd's view of the unit."""
        names = "ActiveState,SubState,Result,InvocationID"
        _, out, _ = self.module.run_command(["systemctl", "show", f"--property={names}", self.name], check_rc=True)
        return dict(line.split("=", 1) for line in out.splitlines() if "=" in line)

    def at_work(self) -> bool:
        """Tell whether the unit has not ended yet."""
        state = self.show()
        return state["ActiveState"] not in ("inactive", "failed") and state["SubState"] != "exited"

    def wait(self) -> Outcome:
        """Wait for the unit's end, and clear it away."""
        began = time.monotonic()
        invocation = self.show()["InvocationID"]
        while self.at_work():
            leave_if_alone()
            time.sleep(0.2 if time.monotonic() - began < 10 else 1)
        state = self.show()
        output = ""
        if invocation:
            self.module.run_command(["journalctl", "--sync"])
            match = f"_SYSTEMD_INVOCATION_ID={invocation}"
            _, output, _ = self.module.run_command(["journalctl", "--no-pager", "--output=cat", match])
        self.clear()
        # One that succeeded stays as it is until it is cleared away: one that is gone was stopped by somebody.
        succeeded = state["SubState"] == "exited"
        stopped = "stopped" if state["ActiveState"] != "failed" else state["Result"]
        return Outcome("success" if succeeded else stopped, output)

    def clear(self) -> None:
        """Remove what is left of a unit that has ended."""
        self.module.run_command(["systemctl", "stop", self.name])
        self.module.run_command(["systemctl", "reset-failed", self.name])

    def start(self, command: AppCommand) -> None:
        """Start the unit, without waiting for it and without ties to this process."""
        self.clear()
        words = command.argv()
        at = words.index("--")
        options = [word for word in words[:at] if word not in ("--collect", "--wait", "--pipe")]
        code, out, err = self.module.run_command(
            [
                *options,
                f"--unit={self.name}",
                f"--description=Migrations of {command.app}",
                "--remain-after-exit",
                "--property=LogRateLimitIntervalSec=0",
                *words[at:],
            ]
        )
        if code != 0 and not self.show()["InvocationID"]:
            self.module.fail_json(msg=f"The migrations could not be started: {(err or out).strip()}")


class Migration:
    """The migrations of one release."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.app: str = module.params["app"]
        self.command: list[str] = module.params["command"]
        # An older release is asked in the way that it was built for.
        marker = read_marker(module.params["release"]) or {}
        self.manage: list[str] = marker.get("manage") or module.params["manage"]
        self.unit = Unit(module, f"{self.app}-migrate.service")
        self.pending: list[dict[str, Any]] = []
        self.applied: list[str] = []

    def app_command(self, words: Sequence[str], timeout: int = 0) -> AppCommand:
        """Return a management command that runs with the limits of migrations."""
        limits = " ".join(f"-c {name}={self.module.params[name]}s" for name in ("lock_timeout", "statement_timeout"))
        release, manage = self.module.params["release"], self.manage
        try:
            program = AppCommand(app=self.app, release=release, command=manage).find_program()
        except FileNotFoundError as error:
            self.module.fail_json(msg=f"django_app_manage cannot be run: {error}")
        wrapped = ["/bin/sh", "-c", WITH_LIMITS, "sh", limits, program, *manage[1:], *words]
        return AppCommand(app=self.app, release=release, command=wrapped, timeout=timeout)

    def ask(self, **question: Any) -> tuple[Any, str]:
        """Return the answer to a question to migration_plan (None if there was none), and all that was written."""
        output = self.app_command(shell_words(question)).run().output
        return find_answer(output), output

    def plan(self) -> dict[str, Any]:
        """Return the plan. Without an answer there is none: the module ends, or warns where it applies nothing."""
        serving = os.path.exists(os.path.join(self.module.params["folder"], "current"))
        applies = self.module.params["apply"]
        if not self.command:
            return dict(NO_PLAN)
        plan, output = self.ask(ask="plan", command=self.command, serving=serving and applies, applies=applies)
        if plan is None:
            said = "\n".join(last_lines(output, SHOWN_LINES)) or "(it wrote nothing)"
            shell = " ".join([*self.manage, "shell"])
            if not applies:
                self.module.warn(
                    f"The release could not be asked for its migrations, by `{shell}`, so it was not compared with the"
                    f" schema of the database. Its last lines:\n{said}"
                )
                return dict(NO_PLAN)
            self.module.fail_json(
                msg=f"The release could not be asked for its migrations, by `{shell}`."
                f" Nothing was applied; the active release is unchanged. Its last lines:\n{said}"
            )
        self.pending = plan["pending"]
        return plan

    def names(self) -> list[str]:
        """Return the names of the pending migrations; with their database, if it is not the default one."""
        return [name_of(item) for item in self.pending]

    # Before

    def compare(self, plan: dict[str, Any]) -> None:
        """Say by which migrations code and schema differ, and end the module where the release does not fit."""
        applies = self.module.params["apply"]
        lines = conflict_lines(plan, applies)
        if plan["conflicts"] and not self.module.params["conflicts"] and not self.module.check_mode:
            self.module.fail_json(
                msg=conflict_refusal(plan, applies),
                pending=self.names(),
                applied=self.applied,
                unknown=unknown_names(plan),
                conflicts=[item["text"] for item in plan["conflicts"]],
            )
        if plan["conflicts"]:
            allowed = self.module.params["conflicts"]
            said = "allowed by django_app_allow_schema_conflicts" if allowed else "would be refused"
            for line in lines:
                self.module.warn(f"{said}: {line}")
        elif lines:
            self.module.warn(
                f"{'; '.join(lines)}. The tables and columns that the release uses are there, and its inserts name all"
                " that must have a value; whether it can live with the data is yours to judge"
            )

    def refuse_or_warn(self, plan: dict[str, Any]) -> None:
        """Say what the operator should know, and end the module where the active release would break."""
        for item in plan["warnings"]:
            self.module.warn(entry(item))
        for item in self.pending:
            if not item["atomic"]:
                text = "is not one transaction: where it fails, what it did until then stays, and it is not tried again"
                self.module.warn(entry(item | {"text": text}))
        for alias, limits in plan["limits"].items():
            for name, value in limits.items():
                wanted = self.module.params[name] * 1000
                if value is not None and value != wanted:
                    self.module.warn(
                        f"{name} is {value} ms in the database {alias}, where {wanted} ms are asked for: OPTIONS of the"
                        " settings or a connection pooler stand against it (PGOPTIONS is not heard)"
                    )
        found = [entry(item) for item in plan["destructive"]]
        if found and self.module.params["destructive"]:
            for text in found:
                self.module.warn(f"allowed by django_app_migrate_destructive: {text}")
        elif found and self.module.check_mode:
            for text in found:
                self.module.warn(f"would be refused: {text}")
        elif found:
            self.module.fail_json(
                msg=destructive_refusal(found),
                pending=self.names(),
                applied=self.applied,
                destructive=found,
            )

    def wait_for_another(self) -> bool:
        """Wait for migrations that a run before this one left at work; return whether there were any."""
        if not self.unit.at_work():
            return False
        outcome = self.unit.wait()
        done, _ = started_in(outcome.output)
        self.applied += done
        if outcome.succeeded:
            self.module.warn("waited for migrations that an earlier run had started; they succeeded")
        else:
            said = " ".join(last_lines(outcome.output, 1))
            self.module.warn(f"waited for migrations that an earlier run had started; they failed: {said}")
        return True

    # And then

    def apply(self) -> None:
        """Apply the pending migrations, in as many attempts as it takes, or end the module."""
        attempts: int = self.module.params["attempts"]
        for attempt in range(1, attempts + 1):
            self.unit.start(self.app_command(self.command, self.module.params["timeout"]))
            outcome = self.unit.wait()
            if outcome.succeeded:
                self.module.log(f"applied {', '.join(self.names())}")
                return
            done, at = started_in(outcome.output)
            self.applied += done
            passing = is_locked(outcome.output) or is_lost(outcome.output)
            atomic = all(item["atomic"] for item in self.pending if not at or item["migration"] == at)
            if not passing or not atomic or outcome.result == "timeout" or attempt == attempts:
                self.fail(outcome, at, attempt)
            time.sleep(BACK_OFF**attempt)
            leave_if_alone()

    def fail(self, outcome: Outcome, at: str, attempt: int) -> None:
        """End the module, and say which migration failed, why, and what that means."""
        times = f"in {attempt} attempts" if attempt > 1 else "at the first attempt"
        limit = self.module.params["lock_timeout"]
        if outcome.result == "timeout":
            why = f"it was ended after django_app_migrate_timeout ({self.module.params['timeout']} s)"
        elif outcome.result == "stopped":
            why = f"somebody stopped {self.unit.name}"
        elif is_locked(outcome.output):
            why = f"a lock that it needs was not to be had within django_app_migrate_lock_timeout ({limit} s), {times}"
        elif is_lost(outcome.output):
            why = f"the connection to the database was lost, or not to be had, {times}"
        else:
            why = "the command failed"
        failed = [item for item in self.pending if item["migration"] == at]
        message = [f"{at or ' '.join(self.command)} could not be applied: {why}."]
        if is_locked(outcome.output):
            database = failed[0]["database"] if failed else "default"
            holders = self.ask(ask="sessions", database=database, seconds=limit)[0] or []
            message += [f"Just now, {who(holder)}." for holder in holders]
            if holders:
                message.append("To end one: SELECT pg_terminate_backend(PROCESS).")
        if self.applied:
            message.append(f"Applied before it, and kept: {', '.join(self.applied)}.")
        if failed and failed[0]["atomic"]:
            message.append("It was rolled back as a whole.")
        elif failed:
            message.append("It is not one transaction: what it did before it failed is still there.")
        message.append("The active release is unchanged.")
        said = last_lines(outcome.output, SHOWN_LINES)
        self.module.fail_json(
            msg=" ".join(message) + " Its last lines:\n" + ("\n".join(said) or "(it wrote nothing)"),
            pending=[name for name in self.names() if name not in self.applied],
            applied=self.applied,
            changed=bool(self.applied),
        )

    def run(self) -> None:
        """Do what is to be done, and end the module."""
        if self.module.check_mode:
            if is_complete(self.module.params["release"]):
                plan = self.plan()
                self.compare(plan)
                self.refuse_or_warn(plan)
            applies = self.module.params["apply"]
            self.module.exit_json(changed=bool(self.pending) and applies, pending=self.names(), applied=[])
        self.wait_for_another()
        plan = self.plan()
        pending = self.names()
        self.compare(plan)
        if self.pending and self.module.params["apply"]:
            self.refuse_or_warn(plan)
            began = time.monotonic()
            try:
                with deploy_lock(self.module.params["folder"]):
                    waited = self.wait_for_another() or time.monotonic() - began > 1
                    # Who held the lock may have applied them.
                    if waited and not self.plan()["pending"]:
                        self.applied += [name for name in pending if name not in self.applied]
                    else:
                        self.apply_and_see()
            except LockedError as error:
                self.module.fail_json(msg=f"No migration was applied: {error}")
        self.check()
        self.module.exit_json(changed=bool(self.applied), pending=pending, applied=self.applied)

    def check(self) -> None:
        """Run the check that the build has put off, as it reads tables which these migrations have made."""
        release = self.module.params["release"]
        marker = read_marker(release) or {}
        if not marker.get("check"):
            return
        result = AppCommand(app=self.app, release=release, command=marker.pop("check")).run()
        if not result.succeeded:
            self.module.fail_json(
                msg=f"{result.explain('check')}\nIt failed before the migrations too; the active release is unchanged."
                " The check is django_app_check_command",
                applied=self.applied,
                changed=bool(self.applied),
            )
        write_marker(os.path.realpath(release), marker)

    def apply_and_see(self) -> None:
        """Apply what is pending; ask what is left where the command is not Django's own."""
        wanted = self.names()
        self.apply()
        if self.command[0] != "migrate":
            self.plan()
            if left := self.names():
                self.module.warn(f"still to be applied after `{' '.join(self.command)}`: {shorten(left)}")
            wanted = [name for name in wanted if name not in left]
        self.applied += [name for name in wanted if name not in self.applied]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "release": {"type": "path", "required": True},
            "folder": {"type": "path", "required": True},
            "manage": {"type": "list", "elements": "str", "required": True},
            "command": {"type": "list", "elements": "str", "default": ["migrate", "--noinput"]},
            "lock_timeout": {"type": "int", "default": 5},
            "statement_timeout": {"type": "int", "default": 0},
            "attempts": {"type": "int", "default": 5},
            "timeout": {"type": "int", "default": 14400},
            "destructive": {"type": "bool", "default": False},
            "apply": {"type": "bool", "default": True},
            "conflicts": {"type": "bool", "default": False},
        },
        supports_check_mode=True,
    )
    Migration(module).run()


if __name__ == "__main__":
    main()
