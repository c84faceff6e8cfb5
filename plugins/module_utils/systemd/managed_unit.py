"""Keep a systemd unit running with the configuration on disk: for the module of this name and for services of slots."""

from __future__ import annotations

import json
import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd import config_backup
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import (
    UP,
    Systemd,
    files_digest,
    unit_files,
    write_atomically,
)

# What a unit is kept running by; modules/managed_unit.py says what each means.
OPTIONS: dict[str, dict[str, Any]] = {
    "name": {"type": "str", "required": True},
    "restart_on": {"type": "list", "elements": "str", "default": []},
    "reload_on": {"type": "list", "elements": "str", "default": []},
    "renamed": {"type": "dict", "default": {}},
    "validate": {"type": "list", "elements": "str", "default": []},
    "around": {"type": "list", "elements": "str", "default": []},
    "enabled": {"type": "bool", "default": True},
    "state": {"type": "str", "choices": ["running", "stopped"], "default": "running"},
    "stamps": {"type": "path", "default": "/var/lib/slipway-applied"},
}
# What has been done to a unit, by the command of systemctl.
REFUSED = "reload failed: "
DONE = {"start": "started", "restart": "restarted", "reload": "reloaded"}


def keep(module: AnsibleModule, options: dict[str, Any]) -> list[str]:
    """Do what a unit needs to be as its OPTIONS want it, and return what that was: start, reload, ...

    In a dry run nothing is done. A unit that does not exist or does not do what it is told ends the module. The files
    that a unit was last applied with are kept in a copy: when `validate` refuses the new ones, or the unit does not run
    with them, the copy is restored, the unit runs with it again, and the module ends. An option that is not given has
    its default.
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
    copy = f"{stamp}.tar"
    try:
        with open(stamp) as file:
            applied = json.load(file)
    except (FileNotFoundError, ValueError):
        applied = {}
    files = [*unit_files(unit), *options["restart_on"], *options["reload_on"]]
    wanted = {
        "unit": files_digest(unit_files(unit)),
        "restart": files_digest(options["restart_on"], renamed=options["renamed"]),
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
        if module.check_mode:
            return [*actions, action]
        if options["validate"]:
            code, out, err = module.run_command(options["validate"])
            if code != 0:
                restored = restore(module, copy, files, "" if systemd.is_up(unit) else "start", [])
                module.fail_json(
                    msg=f"{unit} was not {DONE[action]}: its new configuration is refused. {restored}",
                    refused_with=(err or out).splitlines(),
                )
        if action == "start":
            systemd.try_run("reset-failed", unit)
        around = [other for other in options["around"] if action != "reload" and systemd.is_up(other)]
        if around:
            act("stop", *around)
        actions.append(action)
        begun = time.time()
        done, said = systemd.try_run(action, unit)
        if not done or not systemd.runs(unit):
            journal = systemd.journal(unit)
            # What the unit's own ExecReload= has found in the log of the service.
            reasons = [line for line in systemd.journal(unit, begun) if line.startswith(REFUSED)]
            restored = restore(module, copy, files, "reload" if action == "reload" else "restart", around)
            reason = "; ".join(reasons) or said or "it does not stay active"
            module.fail_json(
                msg=f"systemctl {action} {unit} failed: {reason}. {restored}",
                journal=journal,
            )
        if around:
            act("start", *around)
    if module.check_mode:
        return actions
    # Without a copy, as from an older version of this module, what runs now is what a failure goes back to.
    if wanted != applied or not os.path.exists(copy):
        os.makedirs(options["stamps"], mode=0o755, exist_ok=True)
        config_backup.save(copy, files)
    if wanted != applied:
        write_atomically(stamp, json.dumps(wanted).encode())
    return actions


def restore(module: AnsibleModule, copy: str, files: list[str], action: str, around: list[str]) -> str:
    """Restore the files that the unit of `copy` was last applied with, and have it run with them.

    `action` is what systemctl does then, empty when the unit has not heard of the new files; `around` are units that
    were stopped for it. Return what was done, as a sentence.
    """
    unit = os.path.basename(copy).removesuffix(".tar")
    systemd = Systemd(module)
    restored = config_backup.restore(copy, files)
    if restored:
        systemd.try_run("daemon-reload")
        if action:
            systemd.try_run("reset-failed", unit)
            systemd.try_run(action, unit)
    if around:
        systemd.try_run("start", *around)
    if not restored:
        return "There are no previous files to restore."
    state = "runs with them" if systemd.runs(unit) else "does not run with them either"
    return f"The previous files were restored, and the unit {state}: {', '.join(restored)}"
