"""Add up what all hosts have and want, as plugin_utils/capacity reckons it.

    slipway.kit.capacity_plan:
      enforce: true                # preflight: what does not fit becomes a fault; otherwise it is only told
      picture: .cache/plan.html    # where a page with the topology is written; left out: nowhere

It runs once for all hosts, opens no connection, and takes the numbers that the roles use: how many workers gunicorn has
is asked of the very variable that its configuration is written from. Returns `table`, `picture` and `fits`.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from jinja2 import Environment, StrictUndefined

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.limits import excess
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import (
    memory_parts,
    overlap_mb,
    sites_of,
    sum_of,
    total,
)
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.reading import ROLES, Reader, host_of
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.report import table, tiers, workers_in_words
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import FACT, Fault, keep
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.hosts import Hosts, find_role
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes

TEMPLATE = Path(__file__).resolve().parents[2] / "playbooks/templates/plan.html.j2"
HARDWARE = {"topology_cores": "cores", "topology_memory_mb": "memory_mb", "topology_disk_mb": "disk_mb"}
# What Ansible's facts have it from.
HARDWARE_FACTS = ("memtotal_mb", "processor_nproc", "preflight_disk_mb")


class ActionModule(ActionBase):
    """Make the plan."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the plan as text, write its picture, and keep what does not fit as faults."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={"enforce": {"type": "bool", "default": False}, "picture": {"type": "str", "default": ""}}
        )
        everybody = Hosts(variables, self._loader)
        self._outcomes = Outcomes()
        faults: list[tuple[str, Any]] = []
        hosts, unknown = [], []
        for name in variables["ansible_play_hosts_all"]:
            host, missing = self._read(name, everybody)
            hosts.append(host)
            faults += missing
            unknown += [f"NOT KNOWN: {name} {fault.variable} {fault.why}" for _, fault in missing]
            if everybody.known_facts(name).get("preflight_reached") is False:
                said = everybody.known_facts(name).get(FACT, [])
                unknown += [f"NOT KNOWN: {name} {fault['why']}" for fault in said if fault["role"] == ""]
        sites = sites_of(hosts)
        for found in excess(sites):
            faults.append((found.host, Fault(found.variable, found.why, fix=found.fix)))
        result = {"changed": False, "fits": not faults, "table": table(sites, unknown), "picture": ""}
        if arguments["picture"]:
            result["picture"] = self._draw(Path(arguments["picture"]), sites)
        return result | (keep(variables, "topology", faults) if arguments["enforce"] else {})

    def _read(self, name: str, everybody: Any) -> tuple[Any, list[tuple[str, Any]]]:
        """Return a host, and what is not known of its hardware."""
        known = everybody.known_facts(name)
        groups = Reader(everybody.variables(name), Templar(self._loader, everybody.variables(name)), self._outcomes)
        kinds = groups("topology_kinds", [])
        own = everybody.variables(name, *(find_role(self, ROLES[kind]) for kind in kinds))
        # What a host has is not assumed of one that was not asked.
        facts = {key: value for key, value in own["ansible_facts"].items() if key not in HARDWARE_FACTS or key in known}
        own["ansible_facts"] = facts
        read = Reader(own, Templar(self._loader, own), self._outcomes)
        host = host_of(name, read)
        missing = []
        for variable, attribute in HARDWARE.items():
            value = read(variable, 0)
            setattr(host, attribute, value)
            if not value and known.get("preflight_reached") is not False:
                why = "is not known: the host is not asked, and no variable says it"
                fix = "set it for the host, or topology_offline: false"
                missing.append((name, Fault(variable, why, fix=fix)))
        return host, missing

    def _draw(self, path: Path, sites: list[Any]) -> str:
        """Write the page, and return where it is."""
        environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
        template = environment.from_string(TEMPLATE.read_text(encoding="utf-8"))
        functions = (excess, memory_parts, overlap_mb, sum_of, tiers, total, workers_in_words)
        text = template.render({function.__name__: function for function in functions} | {"sites": sites})
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise AnsibleActionFail(f"the picture cannot be written: {error}") from error
        return str(path.resolve())
