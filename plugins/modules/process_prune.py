#!/usr/bin/python
"""Remove descriptions of services and timers: the part of the action of this name that runs on the host."""

from __future__ import annotations

import os
import shutil

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import Systemd

DOCUMENTATION = r"""
module: process_prune
short_description: Remove the services and timers of an application that are no longer wanted
description:
  - Of what is in C(/etc/APP/services), the directories of gunicorn and Celery stay. The next deployment stops a service
    whose directory was removed.
  - Timers are stopped, disabled and removed.
options:
  app: {description: The application's name., type: str, required: true}
  services: {description: The names of the services to keep., type: list, elements: str, required: true}
  timers: {description: The names of the timers to keep., type: list, elements: str, required: true}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Remove other services and timers
  slipway.kit.process_prune:
    app: shop
    services: [listener]
    timers: [sweep]
"""

UNITS = "/etc/systemd/system"
SETTINGS = "/etc"


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
    )
    folder = f"{SETTINGS}/{module.params['app']}"
    services, timers = module.params["services"], module.params["timers"]
    for name in services:
        shutil.rmtree(f"{folder}/services/{name}")
    systemd = Systemd(module)
    for name in timers:
        remove_timer(systemd, f"{module.params['app']}-{name}", f"{folder}/timers/{name}.env")
    if timers:
        systemd.run("daemon-reload")
    module.exit_json(changed=True, services=services, timers=timers)


if __name__ == "__main__":
    main()
