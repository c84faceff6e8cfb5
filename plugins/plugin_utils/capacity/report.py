"""The capacity plan in words and tables."""

from __future__ import annotations

from collections.abc import Iterable

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.limits import excess
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import (
    Host,
    Site,
    memory_parts,
    overlap_mb,
    sum_of,
    total,
)


def tiers(site: Site) -> list[tuple[str, list[Host], str]]:
    """Return the hosts by what they do, each once, with the ports that those above them ask."""
    names = {"edge": "Edge", "app": "Application", "worker": "Workers", "database": "Database", "redis": "Redis"}
    left = list(site.hosts)
    found = []
    for kind, title in names.items():
        members = [host for host in left if kind in host.kinds]
        left = [host for host in left if host not in members]
        if members:
            ports = {f"{port} ({service})": None for host in members for service, port in host.ports.items()}
            kinds = [names[other] for other in names if any(other in host.kinds for host in members)]
            found.append(
                (f"{title}: {len(members)}" if len(kinds) == 1 else " + ".join(kinds), members, ", ".join(ports))
            )
    return found


# As text


def columns(rows: list[list[str]]) -> list[str]:
    """Write rows as columns: the first to the left, numbers to the right."""
    widths = [max(len(row[index]) for row in rows) for index in range(len(rows[0]))]

    def cell(text: str, width: int, index: int) -> str:
        return text.rjust(width) if index and text.replace("-", "").isdigit() else text.ljust(width)

    return ["  ".join(cell(text, widths[i], i) for i, text in enumerate(row)).rstrip() for row in rows]


def workers_in_words(host: Host) -> str:
    """Say how many gunicorn workers a host has and why."""
    if not host.sizing:
        return "-"
    terms = ", ".join(f"{count} by {name}" for name, count in host.sizing["terms"].items())
    return f"{host.sizing['workers']} by {host.sizing['won']} ({terms})"


def table(sites: Iterable[Site], unknown: Iterable[str] = ()) -> str:
    """Write the plan as text for a terminal, with lines that say what is not known."""
    unknown = list(unknown)
    lines = []
    for site in sites:
        rows = [["host", "groups", "cores", "memory", "wanted", "deploying", "disk free", "gunicorn", "Celery"]]
        for host in site.hosts:
            steady = total(memory_parts(host, site.served_by(host)))
            celery = f"{host.celery.get('processes', 0)}{'+beat' if host.beat else ''}"
            rows.append(
                [
                    host.name,
                    " ".join(host.kinds),
                    *(str(number or "-") for number in (host.cores, host.memory_mb)),
                    str(steady),
                    str(steady + overlap_mb(host)),
                    str(host.disk_mb or "-"),
                    workers_in_words(host),
                    celery if "worker" in host.kinds else "-",
                ]
            )
        lines += [f"Site {site.name} (memory and disk in MiB)", "", *columns(rows), ""]
        lines += [f"  {host.name}: Redis {name} {mb} MiB" for host in site.hosts for name, mb in host.redis_mb.items()]
        lines += [
            f"  {host.name}: PostgreSQL shared_buffers {host.shared_buffers_mb} MiB, "
            f"max_connections {host.max_connections}"
            for host in site.hosts
            if "database" in host.kinds
        ]
        lines += [
            "",
            f"Connections: {sum_of(site.steady)}",
            f"While a deployment changes over: {sum_of(site.deploying)} more, {site.connections()} in all, "
            + (f"of {site.limit}" if site.limit else "to a database that is not the site's own"),
            "",
        ]
        found = excess([site])
        lines += [f"DOES NOT FIT: {' '.join(filter(None, (one.host, one.variable, one.why)))}" for one in found]
        if not found:
            lines.append("What is known fits." if unknown else "It fits.")
        lines.append("")
    return "\n".join([*lines, *unknown]).rstrip()
