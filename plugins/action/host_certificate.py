"""Have a host's certificate of the site's authority in a file, with its private key, for one service.

    slipway.kit.host_certificate:
      path: /etc/redis/slipway-tls.pem
      group: redis                            # who may read it, besides root
      names: [10.0.0.5, 127.0.0.1]            # what others call the host
      authority: "{{ vault_site_authority }}"

It is made anew when it is of another authority, has other names, does not fit its key, or less than a third of its time
is left. It is signed here: the authority never leaves the control node.
"""

from __future__ import annotations

from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.authority import Authority


class ActionModule(ActionBase):
    """Read what is there, sign another one where that is needed."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether a certificate was issued, and why."""
        super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "group": {"type": "str", "required": True},
                "names": {"type": "list", "elements": "str", "required": True},
                "authority": {"type": "str", "required": True, "no_log": True},
            }
        )
        try:
            authority = Authority(arguments["authority"])
        except ValueError as error:
            raise AnsibleActionFail(f"the authority {error}") from None
        variables = (task_vars or {}) | {"ansible_no_target_syslog": True}
        file = {"path": arguments["path"], "group": arguments["group"]}
        found = self._execute_module("slipway.kit.host_certificate", module_args=file, task_vars=variables)
        if found.get("failed"):
            return found
        why = authority.why_not(found["certificate"], arguments["names"])
        if why:
            # With the authority's own behind it: a service that is a client of its like trusts the same file.
            content = authority.issue(arguments["names"]) + authority.pem
            found = self._execute_module(
                "slipway.kit.host_certificate", module_args=file | {"content": content}, task_vars=variables
            )
        return {name: value for name, value in found.items() if name != "invocation"} | {"issued_because": why}
