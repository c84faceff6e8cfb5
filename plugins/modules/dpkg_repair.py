#!/usr/bin/python
"""Finish an installation of packages that was interrupted, as by a power cut or a killed run."""

from __future__ import annotations

import fcntl
import os
import re
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: dpkg_repair
short_description: Finish an installation of packages that was interrupted
description:
  - Waits until no other apt or dpkg is at work, looks again, and runs C(dpkg --configure -a) when it is needed.
    Configuration files that were changed on the host stay as they are.
options:
  lock_timeout: {description: Seconds to wait for an apt or dpkg that is at work., type: int, default: 300}
author: Slipway contributors
"""

RETURN = r"""
packages: {description: Packages that were half installed., type: list, elements: str, returned: always}
"""

STATUS = Path("/var/lib/dpkg/status")
UPDATES = Path("/var/lib/dpkg/updates")
LOCKS = ("/var/lib/dpkg/lock-frontend", "/var/lib/dpkg/lock")
BROKEN = re.compile(
    r"^Package: (\S+)\n(?:.+\n)*?Status: .* (?:half-installed|unpacked|half-configured|triggers-\w+)$", re.MULTILINE
)


def unfinished() -> list[str]:
    """Return the packages that are half installed, and the files of a status that was not written to the end."""
    found = BROKEN.findall(STATUS.read_text(encoding="utf-8", errors="replace"))
    return found + sorted(str(path) for path in UPDATES.glob("[0-9]*"))


def is_held(path: str) -> bool:
    """Tell whether another process has locked a file."""
    try:
        with open(path, "r+b") as file:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except OSError:
        return True
    return False


def holder(path: str, locks: Path = Path("/proc/locks")) -> str:
    """Return the name and the pid of the process that has locked a file."""
    inode = os.stat(path).st_ino
    for line in locks.read_text(encoding="ascii").splitlines():
        found = re.search(rf" (\d+) [0-9a-f]+:[0-9a-f]+:{inode} ", line)
        if found:
            try:
                name = Path("/proc", found[1], "comm").read_text(encoding="utf-8", errors="replace").strip()
            except OSError:
                name = "a process"
            return f"{name} (pid {found[1]})"
    return "another process"


def wait(module: AnsibleModule) -> None:
    """Wait until no apt or dpkg is at work, or end the module."""
    until = time.monotonic() + module.params["lock_timeout"]
    while held := next(filter(is_held, LOCKS), ""):
        if time.monotonic() >= until:
            module.fail_json(
                msg=f"{holder(held)} has held {held} for {module.params['lock_timeout']} s: let it finish, or see on "
                "the host what it waits for, and run the playbook again"
            )
        time.sleep(1)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"lock_timeout": {"type": "int", "default": 300}},
        supports_check_mode=True,
    )
    packages = unfinished()
    if packages and not module.check_mode:
        wait(module)
        packages = unfinished()
        if packages:
            command = ["dpkg", "--configure", "-a", "--force-confdef", "--force-confold"]
            environment = {"DEBIAN_FRONTEND": "noninteractive", "NEEDRESTART_SUSPEND": "1", "LC_ALL": "C.UTF-8"}
            code, out, err = module.run_command(command, environ_update=environment)
            if code != 0:
                module.fail_json(
                    msg="an installation that was interrupted cannot be finished: see 'dpkg --audit' on the host",
                    packages=packages,
                    said=(err or out).splitlines()[-20:],
                )
    module.exit_json(changed=bool(packages), packages=packages)


if __name__ == "__main__":
    main()
