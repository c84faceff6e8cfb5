"""Refuse a rollback that would switch the hosts of a site to different releases.

    slipway.kit.release_agree: {register: __release_selected}  # the variable with each host's result of release_select

Which release served before is a link on each host; a host that was restored from a snapshot has another one.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase


def refusal(selected: dict[str, str]) -> str:
    """Return why hosts do not agree, empty when they do; `selected` is the release of each host."""
    if len(set(selected.values())) <= 1:
        return ""
    each = ", ".join(f"{host} to {release}" for host, release in selected.items())
    return (
        f"the hosts would go back to different releases, {each}: one of them was restored or missed a deployment. "
        "See playbooks/list_releases.yml, and name the release with -e release_name=..."
    )


class ActionModule(ActionBase):
    """Compare the hosts once."""

    _requires_connection = False
    _supports_check_mode = True
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing; fail when the hosts do not agree."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={"register": {"type": "str", "required": True}})
        variables = task_vars or {}
        found = {
            host: variables["hostvars"].raw_get(host).get(arguments["register"]) or {}
            for host in variables["ansible_play_hosts_all"]
        }
        if said := refusal({host: result["release"] for host, result in found.items() if "release" in result}):
            raise AnsibleActionFail(said)
        return result | {"changed": False}
