#!/usr/bin/python
"""Run a release in one of two slots of a systemd template unit, and change over without a gap."""

from __future__ import annotations

import grp
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd_unit import Systemd, files_digest, unit_files, write_atomically

DOCUMENTATION = r"""
module: slot_switch
short_description: Run a release in one of two slots, and change over without a gap
description:
  - A service C(NAME) has the slots C(NAME@a.service) and C(NAME@b.service), and a unit C(NAME.service) that starts
    the live one with the host. A slot is a folder with the release and a copy of the files that the service is
    configured by, so that a change of either leaves what runs untouched.
  - When the release, a file or the unit differs from what the live slot runs, the idle slot is filled and started,
    and only when systemd reports it as started does it become the live one and the other is stopped. If it does not
    start, the other goes on.
  - What is on disk decides; a run that was cut is finished by the next one.
options:
  name: {description: The service., type: str, required: true}
  directory:
    description: The folder that holds the slots C(a) and C(b) and the link C(live).
    type: path
    required: true
  release: {description: "The folder of the release to run, or a link to it.", type: path, required: true}
  files: {description: "Name in the slot: the file to copy there.", type: dict, default: {}}
  group: {description: The group that may read the copies., type: str, required: true}
  overlap:
    description: "Whether both slots may run at once; if not, the old one stops first."
    type: bool
    default: true
  wait_for_stop: {description: Whether to wait until the old slot has stopped., type: bool, default: true}
author: Slipway contributors
"""

SLOTS = ("a", "b")


class Service:
    """A service of two slots."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.systemd = Systemd(module)
        self.name: str = module.params["name"]
        self.directory: str = module.params["directory"]
        # A link is followed now: what a slot runs must not change under it.
        self.release = os.path.realpath(module.params["release"])
        self.link = os.path.join(self.directory, "live")
        self.actions: list[str] = []

    def unit(self, slot: str) -> str:
        """Return the name of the slot's unit."""
        return f"{self.name}@{slot}.service"

    def live(self) -> str | None:
        """Return the slot that serves, None before the first deploy."""
        try:
            slot = os.readlink(self.link)
        except FileNotFoundError:
            return None
        return slot if slot in SLOTS else None

    def wanted(self) -> str:
        """Return the digest of all that a slot is made of: the release, the files, the unit."""
        files = self.module.params["files"].values()
        return files_digest([*files, *unit_files(self.unit("a"))], salt=self.release)

    def runs(self, slot: str | None) -> str:
        """Return the digest that `slot` was last started with, empty if it never was."""
        try:
            with open(os.path.join(self.directory, slot or "none", "digest")) as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def fill(self, slot: str) -> None:
        """Put the release and the files into `slot`."""
        folder = os.path.join(self.directory, slot)
        shutil.rmtree(folder, ignore_errors=True)
        os.makedirs(folder, mode=0o755)
        os.symlink(self.release, os.path.join(folder, "release"))
        group = grp.getgrnam(self.module.params["group"]).gr_gid
        for name, source in self.module.params["files"].items():
            with open(source, "rb") as file:
                write_atomically(os.path.join(folder, name), file.read(), 0o640, group)

    def start(self, slot: str) -> tuple[bool, str]:
        """Start `slot` and wait until systemd says that it is ready; return whether it is, and what systemctl said."""
        self.systemd.try_run("reset-failed", self.unit(slot))
        return self.systemd.try_run("start", self.unit(slot))

    def stop(self, slot: str, wait: bool = True) -> None:
        """Stop `slot`, which finishes what it has begun."""
        self.systemd.run("stop", *([] if wait else ["--no-block"]), self.unit(slot))

    def make_live(self, slot: str) -> None:
        """Make `slot` the one that serves, also after a restart of the host, by a rename that is done or not done."""
        temporary = f"{self.link}.new"
        if os.path.lexists(temporary):
            os.unlink(temporary)
        os.symlink(slot, temporary)
        os.replace(temporary, self.link)

    def switch(self, live: str | None) -> str:
        """Fill and start the idle slot, make it live and stop `live`; return the slot that serves now."""
        idle = "b" if live == "a" else "a"
        # One that still finishes its work is waited for: it runs from the folder that is about to be filled.
        if self.systemd.show(self.unit(idle))["ActiveState"] not in ("inactive", "failed"):
            self.stop(idle)
        self.systemd.run("daemon-reload")
        self.fill(idle)
        if live and not self.module.params["overlap"]:
            self.stop(live)
        started, said = self.start(idle)
        if not started:
            journal = self.systemd.journal(self.unit(idle))
            self.systemd.try_run("stop", self.unit(idle))
            before = "nothing ran before, so nothing runs now"
            if live:
                if not self.module.params["overlap"]:
                    self.start(live)
                before = f"{self.unit(live)} goes on as before with {self.release_of(live)}"
            self.module.fail_json(
                msg=f"{self.unit(idle)} did not start with {self.release}: {said} ({before})",
                journal=journal,
            )
        write_atomically(os.path.join(self.directory, idle, "digest"), self.wanted().encode())
        self.make_live(idle)
        if live:
            self.stop(live, self.module.params["wait_for_stop"])
        return idle

    def release_of(self, slot: str) -> str:
        """Return the folder of the release in `slot`."""
        return os.path.realpath(os.path.join(self.directory, slot, "release"))


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "directory": {"type": "path", "required": True},
            "release": {"type": "path", "required": True},
            "files": {"type": "dict", "default": {}},
            "group": {"type": "str", "required": True},
            "overlap": {"type": "bool", "default": True},
            "wait_for_stop": {"type": "bool", "default": True},
        },
        supports_check_mode=True,
    )
    service = Service(module)
    systemd = service.systemd
    starter = f"{service.name}.service"
    if module.check_mode and systemd.show(starter)["LoadState"] == "not-found":
        module.exit_json(changed=True, actions=["switch"], slot="a")

    live = service.live()
    serving = live
    if service.runs(live) != service.wanted():
        service.actions.append("switch")
        if not module.check_mode:
            serving = service.switch(live)
    else:
        other = "b" if live == "a" else "a"
        if not systemd.is_up(service.unit(live)):
            service.actions.append("start")
            if not module.check_mode:
                started, said = service.start(live)
                if not started:
                    module.fail_json(
                        msg=f"{service.unit(live)} does not start: {said}", journal=systemd.journal(service.unit(live))
                    )
        # A run that was cut after the change-over leaves both running; one that still finishes its work is left to it.
        if systemd.show(service.unit(other))["ActiveState"] in ("active", "activating"):
            service.actions.append("stop")
            if not module.check_mode:
                service.stop(other, module.params["wait_for_stop"])

    state = systemd.show(starter)
    for arguments, needed in (
        (("enable", starter), state["UnitFileState"] != "enabled"),
        (("start", starter), state["ActiveState"] != "active"),
    ):
        if needed:
            service.actions.append(f"{arguments[0]} {starter}")
            if not module.check_mode:
                systemd.run(*arguments)
    module.exit_json(changed=bool(service.actions), actions=service.actions, slot=serving)


if __name__ == "__main__":
    main()
