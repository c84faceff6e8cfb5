"""The arithmetic of the capacity plan: workers, memory and connections, each worked out in one place.

Roles and the wiring take their numbers from the filters here; plan_capacity.yml and preflight add the same numbers
up over all hosts. docs/capacity.md says why each is reckoned as it is. Memory is in MiB.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from ansible.errors import AnsibleFilterError

# Besides what serves, a deployment has one worker that tries the release, and one command that migrates.
DEPLOY_CONNECTIONS = 2
# What a process takes that has just started; the rest of what it is reckoned at grows with its work.
YOUNG = Fraction(1, 3)
CONNECTION_MB = 4
NGINX_MB = 64
# Pools of Celery whose tasks run in one process.
ONE_PROCESS = ("solo", "threads", "gevent", "eventlet")


def gunicorn_sizing(
    asked: int,
    cores: int,
    memory_mb: int,
    worker_memory_mb: int,
    connections: int = 0,
    worker_connections: int = 1,
) -> dict[str, Any]:
    """Return how many workers there are, and which term won: cores, memory, connections, or that it is set.

    `asked` is the number that is set, 0 for none; `connections` is what all workers may have to the database, 0 for
    any number. The memory is for the second generation of a deployment too. One worker there is always.
    """
    terms = {"cores": 2 * cores + 1, "memory": int(memory_mb / (worker_memory_mb * (1 + YOUNG)))}
    if connections > 0:
        terms["connections"] = connections // worker_connections
    won = min(terms, key=lambda name: terms[name])
    return {"workers": asked or max(1, terms[won]), "won": "set" if asked else won, "terms": terms}


def celery_processes(workers: Iterable[Mapping[str, Any]], cores: int) -> dict[str, int]:
    """Return the processes and the connections of Celery's workers on a host; a task in work has a connection."""
    processes = connections = 0
    for worker in workers:
        concurrency = 1 if worker.get("pool") == "solo" else worker.get("concurrency", cores)
        processes += 1 if worker.get("pool") in ONE_PROCESS else 1 + concurrency
        connections += concurrency
    return {"processes": processes, "connections": connections}


def background_connections(
    workers: Iterable[Mapping[str, Any]],
    cores: int,
    beat: bool,
    services: Iterable[Mapping[str, Any]] = (),
    timers: Iterable[Mapping[str, Any]] = (),
    first: bool = True,
) -> dict[str, int]:
    """Return the connections of what works in the background on a host.

    `twice` is what two generations have during a deployment: Celery's workers and the application's own services.
    `once` is what there is one of: beat, and timers. What is marked `once` runs on the first host alone. `services` is
    how many services of the application's own there are among them.
    """

    def count(items: Iterable[Mapping[str, Any]]) -> int:
        return sum(1 for item in items if first or not item.get("once"))

    celery = celery_processes(workers, cores)["connections"]
    own = count(services)
    return {"twice": celery + own, "once": int(beat) + count(timers), "services": own}


