"""Services that run a release in one of two slots, so that they change over without a gap and can go back.

What a service is made of lies in /etc/APP/services/NAME, written by its role: `unit`, the systemd unit of a slot (%i is
the slot); `service.json`; and any further files. A slot, /srv/APP/slots/NAME/a or b, is a copy of these files and of
APP's environment, with a link to the release that it runs, and /etc/systemd/system/APP-NAME@a.service a copy of the
unit: a change of any of them leaves what runs untouched until the other slot has started with it.

Two links beside the slots say what serves: `live` now, and after a restart of the host; `committed` since the last
deployment that went well, and what a failed one goes back to. All is decided by what is on disk, so a run that was cut
is finished, or taken back, by the next one.
"""

from __future__ import annotations

import glob
import grp
import json
import os
import re
import shutil
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import AppCommand
from ansible_collections.slipway.kit.plugins.module_utils.release.store import point
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import (
    UNIT_FOLDERS,
    UP,
    Systemd,
    files_digest,
    is_restart_pending,
    unit_files,
    write_atomically,
)

SLOTS = ("a", "b")
CANARY = "canary"
UNITS = UNIT_FOLDERS[0]
CHECK_TIMEOUT = 60  # seconds for a service's own check
SETTLE_INTERVAL = 0.5  # seconds between two looks at a slot that has to stay up
EXCEPTION = re.compile(r"[A-Za-z_][\w.]*(Error|Exception)\b")
# What systemd calls the end of a service (systemd.exec(5)), said so that it needs no looking up.
RESULTS = {
    "timeout": "it was not ready in time (TimeoutStartSec={timeout}) and systemd ended it",
    "exit-code": "it ended with status {status}",
    "signal": "it was ended by the signal {status}",
    "core-dump": "it crashed with the signal {status}",
    "oom-kill": "the kernel ended it because memory ran out",
    "resources": "systemd could not start it for want of resources",
    "protocol": "it ended without telling systemd that it was ready",
    "watchdog": "it gave systemd no sign of life",
    "start-limit-hit": "it was started too often in a short time",
}
# System calls that the sandbox refuses to a program that changes its user, its group or its root directory.
PRIVILEGED = re.compile(r"\b(set(re|res|fs)?[ug]id|setgroups|initgroups|chroot|drop_privileges|set_owner_process)\b")
SANDBOX_HINT = (
    "a service of the application runs as its user and can become no other: take options such as --uid, --gid or "
    "--user out of its command (docs/security.md)"
)
# What service.json may say, and what counts when it does not.
DEFAULTS: dict[str, Any] = {
    "order": 30,  # services of a lower number change over first, those of one number at once
    "overlap": True,  # whether both slots may run at once
    "retire": "commit",  # when the old slot stops: at the `switch`, or at the `commit` of the whole deployment
    # Seconds for which both slots serve before the old one stops: so first requests and last work do not meet.
    "pause": 0,
    "wait": False,  # whether to wait until it has stopped
    "socket": "",  # the Unix socket at which it answers visitors, where it does
    "check": [],  # a command of the release that must succeed in the new slot's environment
    # Seconds for which a new slot must run without a restart: for a service that does not tell when it is ready.
    "settle": 0,
    "ends": False,  # whether it may end, and be started again, at any time
    # Units that both slots need, as the socket that they share; with the options of systemd/managed_unit.py.
    "beside": [],
}


class SlotError(Exception):
    """A service did not do what it was told."""

    def __init__(self, message: str, journal: list[str] | None = None) -> None:
        super().__init__(message)
        self.journal = journal or []


def read_link(path: str) -> str | None:
    """Return where a link points, None where there is none."""
    try:
        return os.readlink(path)
    except OSError:
        return None


