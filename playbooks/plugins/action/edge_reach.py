"""Ask from this machine whether a port of a host is reached, and warn where something on the way drops it.

    edge_reach:
      address: "{{ topology_address }}"
      port: "{{ release_edge_port }}"
      ssh_port: 22

A health check on the host itself does not see a second firewall, or one in front of the host. It is a warning, as the
port may be open to others alone, such as a CDN. Where the port of ssh is not reached directly either, this machine is
not in a place to tell, and nothing is said.
"""

from __future__ import annotations

import socket
from typing import Any

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

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return whether the port is `reached`; None where that cannot be told."""
        result = super().run(tmp, task_vars) | {"changed": False}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "address": {"type": "str", "required": True},
                "port": {"type": "int", "required": True},
                "ssh_port": {"type": "int", "default": 22},
            }
        )
        variables = task_vars or {}
        address, port = arguments["address"], arguments["port"]
        why = problem(address, port)
        if not why:
            return result | {"reached": True}
        if problem(address, arguments["ssh_port"]):
            return result | {"reached": None}
        firewalls = variables.get("ansible_facts", {}).get("preflight_firewalls") or []
        cause = (
            f"the host has {' and '.join(firewalls)}" if firewalls else "a firewall in front of the host, or its own"
        )
        self._display.warning(
            f"{variables['inventory_hostname']}: port {port} of {address} is not reached from this machine ({why}), "
            f"but port {arguments['ssh_port']} is. On the host itself the site answers. Likely: {cause}; "
            "docs/network.md says what to do"
        )
        return result | {"reached": False}