def web_connections(limit: int, reserved: int, background: Iterable[Mapping[str, int]], hosts: int) -> int:
    """Return how many connections gunicorn may have on one host so that a deployment fits; 0 is any number.

    What is left of the limit is for two generations, less those of the background, and shared among the hosts.
    """
    if limit <= 0:
        return 0
    background = list(background)
    once = sum(part["once"] for part in background)
    twice = sum(part["twice"] for part in background)
    return max(1, ((limit - reserved - DEPLOY_CONNECTIONS - once) // 2 - twice) // max(1, hosts))


@dataclass
class Host:
    """What a host has and what runs on it, as its variables say."""

    name: str
    site: str
    kinds: list[str]
    address: str = ""
    cores: int = 0
    memory_mb: int = 0
    disk_mb: int = 0
    disk_needed_mb: int = 0
    system_mb: int = 0
    reserved: int = 0
    connection_limit: int = 0
    pool: int = 0
    sizing: dict[str, Any] = field(default_factory=dict)
    worker_mb: int = 0
    worker_connections: int = 1
    celery: dict[str, int] = field(default_factory=dict)
    celery_process_mb: int = 0
    beat: bool = False
    background: dict[str, int] = field(default_factory=lambda: {"twice": 0, "once": 0, "services": 0})
    redis_mb: dict[str, int] = field(default_factory=dict)
    shared_buffers_mb: int = 0
    max_connections: int = 0
    ports: dict[str, int] = field(default_factory=dict)

    @property
    def web(self) -> int:
        """Return the connections of one generation of gunicorn."""
        return self.sizing.get("workers", 0) * self.worker_connections


@dataclass(frozen=True)
class Part:
    """A part of a sum: what it is, how much, and how it comes about."""

    what: str
    amount: int
    how: str = ""


def total(parts: Iterable[Part]) -> int:
    """Return the sum of parts."""
    return sum(part.amount for part in parts)


def sum_of(parts: Iterable[Part]) -> str:
    """Write a sum with its parts; those that are nothing are left out."""
    shown = [part for part in parts if part.amount]
    terms = " + ".join(f"{part.amount} {part.what}{f' ({part.how})' if part.how else ''}" for part in shown)
    return f"{terms} = {total(shown)}"


def memory_parts(host: Host, connections: int) -> list[Part]:
    """Return what a host's memory is for, while nothing is deployed; `connections` is what its database serves."""
    parts = [Part("system", host.system_mb)]
    if "database" in host.kinds:
        parts.append(Part("shared_buffers", host.shared_buffers_mb))
        parts.append(Part("connections", connections * CONNECTION_MB, f"{connections} x {CONNECTION_MB}"))
    parts += [Part(f"Redis {name}", amount) for name, amount in host.redis_mb.items()]
    if workers := host.sizing.get("workers", 0):
        parts.append(Part("gunicorn", workers * host.worker_mb, f"{workers} x {host.worker_mb}"))
    if "worker" in host.kinds:
        processes = host.celery.get("processes", 0) + int(host.beat) + host.background["services"]
        parts.append(Part("Celery", processes * host.celery_process_mb, f"{processes} x {host.celery_process_mb}"))
    if "edge" in host.kinds:
        parts.append(Part("Nginx", NGINX_MB))
    return parts


def overlap_mb(host: Host) -> int:
    """Return the memory that a deployment's second generation takes on a host."""
    web = host.sizing.get("workers", 0) * host.worker_mb
    background = (host.celery.get("processes", 0) + host.background["services"]) * host.celery_process_mb
    return int((web + background) * YOUNG)


@dataclass
class Site:
    """The connections of the hosts of one site to their database."""

    name: str
    hosts: list[Host]

    @property
    def limit(self) -> int:
        """Return the most connections that there can be; 0 where the database is not the site's own."""
        return max((host.connection_limit for host in self.hosts), default=0)

    @property
    def reserved(self) -> int:
        """Return the connections that are kept for people and for what watches."""
        return max((host.reserved for host in self.hosts), default=0)

    @property
    def steady(self) -> list[Part]:
        """Return who has connections while nothing is deployed."""
        return [
            Part("gunicorn", sum(host.web for host in self.hosts), self._web_in_words()),
            Part("Celery and services", sum(host.background["twice"] for host in self.hosts)),
            Part("beat and timers", sum(host.background["once"] for host in self.hosts)),
            Part("kept for administration", self.reserved),
        ]

    @property
    def deploying(self) -> list[Part]:
        """Return what a deployment adds to it."""
        web, background = self.steady[:2]
        return [
            Part("gunicorn's second generation", web.amount),
            Part("Celery's second generation", background.amount),
            Part("trial and migrations", DEPLOY_CONNECTIONS),
        ]

    def connections(self) -> int:
        """Return the most connections that are wanted at once."""
        return total(self.steady) + total(self.deploying)

    def served_by(self, host: Host) -> int:
        """Return the connections that the database of a host may come to serve."""
        return min(self.connections(), host.max_connections)

    def _web_in_words(self) -> str:
        """Write out the workers of all hosts, those of the same number together."""
        counts: dict[tuple[int, int], int] = {}
        for host in self.hosts:
            if workers := host.sizing.get("workers", 0):
                key = (workers, host.worker_connections)
                counts[key] = counts.get(key, 0) + 1
        return " + ".join(
            f"{of} host{'s' if of > 1 else ''} x {workers} workers{f' x {each}' if each > 1 else ''}"
            for (workers, each), of in counts.items()
        )


def sites_of(hosts: Iterable[Host]) -> list[Site]:
    """Return the sites, each with its hosts."""
    found: dict[str, list[Host]] = {}
    for host in hosts:
        found.setdefault(host.site, []).append(host)
    return [Site(name, members) for name, members in found.items()]


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


def filtered(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a filter that takes its arguments as a dictionary, and says which of them are wrong."""

    def call(arguments: Mapping[str, Any]) -> Any:
        try:
            return function(**arguments)
        except (TypeError, KeyError, AttributeError, ZeroDivisionError) as error:
            raise AnsibleFilterError(f"{function.__name__} cannot reckon with {dict(arguments)}: {error}") from error

    return call


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = (gunicorn_sizing, celery_processes, background_connections, web_connections)
        return {function.__name__: filtered(function) for function in functions}
