"""What the hosts of a site have and run, and how many processes, connections and megabytes that makes."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

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