class Service:
    """A service of two slots."""

    def __init__(self, application: str, name: str, systemd: Systemd) -> None:
        self.application = application
        self.name = name
        self.systemd = systemd
        self.source = f"/etc/{application}/services/{name}"
        self.folder = f"/srv/{application}/slots/{name}"
        self.starter = f"{application}-{name}.service"
        try:
            with open(os.path.join(self.source, "service.json")) as file:
                self.settings = DEFAULTS | json.load(file)
        except FileNotFoundError:
            self.settings = dict(DEFAULTS)

    def unit(self, slot: str) -> str:
        """Return the name of a slot's unit."""
        return f"{self.application}-{self.name}@{slot}.service"

    def path(self, slot: str, *names: str) -> str:
        """Return the path of something in a slot."""
        return os.path.join(self.folder, slot, *names)

    def link(self, name: str) -> str | None:
        """Return the slot that the link `live` or `committed` names, None where there is none."""
        slot = read_link(os.path.join(self.folder, name))
        return slot if slot in SLOTS else None

    @property
    def live(self) -> str | None:
        """The slot that serves."""
        return self.link("live")

    @property
    def other(self) -> str:
        """The slot that is to serve next."""
        return "b" if self.live == "a" else "a"

    @property
    def committed(self) -> str | None:
        """The slot that served when a deployment last went well."""
        return self.link("committed")

    def release(self, slot: str | None) -> str:
        """Return the folder of the release in a slot, empty where there is none."""
        path = self.path(slot or "none", "release")
        return os.path.realpath(path) if os.path.lexists(path) else ""

    def state(self, slot: str) -> str:
        """Return what systemd calls the state of a slot: active, inactive, deactivating, ..."""
        return self.systemd.show(self.unit(slot))["ActiveState"]

    def is_up(self, slot: str | None) -> bool:
        """Tell whether a slot runs or is on its way there."""
        return bool(slot) and self.systemd.is_up(self.unit(str(slot)))

    def has_started(self, slot: str | None) -> bool:
        """Tell whether a slot runs or starts.

        One that has died and waits for systemd to start it again does not, unless its command ends by intention.
        """
        if not slot or self.settings["ends"]:
            return self.is_up(slot)
        state = self.systemd.show(self.unit(slot))
        return state["ActiveState"] in UP and not is_restart_pending(state)

    def bound_files(self) -> list[str]:
        """Return the configuration files of which each slot has a copy in their place."""
        try:
            with open(f"/etc/{self.application}/files.json") as file:
                return json.load(file)
        except FileNotFoundError:
            return []

    def wanted(self, release: str) -> str:
        """Return the digest of all that a slot with `release` would be made of."""
        own = (f"{UNITS}/{self.unit(slot)}" for slot in (*SLOTS, CANARY))
        drop_ins = set(unit_files(self.unit("a"))) - set(own)
        files = [self.source, f"/etc/{self.application}/app.env", *self.bound_files(), *drop_ins]
        return files_digest(files, salt=os.path.realpath(release))

    def runs(self, slot: str | None) -> str:
        """Return the digest that a slot was last started with, empty if it never was or was changed by hand since."""
        if slot and os.path.exists(self.path(slot, "made")):
            with open(self.path(slot, "made")) as file:
                if file.read() != self.content(slot):
                    return ""
        try:
            with open(self.path(slot or "none", "digest")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def content(self, slot: str) -> str:
        """Return the digest of a slot's files and of its unit as they are."""
        # Who runs gunicorn by hand with a slot's configuration, as root, leaves its bytecode there.
        names = set(os.listdir(self.path(slot))) - {"digest", "made", "release", "__pycache__"}
        return files_digest([*(self.path(slot, name) for name in names), f"{UNITS}/{self.unit(slot)}"])

    def is_current(self, release: str) -> bool:
        """Tell whether the live slot is what is wanted, and runs."""
        return self.runs(self.live) == self.wanted(release) and self.has_started(self.live)

    def fill(self, slot: str, release: str, addition: str = "") -> None:
        """Put a release and the files into a slot that does not run; `addition` is put behind its unit."""
        shutil.rmtree(self.path(slot), ignore_errors=True)
        os.makedirs(self.path(slot), mode=0o755)
        # A link is followed now: what a slot runs must not change under it.
        os.symlink(os.path.realpath(release), self.path(slot, "release"))
        group = grp.getgrnam(self.application).gr_gid
        names = [name for name in os.listdir(self.source) if name not in ("unit", "service.json")]
        copies = {name: os.path.join(self.source, name) for name in names if not name.startswith(".")}
        for name, source in (copies | {"app.env": f"/etc/{self.application}/app.env"}).items():
            with open(source, "rb") as file:
                write_atomically(self.path(slot, name), file.read(), 0o640, group)
        for number, source in enumerate(self.bound_files()):
            copy = self.path(slot, f"file-{number}")
            shutil.copy2(source, copy)
            status = os.stat(source)
            os.chown(copy, status.st_uid, status.st_gid)
            addition += f"\n[Service]\nBindReadOnlyPaths={copy}:{source}\n"
        with open(os.path.join(self.source, "unit")) as file:
            unit = file.read() + addition
        write_atomically(f"{UNITS}/{self.unit(slot)}", unit.encode())
        write_atomically(self.path(slot, "made"), self.content(slot).encode())

    def start(self, slot: str, leave: bool = False) -> None:
        """Start a slot and wait until systemd says that it is ready; raise SlotError with its journal if it is not.

        A service that does not tell when it is ready must stay up for a moment. One that fails is stopped, unless it is
        to `leave`: systemd goes on trying to start it.
        """
        since = time.time()
        self.systemd.try_run("reset-failed", self.unit(slot))
        started, said = self.systemd.try_run("start", self.unit(slot))
        try:
            if not started:
                raise self.error(slot, "did not start", since, said)
            self.settle(slot, since)
        except SlotError:
            if not leave:
                self.systemd.try_run("stop", self.unit(slot))
            raise

    def settle(self, slot: str, since: float) -> None:
        """Wait for as long as a new slot has to stay up; raise SlotError if it ends meanwhile."""
        deadline = time.monotonic() + self.settings["settle"]
        while time.monotonic() < deadline:
            time.sleep(SETTLE_INTERVAL)
            self.stays_up(slot, since)

    def stays_up(self, slot: str, since: float = 0) -> None:
        """Raise SlotError if a slot has ended, or was started again by systemd, since it was started."""
        state = self.systemd.show(self.unit(slot))
        if state["ActiveState"] not in UP or is_restart_pending(state) or state["NRestarts"] != "0":
            raise self.error(slot, "did not stay up", since)

    def error(self, slot: str, what: str, since: float = 0, said: str = "") -> SlotError:
        """Return the error of a slot that failed since a time (seconds of the epoch), with what is known of the cause.

        Of a cause nothing is guessed: how a service ended is systemd's own word, and the last exception in its journal
        is named only where the service has ended by itself. One that was too slow may have logged any other.
        """
        unit = self.unit(slot)
        journal = self.systemd.journal(unit, since)
        own = [line.removeprefix(f"{unit}: ") for line in journal if line.startswith(f"{unit}: ")]
        results = [match[1] for line in own if (match := re.match(r"Failed with result '([a-z-]+)'", line))]
        ends = [match[1] for line in own if (match := re.match(r"Main process exited, code=\w+, status=(\S+)", line))]
        result = results[0] if results else ""
        timeout = self.systemd.value(unit, "TimeoutStartUSec") if result == "timeout" else ""
        status = ends[0] if ends else "unknown"
        how = RESULTS[result].format(status=status, timeout=timeout) if result in RESULTS else said or "it ended"
        # What systemd could not do before it ran the command, and what Python has died of.
        causes = [line for line in own if re.match(r"Failed to |.*: No such file or directory$", line)]
        causes += [line for line in reversed(journal) if EXCEPTION.match(line) and result == "exit-code"]
        words = [how, *causes[:1]]
        if any("Operation not permitted" in line for line in journal) and any(map(PRIVILEGED.search, journal)):
            words.append(SANDBOX_HINT)
        return SlotError(f"{unit} {what} with {self.release(slot)}: {'; '.join(words)}", journal)

    def stop(self, slot: str, wait: bool = True) -> None:
        """Stop a slot, which finishes what it has begun."""
        if self.state(slot) in ("active", "activating", "reloading") or (wait and self.state(slot) == "deactivating"):
            self.systemd.try_run("stop", *([] if wait else ["--no-block"]), self.unit(slot))

    def check(self, slot: str, timeout: int = CHECK_TIMEOUT) -> None:
        """Run the service's own check with the release and the environment of a slot; raise SlotError when it fails."""
        command = AppCommand(
            self.application,
            self.path(slot, "release"),
            [word.replace("%i", slot) for word in self.settings["check"]],
            environment_files=[self.path(slot, "process.env")],
            timeout=timeout,
        )
        result = command.run() if self.settings["check"] else None
        if result and not result.succeeded:
            raise SlotError(
                result.explain(f"{self.unit(slot)} runs and does not do its work"),
                self.systemd.journal(self.unit(slot)),
            )

    def prepare(self, release: str) -> None:
        """Fill the slot that is to serve `release` next, unless the live one does; systemd must read its units then."""
        if self.live and self.runs(self.live) == self.wanted(release):
            return
        if self.committed and self.committed != self.live:
            # A deployment that was cut: the other slot is the one that a failure goes back to, so it stays as it is.
            self.roll_back()
        # One that still finishes its work is waited for: it runs from the folder that is about to be filled.
        self.stop(self.other)
        self.fill(self.other, release)

    def switch(self, release: str) -> None:
        """Have `release`, which was prepared, served by the live slot."""
        live, other = self.live, self.other
        if live and self.runs(live) == self.wanted(release):
            if not self.has_started(live):
                self.start(live, leave=True)
            return
        if live and not self.settings["overlap"]:
            self.stop(live)
        try:
            self.start(other)
            self.check(other)
        except SlotError as error:
            self.systemd.try_run("stop", self.unit(other))
            before = f"{self.unit(live)} goes on as before" if live else "nothing ran before"
            if live and not self.settings["overlap"]:
                try:
                    self.start(live, leave=True)
                except SlotError as second:
                    before = f"and now {second}"
            raise SlotError(f"{error} ({before})", error.journal) from error
        write_atomically(self.path(other, "digest"), self.wanted(release).encode())
        point(os.path.join(self.folder, "live"), other)
        if live and self.settings["retire"] == "switch":
            time.sleep(self.settings["pause"])
            self.stop(live, self.settings["wait"])
        self.enable()

    def enable(self) -> None:
        """Have the live slot started with the host."""
        if self.systemd.show(self.starter)["UnitFileState"] == "disabled":
            self.systemd.run("enable", self.starter)
        if self.systemd.show(self.starter)["ActiveState"] != "active":
            self.systemd.run("start", self.starter)

    def needs_commit(self) -> list[str]:
        """Return what a commit would do: nothing when all is committed and only the live slot runs."""
        slots = [slot for slot in SLOTS if slot != self.live]
        todo = [f"stop {self.unit(slot)}" for slot in slots if self.state(slot) in ("active", "activating")]
        todo += [f"commit {self.name}"] if self.committed != self.live else []
        state = self.systemd.show(self.starter)
        return todo + (
            [f"enable {self.starter}"]
            if state["UnitFileState"] == "disabled" or state["ActiveState"] != "active"
            else []
        )

    def commit(self) -> None:
        """Remember the live slot as the one to go back to, and let the other finish its work."""
        if not self.live:
            return
        point(os.path.join(self.folder, "committed"), self.live)
        for slot in SLOTS:
            if slot != self.live:
                self.stop(slot, self.settings["wait"])
        self.enable()

    def roll_back(self) -> bool:
        """Have the committed slot serve again, or nothing where nothing has; return whether that took a change."""
        committed = self.committed
        others = [slot for slot in SLOTS if slot != committed]
        running = [slot for slot in others if self.is_up(slot)]
        if not committed and not running and not self.live:
            return False
        if committed and committed == self.live and not running and self.is_up(committed):
            return False
        self.systemd.run("daemon-reload")
        if not self.settings["overlap"]:
            for slot in running:
                self.stop(slot)
        if committed:
            if not self.is_up(committed):
                self.start(committed, leave=True)
            point(os.path.join(self.folder, "live"), committed)
        elif self.live:
            os.unlink(os.path.join(self.folder, "live"))
        for slot in running:
            self.stop(slot, self.settings["wait"] or self.settings["retire"] == "switch")
        return True

    def remove(self) -> None:
        """Stop the service and remove all that there is of it."""
        self.systemd.try_run("disable", self.starter)
        self.systemd.try_run("stop", self.starter, *(self.unit(slot) for slot in SLOTS))
        shutil.rmtree(self.source, ignore_errors=True)
        for name in (self.starter, *(self.unit(slot) for slot in (*SLOTS, CANARY))):
            if os.path.exists(f"{UNITS}/{name}"):
                os.unlink(f"{UNITS}/{name}")
        shutil.rmtree(f"{UNITS}/{self.starter}.d", ignore_errors=True)
        # Last: it is what tells the next run, should this one be cut, that the service is still to be removed.
        shutil.rmtree(self.folder, ignore_errors=True)


def all_services(application: str, module: AnsibleModule) -> list[Service]:
    """Return the services that this host has or had, in the order in which they change over."""
    systemd = Systemd(module)
    paths = [*glob.glob(f"/etc/{application}/services/*"), *glob.glob(f"/srv/{application}/slots/*")]
    names = sorted({os.path.basename(path) for path in paths})
    services = [Service(application, name, systemd) for name in names]
    return sorted(services, key=lambda service: (service.settings["order"], service.name))


def is_wanted(service: Service) -> bool:
    """Tell whether a role still describes a service."""
    return os.path.exists(os.path.join(service.source, "service.json"))
