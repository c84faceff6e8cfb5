#!/usr/bin/python
"""Change the services of an application over to a release, commit that, or take it back."""

from __future__ import annotations

import errno
import itertools
import json
import os
import shutil
import time
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.probe import PROBES, Server, first_fault
from ansible_collections.slipway.kit.plugins.module_utils.release.slots import (
    CANARY,
    SLOTS,
    UNITS,
    Service,
    SlotError,
    all_services,
    is_wanted,
    read_link,
)
from ansible_collections.slipway.kit.plugins.module_utils.release.store import (
    LockedError,
    deploy_lock,
    find_unwanted,
    point,
    remove,
)
from ansible_collections.slipway.kit.plugins.module_utils.systemd.managed_unit import keep
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically
from ansible_collections.slipway.kit.plugins.module_utils.threads import allow_threads

DOCUMENTATION = r"""
module: release_slots
short_description: Change services over to a release, commit that, or take it back
description:
  - Works on the services that roles have described in C(/etc/APP/services), and on the release that the link
    C(/srv/APP/candidate) names. See module_utils/release/slots.py.
options:
  application: {description: The application., type: str, required: true}
  action:
    description: >-
      C(switch) changes services over. C(commit) makes what is live what a failure goes back to, and stops the
      other slots. C(roll_back) rolls back to the committed release. C(probe) only asks for pages. C(wait) only waits
      until slots that were told to stop have ended. C(check) asks services whether they do their work, as a switch
      does. C(pause) stops what answers no visitors, until a switch or roll_back.
    type: str
    choices: [switch, commit, roll_back, probe, wait, check, pause]
    required: true
  only: {description: "The services to change over, all when it is empty.", type: list, elements: str, default: []}
  but: {description: "Services not to change over.", type: list, elements: str, default: []}
  canary:
    description: Whether what answers visitors is started on a socket of its own first, and asked for pages there.
    type: bool
    default: false
  gate:
    description: How health checks are made.
    type: dict
    options:
      probes:
        description: The pages to ask for.
        type: list
        elements: dict
        default: []
        options:
          path: {description: The path., type: str, required: true}
          status: {description: The status that is expected., type: int, default: 200}
          contains: {description: Text that the page must have., type: str, default: ""}
      host: {description: The Host header., type: str, required: true}
      proto: {description: The scheme that visitors are said to use., type: str, required: true}
      timeout: {description: Seconds to wait for an answer., type: float, required: true}
      attempts: {description: How often to ask., type: int, required: true}
  address:
    description: An address to ask for pages too; a switch asks it at its end.
    type: str
    default: ""
  port: {description: The port there., type: int, default: 80}
  tls: {description: Whether TLS is spoken on that port., type: bool, default: false}
  keep: {description: How many of the newest releases a commit keeps., type: int, default: 5}
  by: {description: Who runs this., type: str, default: ""}
  reason: {description: Why it is taken back., type: str, default: ""}
  what: {description: "What the log calls it: deploy, rollback or environment.", type: str, default: deploy}
author: Slipway contributors
"""

# One try, that does not take the processor from what serves, also once started, and has no visitors to say goodbye to.
CANARY_UNIT = "\n[Service]\nRestart=no\nNice=10\nExecStartPost=\nKillSignal=SIGKILL\n"


