"""Hold the inventory as a whole to what can work: what no role can see of its own variables.

    slipway.kit.preflight_inventory:

It runs once for all hosts, opens no connection, and adds to preflight's faults:

- options of the wiring (topology_*, ansible_port and others) out of the bounds of topology_options.yml;
- two hosts of one address, or two names of one host; clocks that differ; ports that something else holds;
- secrets that stand in a file of the inventory as plain text, where topology_plain_secrets says `refuse`;
- another site than the one that is recorded on a host: its application, database, vault, or a group that is empty now;
- what YAML reads otherwise than it looks: keys that stand twice, 0755, 1e3, 12:30, and keys like on and no;
- collections that are missing, and settings of Ansible that rank the wiring above the inventory;
- a copy of the wiring.
"""

from __future__ import annotations

import importlib.util
import os
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path
from statistics import median
from typing import Any

import yaml
from ansible import constants as C
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.utils.display import Display

from ansible_collections.slipway.kit.plugins.plugin_utils import wiring as kit_wiring
from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import IGNORED, Origin
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.reading import ROLES, Reader, ports_of
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.bounds import load_kinds, resolve_bounds, unshare
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import Fault, keep, origin, place
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.hosts import Hosts, find_role
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.suggestions import suggest_name
from ansible_collections.slipway.kit.plugins.plugin_utils.version import is_newer, kit_version

# What an inventory may set of the wiring.
OPTIONS = Path(__file__).resolve().parents[1] / "plugin_utils/preflight/topology_options.yml"
WIRING = Path(__file__).resolve().parents[2] / "playbooks/group_vars/all"
COLLECTIONS = ("ansible.posix", "community.general", "community.postgresql")
SKEW_SECONDS = 30
# By the first word of a service's name: whose processes hold its port.
HOLDERS = {
    "PostgreSQL": ("postgres",),
    "Redis": ("redis-server",),
    "gunicorn": ("systemd", "gunicorn", "python"),
    "Nginx": ("nginx",),
    "PgBouncer": ("pgbouncer",),
}
# What Ansible sets on its own, whatever an inventory says.
MAGIC = {"ansible_facts", "group_names", "groups", "hostvars", "inventory_dir", "inventory_file", "inventory_hostname"}
MAGIC |= {"inventory_hostname_short", "omit", "playbook_dir", "role_name", "role_path"}
SECRET_NAME = re.compile(r"(^|_)(PASSWORD|SECRET|SECRET_KEY|TOKEN|PASSPHRASE)$")
NUMBER = re.compile(r"[-+]?\d+(\.\d*)?[eE][-+]?\d+")
MERGE = "tag:yaml.org,2002:merge"
Fault = Fault
MISSING_FACT = re.compile(r"has no attribute|is not defined|cannot be resolved")
# A fault, and the host that has it.
Found = Iterator[tuple[str, Any]]


