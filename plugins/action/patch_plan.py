"""Say which hosts are patched, in which order and why, and which are left out.

    slipway.kit.patch_plan:
      register: __patch_seen      # the variable with what host_state has seen on each host

A host is patched that has updates, needs a restart, or was left out of the load; with `patch_reboot` each of them is.
Those that are out of the load go first: while they are, the others may be all that serves. One whose restart stops
something is left out unless `patch_stop` says otherwise.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

WAY_OUT = """with -e '{"patch_stop": true}' it is patched too"""


def drained_hosts(seen: dict[str, dict[str, Any]], servers: dict[str, str]) -> set[str]:
    """Return the hosts of the application that an Nginx sends nothing.

    `servers` are where it finds each of them over the network. One that is on the same host it finds by a socket.
    """
    drained = {
        (host if server.startswith("unix:") else server)
        for host, found in seen.items()
        for server in found.get("state", {}).get("nginx", {}).get("drained", [])
    }
    return {host for host, server in servers.items() if drained & {host, server}}


def work_on(seen: dict[str, Any], reboot: bool, drained: bool = False) -> list[str]:
    """Return what there is to do on a host, in words."""
    state = seen.get("state", {})
    updates = state.get("updates", 0)
    work = [f"{updates} update{'' if updates == 1 else 's'}"] if updates else []
    work += [f"restart: {reason}" for reason in state.get("reboot", [])]
    if reboot and not state.get("reboot"):
        work.append("restart: asked for")
    if state.get("nginx", {}).get("leaving"):
        work.append("visitors: it was about to go when a run was cut")
    if drained:
        work.append("requests: it is drained")
    return work


class ActionModule(ActionBase):
    """Show the plan, and return it: for a task that is run once, so that all hosts know it."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the hosts to patch."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={"register": {"type": "str", "required": True}})
        variables = task_vars or {}
        hostvars = variables["hostvars"]
        order = self._templar.template(variables["patch_order"])
        seen = {host: hostvars[host].get(arguments["register"], {}) for host in order}
        drained = drained_hosts(seen, {host: hostvars[host].get("patch_server", "") for host in order})
        patched, lines = [], []
        for host in sorted(order, key=lambda name: name not in drained):
            own = hostvars[host]
            if own["patch_target"] not in ("", host):
                continue
            work = work_on(seen[host], own.get("patch_reboot", False), host in drained)
            stops = own["patch_stops"]
            if not work:
                lines.append(f"{host}: nothing to do")
            elif stops and not own.get("patch_stop", False):
                lines.append(
                    f"{host}: LEFT OUT, its restart stops {' and '.join(stops)}; {WAY_OUT} ({'; '.join(work)})"
                )
            else:
                lines.append(f"{host}: {'; '.join(work)}{'. This stops ' + ' and '.join(stops) if stops else ''}")
                patched.append(host)
        self._display.display("\n" + "\n".join(lines) + "\n")
        return result | {"changed": False, "hosts": patched, "plan": lines}