class Releaser:
    """What the module does."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.application: str = module.params["application"]
        self.folder = f"/srv/{self.application}"
        self.candidate = os.path.join(self.folder, "candidate")
        self.services = all_services(self.application, module)
        self.gate: dict[str, Any] = module.params["gate"]
        self.actions: list[str] = []

    def fault(self, socket: str = "") -> str:
        """Ask at a socket or the address, and return what is wrong with the first page that is not as it should be."""
        params, gate = self.module.params, self.gate
        server = Server(
            gate["host"], gate["proto"], gate["timeout"], socket, params["address"], params["port"], params["tls"]
        )
        return first_fault(server, gate["probes"], gate["attempts"])

    def chosen(self) -> list[Service]:
        """Return the services to change over."""
        only, but = self.module.params["only"], self.module.params["but"]
        return [
            service
            for service in self.services
            if is_wanted(service) and (not only or service.name in only) and service.name not in but
        ]

    def prepare(self, service: Service) -> None:
        """Fill the slots that a service is about to start."""
        service.prepare(self.candidate)
        if self.module.params["canary"] and service.settings["socket"]:
            service.systemd.try_run("stop", service.unit(CANARY))
            service.fill(CANARY, self.candidate, CANARY_UNIT)

    def try_out(self, service: Service) -> None:
        """Start the candidate in a slot that serves nobody, and ask it."""
        unit = service.unit(CANARY)
        try:
            service.start(CANARY)
            fault = self.fault(f"/run/{self.application}-{service.name}-{CANARY}/web.sock")
            if fault:
                raise SlotError(
                    f"the new release was tried on a socket of its own: {fault}", service.systemd.journal(unit)
                )
        finally:
            service.systemd.try_run("stop", unit)
            # Killed, it counts as failed, and whoever watches for failed units would be woken by each deployment.
            service.systemd.try_run("reset-failed", unit)
            shutil.rmtree(service.path(CANARY), ignore_errors=True)

    def switch(self) -> None:
        """Change over, and ask what serves then, at last at an address where one is given."""
        self.change_over()
        self.ask_address()

    def change_over(self) -> None:
        """Change services over, those that answer visitors first."""
        chosen = self.chosen()
        for unit in (unit for service in chosen for unit in service.settings["beside"]):
            self.actions += [f"{action} {unit['name']}" for action in keep(self.module, unit)]
        recover = f"{self.application}-recover.timer"
        if chosen and os.path.exists(f"{UNITS}/{recover}"):
            self.actions += [f"{action} {recover}" for action in keep(self.module, {"name": recover})]
        services = [service for service in chosen if not service.is_current(self.candidate)]
        self.actions += [f"switch {service.name}" for service in services]
        if self.module.check_mode or not services:
            return
        answering = [service for service in services if service.settings["socket"]]
        for group in (answering, [service for service in services if service not in answering]):
            if group:
                self.change_group_over(group)
        # What is ready may still end: those of the beginning have run for a while by now.
        for service in services:
            if not service.settings["ends"]:
                service.stays_up(str(service.live))

    def change_group_over(self, services: list[Service]) -> None:
        """Change services over: those of one order at once, later ones once those have."""
        for service in services:
            self.prepare(service)
        services[0].systemd.run("daemon-reload")
        for _, group in itertools.groupby(services, key=lambda service: service.settings["order"]):
            with ThreadPoolExecutor(os.cpu_count()) as pool:
                steps = [pool.submit(self.switch_one, service) for service in group]
            for step in steps:
                step.result()

    def switch_one(self, service: Service) -> None:
        """Change a service over, and ask it for pages where it answers visitors."""
        if self.module.params["canary"] and service.settings["socket"]:
            self.try_out(service)
        service.switch(self.candidate)
        self.ask(service)

    def ask(self, service: Service) -> None:
        """Ask what serves for pages, if it answers visitors."""
        if service.settings["socket"] and (fault := self.fault(service.settings["socket"])):
            live = service.unit(service.live or "a")
            raise SlotError(f"{live} serves: {fault}", service.systemd.journal(live))

    def probe(self) -> None:
        """Ask for pages: what answers visitors here, and the address where one is given."""
        if self.module.check_mode:
            return
        for service in self.services:
            if is_wanted(service) and service.live:
                self.ask(service)
        self.ask_address()

    def ask_address(self) -> None:
        """Ask the address for pages, where one is given."""
        if self.module.params["address"] and not self.module.check_mode and (fault := self.fault()):
            raise SlotError(f"through Nginx on this host: {fault}")

    def wait(self) -> None:
        """Wait until what serves no more has ended."""
        if self.module.check_mode:
            return
        for service in self.services:
            for slot in SLOTS:
                if slot != service.live:
                    service.stop(slot)

    def pause(self) -> None:
        """Stop what answers no visitors; a switch or a rollback starts it again."""
        for service in self.services:
            if is_wanted(service) and not service.settings["socket"] and service.is_up(service.live):
                self.actions.append(f"stop {service.unit(service.live or '')}")
                if not self.module.check_mode:
                    service.stop(service.live or "")

    def check(self) -> None:
        """Ask services that are live whether they do their work."""
        for service in self.services if not self.module.check_mode else []:
            if service.live:
                if not service.has_started(service.live):
                    raise service.error(service.live, "does not run")
                service.check(service.live)

    def commit(self) -> None:
        """Make what is live what a failure goes back to."""
        release = os.path.realpath(self.candidate)
        current = os.path.join(self.folder, "current")
        before = os.path.realpath(current) if read_link(current) else ""
        for service in self.services:
            if not is_wanted(service):
                self.actions.append(f"remove {service.name}")
                if not self.module.check_mode:
                    service.remove()
                continue
            todo = service.needs_commit()
            self.actions += todo
            if todo and not self.module.check_mode:
                service.commit()
        if before != release:
            self.actions.append(f"current {os.path.basename(release)}")
        if self.actions and not self.module.check_mode:
            self.finish(release, before)
        # Once the links say what is kept.
        for path in find_unwanted(self.folder, self.module.params["keep"]):
            self.actions.append(f"remove {os.path.relpath(path, self.folder)}")
            if not self.module.check_mode:
                remove(path)

    def finish(self, release: str, before: str) -> None:
        """Write down what is live now."""
        service_removed = any(action.startswith("remove") for action in self.actions)
        if service_removed and self.services:
            self.services[0].systemd.run("daemon-reload")
        failed = os.path.join(release, ".failed")
        if os.path.exists(failed):
            os.unlink(failed)
        point(os.path.join(self.folder, "current"), release)
        if before and before != release:
            # What was released before, for a rollback that names none.
            point(os.path.join(self.folder, "previous"), before)
        self.log(self.module.params["what"], release, before)

    def roll_back(self) -> None:
        """Have all services serve what they served when a deployment last went well."""
        if self.module.check_mode:
            return  # a dry run has changed nothing, holds no lock, and another deploy may be at work
        troubles = []
        current = read_link(os.path.join(self.folder, "current"))
        failed = os.path.realpath(self.candidate) if read_link(self.candidate) else ""
        for service in self.services:
            if not os.path.isdir(service.folder):
                continue
            try:
                if service.roll_back():
                    self.actions.append(f"take back {service.name}")
            except SlotError as error:
                troubles += [str(error), *error.journal[-10:]]
        if failed and failed != current and os.path.isdir(failed):
            reason = {"at": now(), "by": self.module.params["by"], "reason": self.module.params["reason"]}
            write_atomically(os.path.join(failed, ".failed"), json.dumps(reason).encode())
        if failed:
            self.log("failed", failed, current or "", self.module.params["reason"])
        if current and failed != current:
            point(self.candidate, current)
        if troubles:
            raise SlotError("not everything could be taken back: " + " / ".join(troubles))

    def log(self, what: str, release: str, before: str, reason: str = "") -> None:
        """Add a line to the release log."""
        entry = {
            "at": now(),
            "by": self.module.params["by"],
            "what": what,
            "release": os.path.basename(release),
            "before": os.path.basename(before),
            **({"reason": reason} if reason else {}),
        }
        with open(os.path.join(self.folder, "deploy.log"), "a") as file:
            file.write(json.dumps(entry) + "\n")


def explain(error: OSError) -> str:
    """Say which limit of the host a call of the system has met: the words of the error are the same for several."""
    hints = {
        errno.ENOSPC: "the file system has no space or no inodes left: df -h and df -i tell which",
        errno.EDQUOT: "the quota of the file system is used up",
        errno.EROFS: "the file system is mounted read-only: journalctl -k tells whether after an error",
        errno.EMFILE: "the process has too many open files (ulimit -n)",
        errno.ENFILE: "the host has too many open files (fs.file-max)",
        errno.EAGAIN: "the host can start no more processes (ulimit -u, TasksMax=)",
    }
    hint = f"; {hints[error.errno]}" if error.errno in hints else ""
    return f"{error.filename or 'a call of the system'}: {error.strerror}{hint}"


def now() -> str:
    """Return the time in UTC, by ISO 8601."""
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "action": {
                "type": "str",
                "choices": ["switch", "commit", "roll_back", "probe", "wait", "check", "pause"],
                "required": True,
            },
            "only": {"type": "list", "elements": "str", "default": []},
            "but": {"type": "list", "elements": "str", "default": []},
            "canary": {"type": "bool", "default": False},
            "gate": {
                "type": "dict",
                "options": {
                    "probes": PROBES,
                    "host": {"type": "str", "required": True},
                    "proto": {"type": "str", "required": True},
                    "timeout": {"type": "float", "required": True},
                    "attempts": {"type": "int", "required": True},
                },
            },
            "address": {"type": "str", "default": ""},
            "port": {"type": "int", "default": 80},
            "tls": {"type": "bool", "default": False},
            "keep": {"type": "int", "default": 5},
            "by": {"type": "str", "default": ""},
            "reason": {"type": "str", "default": ""},
            "what": {"type": "str", "default": "deploy"},
        },
        supports_check_mode=True,
    )
    # The login's umask does not decide who can enter a directory of the site.
    os.umask(0o022)
    # Services change over at once.
    allow_threads(module)
    releaser = Releaser(module)
    action = module.params["action"]
    if not os.path.isdir(releaser.folder):
        module.exit_json(changed=action in ("switch", "commit"), actions=[])
    try:
        if module.check_mode:
            getattr(releaser, action)()
        else:
            with deploy_lock(releaser.folder):
                getattr(releaser, action)()
    except SlotError as error:
        module.fail_json(msg=str(error), journal=error.journal, actions=releaser.actions)
    except LockedError as error:
        module.fail_json(msg=str(error))
    except OSError as error:
        module.fail_json(msg=explain(error), actions=releaser.actions)
    module.exit_json(changed=bool(releaser.actions), actions=releaser.actions)


if __name__ == "__main__":
    main()