def yaml_traps(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield what YAML reads otherwise than it looks, as line, name, why and what to write."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    for document in yaml.compose_all(text.encode(), Loader=loader):
        if document is not None:
            yield from node_traps(document, "")


def name_traps(text: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield the names in a file of group_vars or host_vars that no template can use, as line, name, why and fix."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    root = yaml.compose(text.encode(), Loader=loader)
    if not isinstance(root, yaml.MappingNode):
        return
    yaml.constructor.SafeConstructor().flatten_mapping(root)  # with what merge keys (<<) bring in
    for key, _ in root.value:
        name, line = str(key.value), key.start_mark.line + 1
        if name in MAGIC:
            yield (
                line,
                name,
                "is a name that Ansible itself sets, so what is written here is never read",
                "take another name",
            )
        elif not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
            meant = re.sub(r"\W", "_", name, flags=re.ASCII)
            fix = f"write {meant if not meant[:1].isdigit() else f'_{meant}'}"
            yield line, name, "is no name of a variable: letters, digits and _, beginning with a letter", fix


def node_traps(node: yaml.Node, name: str) -> Iterator[tuple[int, str, str, str]]:
    """Yield the traps in a node and in what is below it."""
    line = node.start_mark.line + 1
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, value in node.value:
            own = str(key.value)
            at = key.start_mark.line + 1
            if own in lines and key.tag != MERGE:
                yield at, own, f"stands in line {lines[own]} already; YAML takes the last, and forgets the first", ""
            lines[own] = at
            if key.tag.rpartition(":")[2] == "bool":
                yield (
                    at,
                    own,
                    f"is a key that YAML reads as {own.lower() in ('yes', 'on', 'true', 'y')}",
                    f'write "{own}"',
                )
            yield from node_traps(value, own)
    elif isinstance(node, yaml.SequenceNode):
        for part in node.value:
            yield from node_traps(part, name)
    elif isinstance(node, yaml.ScalarNode) and not node.style:
        text, kind = str(node.value), node.tag.rpartition(":")[2]
        if kind == "int" and re.fullmatch(r"[-+]?0[0-7_]+", text):
            yield (
                line,
                name,
                f"{text} is octal for YAML, which reads {int(text.replace('_', ''), 8)}",
                f'write "{text}"',
            )
        elif kind in ("int", "float") and ":" in text:
            yield line, name, f"{text} counts in sixties for YAML, which reads another number", f'write "{text}"'
        elif kind == "str" and NUMBER.fullmatch(text):
            yield line, name, f"{text} is text for YAML, not a number", f"write {float(text):.12g}"


def folder_of(source: str) -> Path:
    """Return the folder with the group_vars and host_vars of an inventory: itself, or the one that its file is in."""
    path = Path(source)
    return path if path.is_dir() else path.parent


def files_of(sources: list[str]) -> list[Path]:
    """Return the files of inventories that are YAML: the hosts, and what is in group_vars and host_vars."""
    found: dict[Path, None] = {}
    for source in sources:
        folder = folder_of(source)
        members = (path for path in folder.iterdir() if path.is_file() and not IGNORED.search(os.fsencode(path.name)))
        hosts = list(members) if folder == Path(source) else [Path(source)]
        below = [
            Path(place, name)
            for kind in ("group_vars", "host_vars")
            for place, _, names in os.walk(folder / kind)
            for name in names
        ]
        for path in sorted(hosts) + sorted(below):
            if path.suffix in (".yml", ".yaml", ".json") and path.is_file():
                found[path] = None
    return list(found)


def is_encrypted(path: str) -> bool:
    """Tell whether a file is a vault; one that cannot be read is none."""
    try:
        with open(path, "rb") as file:
            return file.read(14) == b"$ANSIBLE_VAULT"
    except OSError:
        return False


def address_faults(addresses: Mapping[str, str]) -> Found:
    """Yield the hosts that have one address."""
    for address, count in Counter(addresses.values()).items():
        if count > 1:
            names = [name for name, own in addresses.items() if own == address]
            why = f"{address} is the address of {' and of '.join(names)}"
            for name in names:
                yield name, Fault("ansible_host", why, fix="give each host its own, or be one host in several groups")


def wiring_faults(
    variables: Mapping[str, Any],
    options: Mapping[str, Any],
    known: frozenset[str],
    loader: DataLoader,
    outcomes: Any,
) -> Iterator[Any]:
    """Yield what is wrong with the options of the wiring on a host, and names like them that nothing reads."""
    own = {name: spec for name, spec in options.items() if name in variables}
    # What is read from a host that is not asked is not there, and told elsewhere.
    inspector = Inspector("topology", [], own, variables, Templar(loader, dict(variables)), outcomes)
    inspector.inspect_options()
    yield from (fault for fault in inspector.faults if not MISSING_FACT.search(fault.why))
    for name in variables:
        if isinstance(name, str) and name.startswith("topology_") and known and name not in known:
            fix = suggest_name(name, known)
            yield Fault(name, "is not a variable of the wiring", fix=fix, where=origin(name))


def beat_faults(workers: Mapping[str, tuple[bool, bool, list[str]]]) -> Found:
    """Yield the hosts whose beat sends tasks that no worker of the site takes.

    By worker host: whether it runs beat, whether it runs workers, and all worker hosts of its site.
    """
    for name, (beat, own, site) in workers.items():
        if beat and not own and not any(workers[other][1] for other in site if other in workers):
            why = "is empty on all hosts of the group worker, and celery_beat sends tasks that nobody takes"
            fix = "name a worker, or write celery_beat: false too for a site without Celery (docs/own-app.md)"
            yield name, Fault("celery_workers", why, "[]", fix)


def machine_faults(facts: Mapping[str, Mapping[str, Any]], told: set[str]) -> Found:
    """Yield the hosts that are one machine, but for those that are `told` already."""
    machines = {name: found["preflight_machine"] for name, found in facts.items() if found.get("preflight_machine")}
    for name, own in machines.items():
        names = [other for other, one in machines.items() if one == own]
        if len(names) > 1 and name not in told:
            why = f"{' and '.join(names)} are names of one host, by several addresses"
            yield name, Fault("ansible_host", why, fix="name it once, in all groups that it shall be in")


def misspelt(name: str, known: Iterable[str]) -> str:
    """Return the question whether another name was meant; nothing for one that only has another number, as app2."""
    shape, numbers = re.sub(r"\d+", "0", name), list(map(int, re.findall(r"[0-9]+", name)))
    siblings = {one for one in known if re.sub(r"\d+", "0", one) == shape}
    others = [one for one in siblings if list(map(int, re.findall(r"[0-9]+", one))) != numbers]
    return suggest_name(name, set(known) - set(others), cutoff=0.8)


def is_in_inventory(name: str, folder: Path) -> bool:
    """Tell whether a file of hosts in a directory has a name as a group or host, be it in a comment."""
    word = re.escape(name)
    pattern = rf"""(?m)(^[\s#]*|[{{,]\s*)["']?{word}["']?(?=\s*:|\s*$|\s+\w+=)|\[{word}[:\]]"""
    files = [path for path in folder.iterdir() if path.suffix in ("", ".yml", ".yaml", ".json", ".ini")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files if path.is_file())
    return any(re.search(pattern, text) for text in texts)


def unread_faults(sources: list[str], groups: Iterable[str], hosts: Iterable[str]) -> Iterator[Any]:
    """Yield the files below group_vars and host_vars whose name is probably a misspelt one of a group or a host.

    Others that no group or host of the inventory reads are warned of: they are of another inventory in the directory,
    of a host that is removed or commented out, or an example.
    """
    for kind, known in (("group_vars", {*groups, "all", "ungrouped"}), ("host_vars", {*hosts, "localhost"})):
        for folder in {folder_of(source) / kind for source in sources if os.path.exists(source)}:
            paths = sorted(folder.iterdir()) if folder.is_dir() else []
            names = {
                path: path.name if path.is_dir() else path.stem
                for path in paths
                if path.is_dir() or path.suffix in (".yml", ".yaml", ".json")
            }
            for path, name in names.items():
                if name in known:
                    continue
                why = f"is of no {kind.removesuffix('_vars')} of the inventory, so nothing in it is read"
                # Hosts have names like each other's: one with a file of its own does not lack another.
                fix = misspelt(name, known - set(names.values()) if kind == "host_vars" else known)
                if fix and not is_in_inventory(name, folder.parent):
                    yield Fault(f"{kind}/{path.name}", why, fix=fix, where=place(str(path), 1))
                else:
                    Display().warning(f"{place(str(path), 1)}: {why}")


def clock_faults(facts: Mapping[str, Mapping[str, Any]]) -> Found:
    """Yield the hosts whose clock differs from most others'; how long the question took is granted."""
    offsets = {
        name: (found["preflight_clock_offset"], found["preflight_clock_error"])
        for name, found in facts.items()
        if "preflight_clock_offset" in found
    }
    if len(offsets) < 2:
        return
    usual = median(offset for offset, _ in offsets.values())
    spread = max(offset for offset, _ in offsets.values()) - min(offset for offset, _ in offsets.values())
    for name, (offset, error) in offsets.items():
        # Of two hosts nobody knows which is right: both are told.
        if abs(offset - usual) - error > SKEW_SECONDS or (len(offsets) == 2 and spread - 2 * error > SKEW_SECONDS):
            other = max(offsets, key=lambda one: abs(offsets[one][0] - offset))
            now = datetime.now(UTC).timestamp()
            here, there = (
                datetime.fromtimestamp(now + seconds, UTC).strftime("%Y-%m-%d %H:%M:%S")
                for seconds in (offset, offsets[other][0])
            )
            why = f"its clock says {here} UTC when that of {other} says {there}; more than {SKEW_SECONDS} s apart"
            yield name, Fault("", why, fix="let a time service run there, as systemd-timesyncd")


def port_faults(name: str, ports: Mapping[str, int], listening: Mapping[str, list[str]]) -> Found:
    """Yield the ports of a host's services that something else holds."""
    for service, port in ports.items():
        holders = HOLDERS.get(service.split()[0], ())
        foreign = [one for one in listening.get(str(port), []) if not one.startswith(holders)]
        if foreign:
            why = f"port {port}, which {service} needs, is held by {', '.join(foreign)}"
            yield name, Fault("", why, fix="stop it, or give the service another port")


def site_faults(record: Mapping[str, Any], wanted: Mapping[str, Any], groups: list[str]) -> Iterator[Any]:
    """Yield what of a site that lives on a host is another in the inventory; `groups` are those that have hosts."""
    go_on = "or, to give up what is on this host, add -e '{\"base_site_change\": true}'"
    if error := record.get("error"):
        yield Fault("", str(error), fix=f"remove the file if you know that the host is this site's, {go_on}")
        return
    was, now = record.get("application", ""), wanted.get("application", "")
    if was and was != now:
        why = f"this host belongs to the site of the application {was}; {now} would be begun beside it"
        yield Fault("django_app_name", why, now, f"write {was} again, name another host, {go_on}")
        return
    was, now = record.get("vault", ""), wanted.get("vault", "")
    if was and was != now:
        why = "the vault is not the one that this host was set up with: the site would get other passwords and keys"
        fix = f"bring group_vars/all/vault.yml back from your own copy (rotate_secrets.yml changes secrets), {go_on}"
        yield Fault("vault_site_id", why, fix=fix)
    was, now = record.get("database", ""), wanted.get("database", "")
    if was and was != now and "database" in groups:
        why = f"the data of this site is in the database {was}; another one would be begun, empty"
        yield Fault("postgresql_database", why, str(now), f"write {was} again, {go_on}")
    for group in record.get("groups", []):
        if group not in groups:
            why = f"the group {group} has no host any more, and this host goes on with what it was set up for in it"
            fix = f"name a host in it (docs/scaling.md says how a host leaves a group), {go_on}"
            yield Fault("", why, fix=fix)


def version_faults(record: Mapping[str, Any], version: str) -> Iterator[Any]:
    """Yield the fault of a host that a newer version than this one has set up."""
    if is_newer(str(record.get("version", "")), version):
        why = f"Slipway {record['version']} has set up this host, and this is the older version {version}"
        fix = (
            f"update this checkout to {record['version']} (docs/upgrading.md), or, to go back to the older version, add"
            " -e '{\"base_allow_downgrade\": true}'"
        )
        yield Fault("", why, fix=fix)


def collection_faults(collections: tuple[str, ...]) -> Iterator[Any]:
    """Yield the collections that are missing on the control node."""
    for collection in collections:
        try:
            known = importlib.util.find_spec(f"ansible_collections.{collection}") is not None
        except ModuleNotFoundError:
            known = False
        if not known:
            yield Fault("", f"the collection {collection} is missing", fix="make bootstrap, and . .venv/bin/activate")


def copy_faults(sources: list[str]) -> Iterator[Any]:
    """Yield copies of the wiring, and settings that rank it wrong: the callback whole_run may be disabled."""
    for why in kit_wiring.settings_faults(C.config.get_config_value_and_origin):
        yield Fault("", why)
    for where, why, fix in kit_wiring.copy_faults(tuple(sources)):
        yield Fault("", why, fix=f"{' '.join(fix.split())} (docs/upgrading.md)", where=where)


class ActionModule(ActionBase):
    """Look at the inventory as a whole."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the faults so far, with those of the inventory, as a fact."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        self.validate_argument_spec(argument_spec={})
        hosts = Hosts(variables, self._loader)
        names = variables["ansible_play_hosts_all"]
        facts = {name: hosts.known_facts(name) for name in names}
        outcomes = Outcomes()
        addresses: dict[str, str] = {}
        faults: list[tuple[str, Any]] = []
        sources = variables.get("ansible_inventory_sources", [])
        options, known = self._wiring()
        wiring = Outcomes()  # of its own: what it keeps by a name is faults, and not a value
        workers: dict[str, tuple[bool, bool, list[str]]] = {}
        folders = tuple(f"{os.path.realpath(folder_of(source))}/" for source in sources if os.path.exists(source))
        for name in names:
            own = hosts.variables(name)
            read = Reader(own, Templar(self._loader, own), outcomes)
            roles = [find_role(self, ROLES[kind]) for kind in read("topology_kinds", [])]
            own = hosts.variables(name, *roles)
            read = Reader(own, Templar(self._loader, own), outcomes)
            faults += [(name, fault) for fault in wiring_faults(own, options, known, self._loader, wiring)]
            if "worker" in read("topology_kinds", []):
                has_workers = bool(read("celery_workers", [{}]))
                workers[name] = read("celery_beat", False), has_workers, read("topology_worker_hosts", [])
            if address := read("topology_address", ""):
                addresses[name] = address
            record = facts[name].get("preflight_site", {})
            if record and not read("base_site_change", False) and (wanted := read("base_site", {})):
                faults += [(name, fault) for fault in site_faults(record, wanted, read("base_groups", []))]
            if not read("base_allow_downgrade", False):
                faults += [(name, fault) for fault in version_faults(record, kit_version())]
            ports = ports_of(read, read("topology_kinds", []))
            faults += port_faults(name, ports, facts[name].get("preflight_ports", {}))
            faults += [(name, fault) for fault in self._plain_secrets(hosts.raw(name), read, folders)]
        same = list(address_faults(addresses))
        faults += [*same, *machine_faults(facts, {name for name, _ in same})]
        faults += beat_faults(workers)
        faults += clock_faults(facts)
        everybody = [
            *unread_faults(sources, variables.get("groups", {}), variables.get("groups", {}).get("all", ())),
            *self._traps(sources),
            *collection_faults(COLLECTIONS),
            *copy_faults(sources),
        ]
        faults += [("", fault) for fault in everybody]
        return result | {"changed": False, "faults": len(faults)} | keep(variables, "inventory", faults)

    def _wiring(self) -> tuple[dict[str, Any], frozenset[str]]:
        """Return the options of the wiring with their bounds, and all names that it has."""
        kinds = load_kinds()
        options = unshare(self._loader.load_from_file(str(OPTIONS))["options"])
        for spec in options.values():
            if "bounds" in spec:
                spec["bounds"] = resolve_bounds(spec["bounds"], kinds)
        wiring = [name for path in WIRING.glob("*.yml") for name in self._loader.load_from_file(str(path)) or ()]
        return options, frozenset({*options, *wiring} if wiring else ())

    def _traps(self, sources: list[str]) -> Iterator[Any]:
        for path in files_of(sources):
            try:
                text = self._loader.get_text_file_contents(str(path))
                below = {"group_vars", "host_vars"} & set(path.parts)
                for line, name, why, fix in (*yaml_traps(text), *(name_traps(text) if below else ())):
                    yield Fault(name, why, fix=fix, where=place(str(path), line))
            except (AnsibleError, yaml.YAMLError):
                continue  # Ansible reads the file too, and says what is wrong with it

    def _plain_secrets(self, variables: Mapping[str, Any], read: Any, folders: tuple[str, ...]) -> Iterator[Any]:
        """Yield the secrets that a file in the folders of the inventory has as plain text."""
        policy = read("topology_plain_secrets", "refuse")
        if policy == "allow":
            return
        environment = variables.get("django_app_environment")
        inside = {
            f"django_app_environment.{name}": value
            for name, value in (environment.items() if isinstance(environment, Mapping) else ())
            if isinstance(name, str) and SECRET_NAME.search(name)
        }
        secret = self._secret_names()
        own = {name: value for name, value in variables.items() if str(name).startswith("vault_") or name in secret}
        for name, value in {**own, **inside}.items():
            tag = Origin.get_tag(value)
            if not isinstance(value, str) or not value.strip() or "{{" in value or tag is None or not tag.path:
                continue
            # What is given with -e is somebody's own file, and gone when the run is.
            if not os.path.realpath(tag.path).startswith(folders) or is_encrypted(tag.path):
                continue
            fault = Fault(
                name,
                "is a secret, and stands there as plain text",
                fix="encrypt the file with ansible-vault, or set topology_plain_secrets: warn",
                where=origin(value),
            )
            if policy == "warn":
                Display().warning(f"{fault.where}: {name} {fault.why}")
            else:
                yield fault

    def _secret_names(self) -> set[str]:
        """Return the options of all roles that are secrets."""
        if not hasattr(self, "_secrets"):
            self._secrets: set[str] = set()
            for path in find_role(self, "base").parent.glob("*/meta/argument_specs.yml"):
                specification = self._loader.load_from_file(str(path))
                options = specification["argument_specs"]["main"].get("options") or {}
                self._secrets |= {name for name, spec in options.items() if spec.get("no_log")}
        return self._secrets
