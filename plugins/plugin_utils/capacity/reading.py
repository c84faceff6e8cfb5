"""What the capacity plan needs of a host, read from the variables that the roles use."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ansible.errors import AnsibleError
from ansible.template import Templar

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import Host

ROLES = {"database": "postgresql", "redis": "redis", "app": "gunicorn", "worker": "celery", "edge": "nginx"}


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


def host_of(name: str, read: Reader) -> Host:
    """Return what the arithmetic needs of a host."""
    kinds = read("topology_kinds", [])
    host = Host(
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
