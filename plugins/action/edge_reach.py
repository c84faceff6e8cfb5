"""Ask from elsewhere whether a port of a host is reached, and warn where something on the way drops it.

    slipway.kit.edge_reach:
      address: "{{ topology_address }}"
      port: "{{ release_edge_port }}"
      ssh_port: 22
      elsewhere: true     # whether delegate_to names another host of the site
    delegate_to: another host

A health check on the host itself does not see a second firewall, or one in front of the host. It is a warning, as the
port may be open to others alone, such as a CDN. This machine is asked first. Where it does not reach the port of ssh
either, as behind a jump host, it cannot tell, and the other host is asked.
"""

from __future__ import annotations

import shlex
import socket
from typing import Any

from ansible.errors import AnsibleError
from ansible.plugins.action import ActionBase

TIMEOUT = 5.0  # seconds


def problem(address: str, port: int) -> str:
    """Return why a port is not reached; nothing where it is."""
    try:
        socket.create_connection((address, port), timeout=TIMEOUT).close()
    except OSError as error:
        return str(error) or type(error).__name__
    return ""


class ActionModule(ActionBase):
    """Ask for one host."""

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether the port is `reached`; None where that cannot be told."""
        result = super().run(tmp, task_vars) | {"changed": False}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "address": {"type": "str", "required": True},
                "port": {"type": "int", "required": True},
                "ssh_port": {"type": "int", "default": 22},
                "elsewhere": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        address, port = arguments["address"], arguments["port"]
        why = problem(address, port)
        if not why:
            return result | {"reached": True}
        by = "this machine"
        if problem(address, arguments["ssh_port"]):
            if not arguments["elsewhere"] or (reached := self._from_other(address, port)) is None:
                return result | {"reached": None}
            if reached:
                return result | {"reached": True}
            by, why = "another host of the site", "no answer"
        firewalls = variables.get("ansible_facts", {}).get("preflight_firewalls") or []
        cause = (
            f"the host has {' and '.join(firewalls)}" if firewalls else "a firewall in front of the host, or its own"
        )
        self._display.warning(
            f"{variables['inventory_hostname']}: port {port} of {address} is not reached from {by} ({why}), "
            f"though ssh is. On the host itself the site answers. Likely: {cause}; "
            "docs/network.md says what to do"
        )
        return result | {"reached": False}

    def _from_other(self, address: str, port: int) -> bool | None:
        """Tell whether the other host reaches the port; None where that host does not answer."""
        connect = shlex.quote(f"exec 3<>/dev/tcp/{address}/{port}")
        try:
            done = self._low_level_execute_command(f"echo asked; timeout {TIMEOUT:.0f} bash -c {connect} 2>/dev/null")
        except AnsibleError:
            return None
        return bool(done["rc"] == 0) if "asked" in done["stdout"] else None
