"""Show how the hosts of a site are, as a table, and below it what needs somebody.

slipway.kit.status_table:
  register: __status_seen      # the variable with what host_state has seen on each host
  strict: false                # whether it fails when something needs somebody
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.tables import table
from ansible_collections.slipway.kit.plugins.plugin_utils.version import is_newer, kit_version

COLUMNS = ("host", "units", "release", "load", "memory", "disk", "updates", "certificate", "up")
RUNNING = ("active", "reloading")
DISK_FULL = 85  # percent
MEMORY_SHORT = 10  # percent
CERTIFICATE_DAYS = 14
QUEUE_LONG = 1000
LAG_SECONDS = 30
CONNECTIONS_MANY = 90  # percent
# A unit that systemd has restarted so often, and that is up for no longer than these seconds, starts again and again.
RESTARTS_MANY = 3
RESTARTED_LATELY = 600


def row_of(host: str, seen: dict[str, Any]) -> tuple[str, ...]:
    """Return what the table says of a host; `seen` is what host_state returned."""
    state = seen.get("state")
    if state is None:
        return (host, "UNREACHABLE" if seen.get("unreachable") else "NOT KNOWN", *("" for _ in COLUMNS[2:]))
    units = state.get("units", {})
    starts = state.get("starts", {})
    running = sum(starts.get(unit, {"state": active})["state"] in RUNNING for unit, active in units.items())
    memory, load = state.get("memory", {}), state.get("load", [])
    disk = state.get("disk", {})
    return (
        host,
        f"{running} of {len(units)} run" if running != len(units) else f"{running} run",
        ", ".join(sorted(state.get("serves", {}))) or "-",
        f"{load[0]:.1f} of {load[1]:.0f}" if load else "-",
        f"{memory['available']} of {memory['all']} MiB free" if memory else "-",
        ", ".join(f"{path} {used} %" for path, used in disk.items()) or "-",
        f"{state.get('updates', '?')}{', restart' if state.get('reboot') else ''}",
        f"{state['certificate']} days" if "certificate" in state else "-",
        duration(state["uptime"]) if "uptime" in state else "-",
    )


def duration(seconds: int) -> str:
    """Return a time as somebody would say it."""
    for size, name in ((86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds // size} {name}"
    return f"{seconds} s"


def ended(unit: dict[str, Any]) -> str:
    """Return how often systemd has restarted a unit and how it last ended, as the end of a sentence."""
    last = f", last result: {unit['result']}" if unit["result"] not in ("", "success") else ""
    times = "once" if unit["restarts"] == 1 else f"{unit['restarts']} times"
    return f"restarted {times} by systemd{last}" if unit["restarts"] else f"not restarted{last}"


def is_unsteady(unit: dict[str, Any]) -> bool:
    """Tell whether a unit starts again and again, though it is up at the moment."""
    return unit["restarts"] >= RESTARTS_MANY and unit["seconds"] < RESTARTED_LATELY


def start_needs(host: str, starts: dict[str, dict[str, Any]]) -> Iterator[str]:
    """Yield the units that are on their way up, or do not stay there."""
    for name, unit in sorted(starts.items()):
        if unit["state"] == "activating":
            yield f"{host}: {name} has been starting for {duration(unit['seconds'])} ({ended(unit)})"
        elif unit["state"] in RUNNING and is_unsteady(unit):
            yield f"{host}: {name} does not stay up: {ended(unit)}, up for {duration(unit['seconds'])}"


def needs_of(host: str, seen: dict[str, Any]) -> Iterator[str]:
    """Yield what needs somebody on a host."""
    state = seen.get("state")
    if state is None:
        yield (
            f"{host} cannot be reached"
            if seen.get("unreachable")
            else f"{host} could not be asked: {seen.get('msg', '')}"
        )
        return
    yield from (f"{host}: {fault}" for fault in seen.get("faults", []))
    if failed := state.get("failed"):
        yield f"{host}: failed: {', '.join(failed)}"
    if stopped := sorted(set(state.get("enabled", [])) - set(failed or [])):
        yield f"{host}: does not run: {', '.join(stopped)}"
    yield from start_needs(host, state.get("starts", {}))
    yield from (f"{host}: {text}" for text in state.get("silent", []))
    migrations = state.get("migrations", {})
    if migrations.get("pending"):
        yield f"{host}: {migrations['pending']} migrations of the release in use are not applied"
    if migrations.get("conflicts"):
        yield f"{host}: the release in use does not fit the schema of the database: {'; '.join(migrations['lines'])}"
    for path, used in state.get("disk", {}).items():
        if used >= DISK_FULL:
            yield f"{host}: {path} is {used} % full"
    memory = state.get("memory")
    if memory and 100 * memory["available"] < MEMORY_SHORT * memory["all"]:
        yield f"{host}: {memory['available']} MiB of memory are left"
    if state.get("certificate", CERTIFICATE_DAYS) < CERTIFICATE_DAYS:
        yield f"{host}: the certificate ends in {state['certificate']} days"
    yield from (f"{host}: needs a restart: {reason} (patch_hosts.yml)" for reason in state.get("reboot", []))
    nginx = state.get("nginx", {})
    if nginx.get("maintenance"):
        yield f"{host}: the site is closed (maintenance.yml)"
    if nginx.get("leaving"):
        yield f"{host}: sends visitors away (patch_hosts.yml)"
    if nginx.get("drained"):
        yield f"{host}: sends no requests to {', '.join(nginx['drained'])} (undrain_host.yml)"
    yield from version_needs(host, state.get("version"))
    yield from database_needs(host, state.get("database", {}))
    for name, length in state.get("queues", {}).items():
        if length >= QUEUE_LONG:
            yield f"{host}: {length} tasks wait in {name}"


def version_needs(host: str, found: str | None) -> Iterator[str]:
    """Yield what to do where another version of Slipway has set up a host; None is a host without a record."""
    if found is None or found == kit_version():
        return
    was = f"Slipway {found}" if found else "a Slipway before 1.0.0"
    what = "update this checkout" if is_newer(found, kit_version()) else "run site.yml"
    yield f"{host}: was set up by {was}, this is {kit_version()}: {what} (docs/upgrading.md)"


def database_needs(host: str, database: dict[str, Any]) -> Iterator[str]:
    """Yield what needs somebody of PostgreSQL."""
    if not database:
        return
    if database["connections"] * 100 >= CONNECTIONS_MANY * database["most"]:
        yield f"{host}: {database['connections']} of {database['most']} connections are in use"
    if database["replica"] and database.get("follows") != "streaming":
        yield f"{host}: the replica follows nobody"
    if (database.get("seconds") or 0) >= LAG_SECONDS:
        yield f"{host}: the replica is {database['seconds']:.0f} s behind"
    for replica in database.get("replicas") or []:
        if replica["state"] != "streaming":
            yield f"{host}: the replica {replica['name']} ({replica['address']}) is {replica['state']}"


def notes_of(host: str, state: dict[str, Any]) -> Iterator[str]:
    """Yield what is worth a line of its own, though it needs nobody."""
    if database := state.get("database"):
        what = "replica" if database["replica"] else "primary"
        yield f"{host}: PostgreSQL, {what}, {database['connections']} of {database['most']} connections"
        for replica in database.get("replicas") or []:
            who = f"{replica['name']} ({replica['address']})"
            yield f"{host}: replica {who} {replica['state']}, {replica['bytes']} bytes behind"
        if database["replica"]:
            yield f"{host}: {database['seconds'] or 0:.1f} s behind"
    if "queues" in state:
        queues = ", ".join(f"{name} {length}" for name, length in sorted(state["queues"].items()))
        yield f"{host}: queues: {queues or 'empty'}"
    if state.get("firewalls"):
        others = ", ".join(state["firewalls"])
        yield f"{host}: besides the site's firewall there is {others}, which may drop what the site opens"
    if migrations := state.get("migrations"):
        yield f"{host}: migrations: {migrations['pending'] or 'none'} to be applied"
        if not migrations["conflicts"]:
            yield from (f"{host}: migrations: {line}" for line in migrations["lines"])
    for name, unit in sorted(state.get("starts", {}).items()):
        if unit["restarts"] and unit["state"] in RUNNING and not is_unsteady(unit):
            yield f"{host}: {name} was {ended(unit)}, up for {duration(unit['seconds'])}"


def screen(seen: dict[str, dict[str, Any]]) -> tuple[list[str], list[str]]:
    """Return the lines of the screen, and what needs somebody."""
    lines = table([COLUMNS, *(row_of(host, result) for host, result in seen.items())])
    notes = [note for host, result in seen.items() for note in notes_of(host, result.get("state") or {})]
    known = [result["state"] for result in seen.values() if result.get("state")]
    closed = sum(bool(state.get("firewall")) for state in known)
    notes.append(f"Slipway {kit_version()}")
    notes.append(f"firewall: on on {closed} of {len(known)} hosts")
    applications = sorted({state["application"] for state in known})
    needs = [need for host, result in seen.items() for need in needs_of(host, result)]
    for name in applications:
        releases = {release for state in known if state["application"] == name for release in state.get("serves", {})}
        if len(releases) > 1:
            needs.append(f"{name} is served in different releases: {', '.join(sorted(releases))}")
    return [*lines, "", *notes, "", *(f"! {need}" for need in needs), *([] if needs else ["all is well"])], needs


class ActionModule(ActionBase):
    """Show the screen once."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what needs somebody; with `strict` that is a failure."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "register": {"type": "str", "required": True},
                "strict": {"type": "bool", "default": False},
            }
        )
        variables = task_vars or {}
        hosts = variables["ansible_play_hosts_all"]
        seen = {host: variables["hostvars"].raw_get(host).get(arguments["register"]) or {} for host in hosts}
        lines, needs = screen(seen)
        self._display.display("\n" + "\n".join(lines) + "\n")
        result |= {"changed": False, "needs": needs}
        if needs and arguments["strict"]:
            result |= {"failed": True, "msg": f"{len(needs)} things need you"}
        return result
