"""Take or leave the lock of deployments: one at a time for a site.

    slipway.kit.release_lock:
      folder: /srv/app
      state: held            # or free
      minutes: 60            # after which a run on another machine may take it over
      break: false           # take it over from whoever holds it

A lock whose run has ended without leaving it, which this machine can tell of its own runs, is taken over at once. One
that cannot be read counts as held.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.run import is_over, this_run


def refusal(holder: dict[str, Any], path: str) -> str:
    """Return why nobody else deploys now."""
    way_out = """break the lock with -e '{"release_lock_break": true}'"""
    if "unreadable" in holder:
        return (
            f"nobody can tell whether another deployment is under way: the lock {path} cannot be read: "
            f"{holder['unreadable']}. See that none is, then {way_out}"
        )
    since, until = (time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder[key])) for key in ("since", "expires"))
    by, pid = holder["owner"]["by"], holder["owner"]["pid"]
    return (
        f"another deployment is under way: {by} (process {pid}) holds the lock since {since}. "
        f"Wait for it. It expires at {until}; if that run is gone, {way_out}"
    )


class ActionModule(ActionBase):
    """Say who we are, and judge who holds the lock."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; fail when somebody else holds the lock."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "folder": {"type": "path", "required": True},
                "state": {"type": "str", "choices": ["held", "free"], "required": True},
                "minutes": {"type": "int", "default": 60},
                "break": {"type": "bool", "default": False},
            }
        )
        module = {"folder": arguments["folder"], "state": arguments["state"], "minutes": arguments["minutes"]}
        module["owner"] = this_run()
        result = self._execute_module("slipway.kit.release_lock", module_args=module, task_vars=task_vars)
        holder = result.get("holder")
        over = holder and "owner" in holder and is_over(holder["owner"])
        if holder and not self._task.check_mode and (arguments["break"] or over):
            result = self._execute_module(
                "slipway.kit.release_lock", module_args=module | {"replace": holder}, task_vars=task_vars
            )
            holder = result.get("holder")
        if holder:
            raise AnsibleActionFail(refusal(holder, f"{arguments['folder']}/deploy.lock"))
        return result
