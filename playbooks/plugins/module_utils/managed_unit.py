"""Keep a systemd unit running with the configuration on disk: for the module of this name and for services of slots."""

from __future__ import annotations

import json
import os
from typing import Any

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd_unit import UP, Systemd, files_digest, unit_files, write_atomically

# What a unit is kept running by; modules/managed_unit.py says what each means.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "restart_on": {"type": "list", "elements": "str", "default": []},
    "reload_on": {"type": "list", "elements": "str", "default": []},
    "validate": {"type": "list", "elements": "str", "default": []},
    "around": {"type": "list", "elements": "str", "default": []},
    "enabled": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["running", "stopped"], "default": "running"},
    "stamps": {"type": "path", "default": "/var/lib/slipway-applied"},
}


def keep(module: AnsibleModule, options: dict[str, Any]) -> list[str]:
    """Do what a unit needs to be as its OPTIONS want it, and return what that was: start, reload, ...

    In a dry run nothing is done. A unit that does not exist, does not do what it is told or is refused by `validate`
    ends the module. An option that is not given has its default.
    """
    options = {name: option.get("default") for name, option in OPTIONS.items()} | options
    unit = options["name"]
    systemd = Systemd(module)
    actions: list[str] = []

    def act(*arguments: str) -> None:
        actions.append(arguments[0])
        if not module.check_mode:
            systemd.run(*arguments)

    state = systemd.show(unit)
    if state["LoadState"] == "not-found" and module.check_mode and options["state"] == "running":
        return ["start"]
    if options["state"] == "stopped":
        if state["UnitFileState"] == "enabled":
            act("disable", unit)
        if state["ActiveState"] in UP:
            act("stop", unit)
        return actions
    stamp = os.path.join(options["stamps"], unit)
    try:
        with open(stamp) as file:
            applied = json.load(file)
    except (FileNotFoundError, ValueError):
        applied = {}
    wanted = {
        "unit": files_digest(unit_files(unit)),
        "restart": files_digest(options["restart_on"]),
        "reload": files_digest(options["reload_on"]),
    }

    if applied.get("unit") != wanted["unit"] or state["NeedDaemonReload"] == "yes":
        act("daemon-reload")
        state = systemd.show(unit)
    if state["LoadState"] == "not-found":
        module.fail_json(msg=f"the unit {unit} does not exist on this host")
    if options["enabled"] and state["UnitFileState"] == "disabled":
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
        if options["validate"] and not module.check_mode:
            code, out, err = module.run_command(options["validate"])
            if code != 0:
                module.fail_json(
                    msg=f"{unit} goes on as it is: {options['validate'][0]} refuses its new configuration",
                    refused_with=(err or out).splitlines(),
                )
        if action == "start" and not module.check_mode:
            systemd.try_run("reset-failed", unit)
        around = [other for other in options["around"] if action != "reload" and systemd.is_up(other)]
        if around:
            act("stop", *around)
        act(action, unit)
        if around:
            act("start", *around)
    if wanted != applied and not module.check_mode:
        os.makedirs(options["stamps"], mode=0o755, exist_ok=True)
        write_atomically(stamp, json.dumps(wanted).encode())
    return actions
