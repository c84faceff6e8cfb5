"""Change the rules of a host's firewall, and confirm them over a new connection.

    slipway.kit.firewall_rules:
      keep: true        # close nothing
      ssh_port: 22
      ssh_sources: [0.0.0.0/0]
      seconds: 60

The module of the same name loads the rules and sets a timer on the host that puts the old ones back. Here the
connection is given up, which the old rules have let in, and a new one has the module confirm the new rules. When none
comes through, the host is waited for: it is as it was, and the task fails.
"""

from __future__ import annotations

import time
from typing import Any

from ansible.errors import AnsibleConnectionFailure
from ansible.plugins.action import ActionBase

SPARE = 15  # seconds that the host may take to put the old rules back, beyond the time that it was given


class ActionModule(ActionBase):
    """Load, connect anew, confirm."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what the module says of the rules, or why they were not kept."""
        super().run(tmp, task_vars)
        arguments = dict(self._task.args)
        loaded = self._execute_module("slipway.kit.firewall_rules", module_args=arguments, task_vars=task_vars)
        if not loaded.get("armed"):
            return loaded
        until = time.monotonic() + int(arguments.get("seconds", 60)) + SPARE
        try:
            confirmed = self._confirm(arguments, task_vars)
        except AnsibleConnectionFailure as error:
            return self._wait(until, str(error))
        return loaded if not confirmed.get("failed") else confirmed

    def _confirm(self, arguments: dict[str, Any], task_vars: dict[str, Any] | None) -> dict[str, Any]:
        self._connection.reset()
        return self._execute_module(
            "slipway.kit.firewall_rules", module_args=arguments | {"phase": "confirm"}, task_vars=task_vars
        )

    def _wait(self, until: float, error: str) -> dict[str, Any]:
        """Wait until the host lets somebody in again, and return the failure."""
        while True:
            try:
                self._connection.reset()
                self._low_level_execute_command("true", sudoable=False)
                break
            except AnsibleConnectionFailure:
                if time.monotonic() > until:
                    raise
                time.sleep(1)
        return {
            "failed": True,
            "msg": "The new rules of the firewall let no new connection of this control node through. The host "
            f"has put the old ones back. It was: {error}",
        }
