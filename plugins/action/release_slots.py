"""Change services over to a release: says who we are, and why a release is taken back. See the module of this name."""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.run import this_run


def reason_of(variables: dict[str, Any]) -> str:
    """Return which task failed on which host of the play and what it said, for a block's rescue."""
    for host in variables["ansible_play_hosts_all"]:
        # As it stands: what the task's templates refer to need not be there any more.
        found = variables["hostvars"].raw_get(host)
        if task := found.get("ansible_failed_task"):
            result = found.get("ansible_failed_result") or {}
            said = str(result.get("msg") or result.get("stderr") or "no message").strip()
            if task.get("no_log") or result.get("_ansible_no_log"):
                said = "its output is hidden, since it may hold secrets"
            return f"{task['name']} on {host}: {said}"
    lost = [host for host in variables["ansible_play_hosts_all"] if host not in variables["ansible_play_hosts"]]
    return f"{', '.join(lost) or 'a host'} could not be reached"


class ActionModule(ActionBase):
    """Run the module with what only the control node knows."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        arguments = dict(self._task.args) | {"by": this_run()["by"]}
        if arguments["action"] == "roll_back":
            arguments["reason"] = reason_of(variables)
        result = self._execute_module("slipway.kit.release_slots", module_args=arguments, task_vars=task_vars)
        return result | {"reason": arguments.get("reason", "")}
