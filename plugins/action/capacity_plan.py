"""Add up what all hosts have and want, as the filters of filter/capacity.py reckon it.

    slipway.kit.capacity_plan:
      enforce: true                # preflight: what does not fit becomes a fault; otherwise it is only told
      picture: .cache/plan.html    # where a page with the topology is written; left out: nowhere

It runs once for all hosts, opens no connection, and takes the numbers that the roles use: how many workers gunicorn has
is asked of the very variable that its configuration is written from. Returns `table`, `picture` and `fits`.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from jinja2 import Environment, StrictUndefined

from ansible_collections.slipway.kit.plugins.filter import capacity
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import FACT, Fault, keep
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.hosts import Hosts, find_role
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes

TEMPLATE = Path(__file__).resolve().parents[2] / "playbooks/templates/plan.html.j2"
ROLES = {"database": "postgresql", "redis": "redis", "app": "gunicorn", "worker": "celery", "edge": "nginx"}
HARDWARE = {"topology_cores": "cores", "topology_memory_mb": "memory_mb", "topology_disk_mb": "disk_mb"}
# What Ansible's facts have it from.
HARDWARE_FACTS = ("memtotal_mb", "processor_nproc", "preflight_disk_mb")


class Reader:
    """Reads one host's variables."""

    def __init__(self, variables: Mapping[str, Any], templar: Templar, outcomes: Any) -> None:
        """Take the variables, what resolves them, and what was read of other hosts."""
        self._variables = variables
        self._templar = templar
        self._outcomes = outcomes

    def __call__(self, name: str, default: Any) -> Any:
        """Return a variable, or the default when it cannot be resolved, which preflight tells elsewhere."""
        if name not in self._variables:
            return default
        raw = self._variables[name]

        def resolve() -> Any:
            try:
                return self._templar.template(raw)
            except AnsibleError:
                return ...

        value = self._outcomes.of(name, raw, self._variables, resolve, self._templar)
        wrong = not isinstance(value, type(default)) or (isinstance(value, bool) and not isinstance(default, bool))
        return default if wrong else value


def ports_of(read: Reader, kinds: list[str]) -> dict[str, int]:
    """Return the TCP ports that services of a host listen on."""
    ports: dict[str, int] = {}
    if "database" in kinds:
        ports["PostgreSQL"] = read("postgresql_port", 0)
        if read("pgbouncer_enabled", False):
            ports["PgBouncer"] = read("topology_pool_port", 0)
    if "redis" in kinds:
        ports |= {"Redis broker": read("redis_broker_port", 0), "Redis cache": read("redis_cache_port", 0)}
        if read("redis_store_enabled", False):
            ports["Redis store"] = read("redis_store_port", 0)
    if "app" in kinds:
        listening = {str(address).rpartition(":")[2] for address in read("gunicorn_listen", [])}
        for number, port in enumerate(sorted(int(port) for port in listening if port.isdigit())):
            ports[f"gunicorn ({port})" if number else "gunicorn"] = port
    if "edge" in kinds:
        ports["Nginx HTTP"] = read("nginx_http_port", 0)
        if read("topology_tls", False):
            ports["Nginx HTTPS"] = read("nginx_tls_port", 0)
        ports["Nginx status"] = read("nginx_status_port", 0)
        if read("nginx_health_port", 0) != ports["Nginx HTTP"]:
            ports["Nginx health checks"] = read("nginx_health_port", 0)
    return {service: port for service, port in ports.items() if port}


def host_of(name: str, read: Reader) -> Any:
    """Return what the arithmetic needs of a host."""
    kinds = read("topology_kinds", [])
    host = capacity.Host(
        name=name,
        site=read("topology_site", "all"),
        kinds=kinds,
        address=read("topology_address", ""),
        disk_needed_mb=read("topology_disk_needed_mb", 0),
        system_mb=read("topology_system_memory_mb", 0),
        reserved=read("topology_reserved_connections", 0),
        connection_limit=read("topology_connection_limit", 0),
        pool=read("topology_pool_connections", 0),
        ports=ports_of(read, kinds),
    )
    if "database" in kinds:
        host.shared_buffers_mb = read("__postgresql_shared_buffers_mb", 0)
        host.max_connections = read("postgresql_max_connections", 0)
    if "redis" in kinds:
        instances = ("broker", "cache", "store") if read("redis_store_enabled", False) else ("broker", "cache")
        host.redis_mb = {kind: read(f"redis_{kind}_memory_mb", 0) for kind in instances}
    if "app" in kinds:
        host.sizing = read("__gunicorn_sizing", {})
        host.worker_mb = read("gunicorn_worker_memory_mb", 0)
        host.worker_connections = read("gunicorn_worker_database_connections", 1)
    if "worker" in kinds:
        host.celery = read("__celery_processes", {})
        host.celery_process_mb = read("celery_process_memory_mb", 0)
        host.beat = read("celery_beat", False)
        host.background = read("topology_background", host.background)
    return host


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
        sites = capacity.sites_of(hosts)
        for found in capacity.excess(sites):
            faults.append((found.host, Fault(found.variable, found.why, fix=found.fix)))
        result = {"changed": False, "fits": not faults, "table": capacity.table(sites, unknown), "picture": ""}
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
        text = template.render(sites=sites, capacity=capacity, total=capacity.total, sum_of=capacity.sum_of)
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text, encoding="utf-8")
        except OSError as error:
            raise AnsibleActionFail(f"the picture cannot be written: {error}") from error
        return str(path.resolve())
