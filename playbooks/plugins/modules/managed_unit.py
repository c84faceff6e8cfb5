#!/usr/bin/python
"""Keep a systemd unit running with the configuration that is on disk."""

from __future__ import annotations

import json
import os

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd_unit import UP, Systemd, files_digest, unit_files, write_atomically

DOCUMENTATION = r"""
module: managed_unit
short_description: Keep a systemd unit running with the configuration that is on disk
description:
  - Enables and starts a unit, and restarts or reloads it when the files that it is configured by differ from those
    that it last started or reloaded with. What was applied is remembered on the host, so a run that was cut between
    writing a file and reloading is finished by the next one; a handler would be lost. When the unit's own file or a
    drop-in has changed, systemd reads them again; that alone restarts nothing.
options:
  name: {description: The unit., type: str, required: true}
  restart_on: {description: Files and folders whose change needs a restart., type: list, elements: str, default: []}
  reload_on:
    description: Files and folders whose change needs a reload only.
    type: list
    elements: str
    default: []
  validate:
    description: A command that must succeed before the unit is started, restarted or reloaded.
    type: list
    elements: str
    default: []
  around:
    description: Units to stop before this one is started or restarted, and to start after it.
    type: list
    elements: str
    default: []
  enabled: {description: Whether the unit starts with the host., type: bool, default: true}
  state: {description: Whether the unit runs., type: str, choices: [running, stopped], default: running}
  stamps: {description: Where to remember what was applied., type: path, default: /var/lib/slipway-applied}
author: Slipway contributors
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "name": {"type": "str", "required": True},
            "restart_on": {"type": "list", "elements": "str", "default": []},
            "reload_on": {"type": "list", "elements": "str", "default": []},
            "validate": {"type": "list", "elements": "str", "default": []},
            "around": {"type": "list", "elements": "str", "default": []},
            "enabled": {"type": "bool", "default": True},
            "state": {"type": "str", "choices": ["running", "stopped"], "default": "running"},
            "stamps": {"type": "path", "default": "/var/lib/slipway-applied"},
        },
        supports_check_mode=True,
    )
    unit = module.params["name"]
    systemd = Systemd(module)
    actions: list[str] = []

    def act(*arguments: str) -> None:
        actions.append(arguments[0])
        if not module.check_mode:
            systemd.run(*arguments)

    state = systemd.show(unit)
    if state["LoadState"] == "not-found" and module.check_mode and module.params["state"] == "running":
        module.exit_json(changed=True, actions=["start"], msg=f"{unit} is not installed yet")
    if module.params["state"] == "stopped":
        if state["UnitFileState"] == "enabled":
            act("disable", unit)
        if state["ActiveState"] in UP:
            act("stop", unit)
        module.exit_json(changed=bool(actions), actions=actions)
    stamp = os.path.join(module.params["stamps"], unit)
    try:
        with open(stamp) as file:
            applied = json.load(file)
    except (FileNotFoundError, ValueError):
        applied = {}
    wanted = {
        "unit": files_digest(unit_files(unit)),
        "restart": files_digest(module.params["restart_on"]),
        "reload": files_digest(module.params["reload_on"]),
    }

    if applied.get("unit") != wanted["unit"] or state["NeedDaemonReload"] == "yes":
        act("daemon-reload")
        state = systemd.show(unit)
    if state["LoadState"] == "not-found":
        module.fail_json(msg=f"the unit {unit} does not exist on this host")
    if module.params["enabled"] and state["UnitFileState"] == "disabled":
        act("enable", unit)

    if state["ActiveState"] not in ("active", "reloading"):
        action = "start"
    elif applied.get("restart") != wanted["restart"]:
        action = "restart"
    elif applied.get("reload") != wanted["reload"]:
        action = "reload"
    else:
        action = ""
    if action:
        if module.params["validate"] and not module.check_mode:
            code, out, err = module.run_command(module.params["validate"])
            if code != 0:
                module.fail_json(
                    msg=f"{unit} goes on as it is: {module.params['validate'][0]} refuses its new configuration",
                    refused_with=(err or out).splitlines(),
                )
        if action == "start" and not module.check_mode:
            systemd.try_run("reset-failed", unit)
        around = [other for other in module.params["around"] if action != "reload" and systemd.is_up(other)]
        if around:
            act("stop", *around)
        act(action, unit)
        if around:
            act("start", *around)
    if wanted != applied and not module.check_mode:
        os.makedirs(module.params["stamps"], mode=0o755, exist_ok=True)
        write_atomically(stamp, json.dumps(wanted).encode())
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
