"""What does not fit: connections, memory, disks and ports of a site."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import (
    Part,
    Site,
    memory_parts,
    overlap_mb,
    sum_of,
    total,
)


@dataclass(frozen=True)
class Excess:
    """What does not fit: on which host, by which variable, with the sum, and the way out."""

    host: str
    variable: str
    why: str
    fix: str


def connection_excess(site: Site) -> list[Excess]:
    """Return what is wrong with the connections of a site."""
    server = next((host for host in site.hosts if host.max_connections), None)
    pools = [Part("pools", sum(host.pool for host in site.hosts)), Part("kept for administration", site.reserved)]
    if server and pools[0].amount and total(pools) > server.max_connections:
        why = (
            f"is too few: {sum_of(pools)} connections are wanted, and {server.max_connections} is the most there can be"
        )
        fix = f"set postgresql_max_connections: {-(-total(pools) // 10) * 10} or more, or smaller pools"
        return [Excess(server.name, "postgresql_max_connections", why, fix)]
    if site.limit <= 0 or site.connections() <= site.limit:
        return []
    asked = [host for host in site.hosts if host.sizing.get("won") == "set"]
    return [
        Excess(
            (server or site.hosts[0]).name,
            "postgresql_max_connections",
            f"is too few: a deployment would want {sum_of(site.steady + site.deploying)} connections, and "
            f"{site.limit} is the most there can be",
            f"set postgresql_max_connections: {-(-site.connections() // 10) * 10} or more, or "
            f"{'fewer gunicorn_workers or ' if asked else ''}a lower concurrency in celery_workers",
        )
    ]


def memory_excess(site: Site) -> list[Excess]:
    """Return which hosts have too little memory."""
    found = []
    for host in site.hosts:
        parts = memory_parts(host, site.served_by(host))
        second = Part("a deployment's second generation", overlap_mb(host))
        need = total(parts) + second.amount
        if host.memory_mb and need > host.memory_mb:
            ways = {
                "database": "postgresql_memory_mb",
                "redis": " and ".join(f"redis_{name}_memory_mb" for name in host.redis_mb),
                "app": "gunicorn_workers",
                "worker": "the concurrency in celery_workers",
            }
            lower = ", ".join(ways[kind] for kind in host.kinds if kind in ways)
            found.append(
                Excess(
                    host.name,
                    "topology_memory_mb",
                    f"is too little: {sum_of([*parts, second])} MiB are wanted, and the host has {host.memory_mb} MiB",
                    f"give the host {-(-need // 256) * 256} MiB, move a group to another host, or lower {lower}"
                    if lower
                    else f"give the host {-(-need // 256) * 256} MiB",
                )
            )
    return found


def disk_excess(site: Site) -> list[Excess]:
    """Return which hosts have too little room on their disks."""
    return [
        Excess(
            host.name,
            "topology_disk_mb",
            f"is too little: {host.disk_mb / 1024:.1f} GiB are free, and {host.disk_needed_mb / 1024:.1f} GiB are "
            f"needed for {', '.join(host.kinds)}",
            "make room, or a larger disk",
        )
        for host in site.hosts
        if host.disk_mb and host.disk_mb < host.disk_needed_mb
    ]


def port_excess(site: Site) -> list[Excess]:
    """Return which ports two services of a host want."""
    found = []
    for host in site.hosts:
        wanted: dict[int, list[str]] = {}
        for service, port in host.ports.items():
            wanted.setdefault(port, []).append(service)
        found += [
            Excess(
                host.name, "", f"port {port} is wanted by {' and by '.join(services)}", "give one of them another port"
            )
            for port, services in wanted.items()
            if len(services) > 1
        ]
    return found


def excess(sites: Iterable[Site]) -> list[Excess]:
    """Return all that does not fit."""
    checks = (memory_excess, disk_excess, connection_excess, port_excess)
    return [found for site in sites for check in checks for found in check(site)]
