#!/usr/bin/python
"""Remove the descriptions of services and the timers that are no longer wanted."""

from __future__ import annotations

import os
import re
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd_unit import Systemd

DOCUMENTATION = r"""
module: process_prune
short_description: Remove the descriptions of services and the timers that are no longer wanted
description:
  - Of the services in C(/etc/APP/services), but for those of gunicorn and Celery, the folders of those that are not to
    be kept are removed; the deployment that follows stops what is described nowhere.
  - Of the timers in C(/etc/APP/timers) those that are not to be kept are stopped, disabled and removed.
options:
  app: {description: The application's name., type: str, required: true}
  services: {description: The names of the services to keep., type: list, elements: str, required: true}
  timers: {description: The names of the timers to keep., type: list, elements: str, required: true}
author: Slipway contributors
"""

UNITS = "/etc/systemd/system"
SETTINGS = "/etc"
# The folders of gunicorn and Celery, which their roles look after.
OTHERS = re.compile(r"(web|celery)(-.*)?")


def names_in(folder: str) -> list[str]:
    """Return what is in a folder that may be missing."""
    try:
        return sorted(os.listdir(folder))
    except FileNotFoundError:
        return []


def remove(path: str) -> None:
    """Remove a file that a run before this one may have removed."""
    if os.path.lexists(path):
        os.unlink(path)


def remove_timer(systemd: Systemd, unit: str, marker: str) -> None:
    """Stop and remove a timer, and end what it has begun."""
    for name in (f"{unit}.timer", f"{unit}.service"):
        if systemd.show(name)["LoadState"] != "not-found":
            systemd.run("stop", name)
    # By name alone: a run that was cut may have removed the unit already, and its link may still be there.
    remove(f"{UNITS}/timers.target.wants/{unit}.timer")
    remove(f"{UNITS}/{unit}.timer")
    remove(f"{UNITS}/{unit}.service")
    # Last: it is what tells the next run, should this one be cut, that the timer is still to be removed.
    remove(marker)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "services": {"type": "list", "elements": "str", "required": True},
            "timers": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    app = module.params["app"]
    folders, markers = f"{SETTINGS}/{app}/services", f"{SETTINGS}/{app}/timers"
    services = [
        name for name in names_in(folders) if not OTHERS.fullmatch(name) and name not in module.params["services"]
    ]
    timers = [
        name.removesuffix(".env")
        for name in names_in(markers)
        if name.endswith(".env") and name.removesuffix(".env") not in module.params["timers"]
    ]
    if not module.check_mode:
        for name in services:
            shutil.rmtree(f"{folders}/{name}")
        if timers:
            systemd = Systemd(module)
            for name in timers:
                remove_timer(systemd, f"{app}-{name}", f"{markers}/{name}.env")
            systemd.run("daemon-reload")
    module.exit_json(changed=bool(services or timers), services=services, timers=timers)


if __name__ == "__main__":
    main()
