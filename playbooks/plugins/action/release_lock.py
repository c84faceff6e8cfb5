"""Take or leave the lock of deployments: one at a time for a site.

    release_lock:
      path: /srv/app/deploy.lock
      state: held            # or free
      minutes: 60            # after which a run on another machine may take it over
      break: false           # take it over from whoever holds it

A lock whose run has ended without leaving it, which this machine can tell of its own runs, is taken over at once.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.module_utils.control_node import is_over, this_run
from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Say who we are, and judge who holds the lock."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result; fail when somebody else holds the lock."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "state": {"type": "str", "choices": ["held", "free"], "required": True},
                "minutes": {"type": "int", "default": 60},
                "break": {"type": "bool", "default": False},
            }
        )
        module = {"path": arguments["path"], "state": arguments["state"], "minutes": arguments["minutes"]}
        module["owner"] = this_run()
        result = self._execute_module("release_lock", module_args=module, task_vars=task_vars)
        holder = result.get("holder")
        if holder and not self._task.check_mode and (arguments["break"] or is_over(holder["owner"])):
            replace = {"replace": holder["owner"]}
            result = self._execute_module("release_lock", module_args=module | replace, task_vars=task_vars)
            holder = result.get("holder")
        if holder:
            since, until = (time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(holder[key])) for key in ("since", "expires"))
            raise AnsibleActionFail(
                f"another deployment is under way: {holder['owner']['by']} (process {holder['owner']['pid']}) holds the lock "
                f"since {since}. Wait for it. It expires at {until}; if that run is gone, break the lock with "
                "-e release_lock_break=true"
            )
        return result
