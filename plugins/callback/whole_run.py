"""Refuse to run a part of one of the project's playbooks, before its first task.

--tags, --skip-tags and --start-at-task leave tasks out wherever they are: preflight, the deploy lock and the health
checks too. A task of a playbook cannot prevent that, as it is left out itself. --limit is refused for playbooks with a
play on the control node, which --limit leaves out without a word. Playbooks of other projects are not looked at, unless
they import one of these.

Variables that belong to a playbook begin with slipway_, and its header lists them. Others with that prefix are refused.
The earlier names of variables and of playbooks work until the next major version, and are warned of.

An ansible-core that is not supported is refused, and one whose own support has ended is warned of, once in a run.

Settings of Ansible that rank the kit's wiring above the inventory are refused, and copies of it in an inventory.

An inventory whose structure is wrong is refused here too: Ansible reads much of it without an error and then finds no
host, so that no task could tell.
"""

from __future__ import annotations

import difflib
import os
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C
from ansible import context
from ansible.plugins.callback import CallbackBase
from ansible.release import __version__ as ansible_version
from packaging.specifiers import SpecifierSet
from packaging.version import Version

from ansible_collections.slipway.kit.plugins.plugin_utils import wiring

DOCUMENTATION = """
name: whole_run
type: aggregate
short_description: Refuse to run a part of one of the project's playbooks
description:
  - Refuses --tags, --skip-tags, --start-at-task, and --limit where it would leave out the control node.
  - Refuses extra-vars that no playbook of the run takes, and warns of deprecated names.
  - Refuses an unsupported ansible-core and an inventory with a wrong structure.
  - Refuses settings that rank the kit's wiring above the inventory, and a copy of the wiring in an inventory.
requirements: [enabling in ansible.cfg]
"""
PLAYBOOKS = Path(__file__).resolve().parents[2] / "playbooks"
SUPPORTED = PLAYBOOKS.parent / "meta/runtime.yml"
# The last series of ansible-core for a control node with Python 3.11, which gets no fixes since November 2026.
ENDED = "2.19"
# Molecule leaves these out of every run; no task has them.
MOLECULE_TAGS = {"molecule-idempotence-notest", "molecule-notest", "notest"}
PAGE = "docs/operating.md#using---tags"
ANSIBLE_PAGE = "docs/operating.md#the-control-node"
EXTRA_PAGE = "playbooks/README.md"
PREFIX = "slipway_"
# Until when deprecated names of playbooks and extra-vars work.
REMOVED_IN = "2.0.0"
WIRING_PAGE = "docs/upgrading.md#from-the-version-before-100"
INVENTORY_PAGE = "docs/operating.md#how-an-inventory-is-read"
GROUPS = ("database", "redis", "app", "worker", "edge")
PARTS = ("hosts", "children", "vars")
HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.:-]*(\[[A-Za-z0-9:]+\][A-Za-z0-9_.:-]*)*")

# Which playbook does what people ask for by a tag.
PLAYBOOKS_OF_TAGS = {
    "base.yml": "base hardening ssh sshd sudo users journald time timezone kernel",
    "database.yml": "database db postgres postgresql pgbouncer",
    "redis.yml": "redis broker cache queue",
    "edge.yml": "edge nginx tls ssl certificate certificates certbot acme web proxy vhost",
    "firewall.yml": "firewall nftables ports",
    "deploy.yml": (
        "app application code deploy release django django_app gunicorn celery worker workers beat processes services "
        "timers env environment static collectstatic migrate migrations"
    ),
    "rollback.yml": "rollback",
    "patch_hosts.yml": "patch update updates upgrade upgrades reboot restart",
    "secrets.yml": "secrets vault",
    "maintenance.yml": "maintenance",
    "preflight.yml": "preflight validate validation assert checks",
    "status.yml": "status health healthcheck",
}
FOR_TAGS = {
    tag: f"run playbooks/{playbook} without --tags"
    for playbook, tags in PLAYBOOKS_OF_TAGS.items()
    for tag in tags.split()
}
PARTS_ALONE = "base.yml, database.yml, redis.yml, edge.yml or deploy.yml"
FOR_TAGS |= dict.fromkeys(
    ("package", "packages", "apt", "install"),
    f"run the playbook of the part that needs them ({PARTS_ALONE}); playbooks/patch_hosts.yml installs updates",
)
FOR_TAGS |= dict.fromkeys(
    ("config", "configure", "configuration", "templates"),
    f"run the playbook of the part ({PARTS_ALONE}), which writes the files that differ; --check --diff shows them",
)
FOR_SKIPPED_TAGS = dict.fromkeys(
    ("migrate", "migrations"), """run playbooks/deploy.yml -e '{"django_app_migrate": false}'"""
)
FOR_SKIPPED_TAGS |= {
    "firewall": "set firewall_enabled: false in the inventory",
    "tls": "set tls_mode: 'off' in the inventory",
}


def ansible_fault(version: str, supported: str) -> str:
    """Return why a version of ansible-core is refused, or nothing."""
    if SpecifierSet(supported, prereleases=True).contains(version):
        return ""
    return (
        f"ansible-core {version} is refused: Slipway supports {supported}. "
        "Install the locked version with make bootstrap, and activate it with . .venv/bin/activate"
    )


def ansible_warning(version: str) -> str:
    """Return the warning of a version of ansible-core whose support has ended, or nothing."""
    if Version(version).release[:2] != Version(ENDED).release:
        return ""
    return (
        f"ansible-core {ENDED} is out of support since November 2026 and gets no more security fixes. "
        f"Use Python 3.12 or newer on the control node: make bootstrap PYTHON=python3.13. {ANSIBLE_PAGE} says more"
    )


def is_ours(path: str) -> bool:
    """Tell whether a file is one of the project's playbooks."""
    return Path(path).resolve().parent == PLAYBOOKS


def instead(tags: list[str], known: Mapping[str, str]) -> str:
    """Return, as sentences, what to run in place of --tags or --skip-tags."""
    sentences = []
    for tag in tags:
        meant = difflib.get_close_matches(tag.lower(), known, n=1, cutoff=0.8)
        if meant:
            guess = "" if tag == meant[0] else f" (did you mean {meant[0]}?)"
            sentences.append(f"For {tag}{guess}: {known[meant[0]]}. ")
    return "".join(sentences)


def successor(playbook: Path) -> str:
    """Return the new name of a playbook whose name is deprecated, or nothing."""
    named = re.match(r"---\n# Deprecated: use ([a-z_]+\.yml)", playbook.read_text(encoding="utf-8"))
    return named[1] if named else ""


def variables_of(playbook: Path) -> list[str]:
    """Return the variables that belong to a playbook, as its header lists them."""
    if new := successor(playbook):
        return variables_of(playbook.with_name(new))
    listed = re.search(r"^# Variables: ((?:.+\n)(?:# .+\n)*)", playbook.read_text(encoding="utf-8"), re.MULTILINE)
    return sorted(set(re.findall(rf"`({PREFIX}\w+)`", listed[1]))) if listed else []


def extra_faults(given: list[str], playbooks: list[Path]) -> list[str]:
    """Return what is wrong with the names of extra-vars, a sentence each; playbooks are those of the command line."""
    takers: dict[str, list[str]] = {}
    for path in sorted(PLAYBOOKS.glob("[a-z]*.yml")):
        for name in variables_of(path) if not successor(path) else ():
            takers.setdefault(name, []).append(path.name)
    taken = sorted({name for path in playbooks for name in variables_of(path)})
    run = ", ".join(path.name for path in playbooks)
    faults = []
    for name in given:
        if name in takers:
            if name not in taken:
                faults.append(f"{name} is no variable of {run}, but of {', '.join(takers[name])}")
        elif name.startswith(PREFIX):
            meant = near(name, tuple(taken)) or near(name, tuple(takers))
            faults.append(f"{name} is no variable of a playbook{meant}")
        elif PREFIX + name not in taken:
            # A bare name may be the operator's own: only one that is close to a variable of the playbook is refused.
            bare = {known.removeprefix(PREFIX): known for known in taken}
            close = difflib.get_close_matches(name, bare, n=1, cutoff=0.75)
            meant = f"; did you mean {bare[close[0]]}?" if close else near(name, tuple(taken), 0.85)
            faults += [f"{name} is no variable of {run}{meant}"] if meant else []
    return faults


def renamed(given: list[str], playbooks: list[Path]) -> dict[str, str]:
    """Return the extra-vars that are given by their deprecated names, with the new names."""
    taken = {name for path in playbooks for name in variables_of(path)}
    return {name: PREFIX + name for name in given if PREFIX + name in taken and PREFIX + name not in given}


def refusal(options: Mapping[str, Any], playbook: str, plays: list[tuple[str, str]]) -> str:
    """Return why a run is refused, or nothing; plays are pairs of a file and a pattern of hosts."""
    own = is_ours(playbook)
    name = Path(playbook).name
    tags = [tag for tag in options.get("tags") or () if tag != "all"]
    skipped = [tag for tag in options.get("skip_tags") or () if tag not in MOLECULE_TAGS]
    start = options.get("start_at_task")
    limit = options.get("subset")
    imported = any(is_ours(file) for file, _ in plays)
    if start is not None and (own or imported):
        return (
            f"--start-at-task is refused: {name} would start without preflight and without the deploy lock. "
            "Run it whole; what is done already stays as it is and takes little time"
        )
    if own and (tags or skipped):
        option = f"--tags {','.join(tags)}" if tags else f"--skip-tags {','.join(skipped)}"
        return (
            f"{option} is refused: {name} has no tags, as a part of it would leave out preflight, the deploy lock "
            f"or the health checks. {instead(tags, FOR_TAGS)}{instead(skipped, FOR_SKIPPED_TAGS)}"
            "Run it whole, or a smaller playbook"
        )
    control = [pattern for file, pattern in plays if is_ours(file) and pattern == "localhost"]
    if own and limit and control and "localhost" not in str(limit):
        return (
            f"--limit {limit} is refused: {name} also has work on the control node, which --limit leaves out. "
            "Run it without --limit"
        )
    return ""


def files_of(source: str) -> list[Path]:
    """Return the YAML files of an inventory that name hosts; none of an inventory that is no file."""
    path = Path(source)
    files = sorted(path.iterdir()) if path.is_dir() else [path]
    return [file for file in files if file.is_file() and file.suffix in (".yml", ".yaml")]


def near(name: str, known: tuple[str, ...], cutoff: float = 0.75) -> str:
    """Return a question for the known name that was probably meant."""
    return "".join(f"; did you mean {one}?" for one in difflib.get_close_matches(name, known, n=1, cutoff=cutoff))


def entries(node: yaml.MappingNode) -> list[tuple[yaml.Node, yaml.Node]]:
    """Return the keys and values of a mapping, with those that merge keys (<<) bring in."""
    yaml.constructor.SafeConstructor().flatten_mapping(node)
    return list(node.value)


def structure_faults(text: str) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with the structure of an inventory in YAML, as line and text."""
    root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    if root is None:
        yield 1, "is empty; it needs groups with hosts, as app: {hosts: {app1: {ansible_host: 10.0.0.5}}}"
    elif not isinstance(root, yaml.MappingNode):
        yield (
            root.start_mark.line + 1,
            "must be a dictionary of groups, as app: {hosts: {app1: {ansible_host: 10.0.0.5}}}",
        )
    elif "plugin" not in [key.value for key, _ in entries(root)]:
        for key, value in entries(root):
            yield from group_faults(key, value)


def group_faults(key: yaml.Node, value: yaml.Node) -> Iterator[tuple[int, str]]:
    """Yield what is wrong with a group."""
    name, line = str(key.value), key.start_mark.line + 1
    if not re.fullmatch(r"[A-Za-z_]\w*", name):
        yield (
            line,
            f"the group {name} must have a name of letters, digits and _; write {re.sub(r'[^A-Za-z0-9_]', '_', name)}",
        )
    if isinstance(value, yaml.ScalarNode) and value.value in ("", "null", "~"):
        return
    if not isinstance(value, yaml.MappingNode):
        kind = "a list" if isinstance(value, yaml.SequenceNode) else "text"
        yield line, f"the group {name} is {kind}, must be a dictionary; write {name}: {{hosts: {{app1: null}}}}"
        return
    for part, below in entries(value):
        own, at = str(part.value), part.start_mark.line + 1
        if own not in PARTS:
            yield at, f"the group {name} has the key {own}; known are {', '.join(PARTS)}{near(own, PARTS)}"
        elif isinstance(below, yaml.MappingNode):
            for item, more in entries(below):
                if own == "hosts" and not HOST.fullmatch(str(item.value)):
                    yield (
                        item.start_mark.line + 1,
                        f"{item.value!r} is no name of a host: letters, digits and _ . - alone",
                    )
                if own == "children":
                    yield from group_faults(item, more)
        elif not (isinstance(below, yaml.ScalarNode) and below.value in ("", "null", "~")):
            yield at, f"{own} of the group {name} must be a dictionary, as {own}: {{name: value}}, and no list or text"


def inventory_faults(sources: list[str], hosts: Mapping[str, list[str]], wanted: bool) -> list[str]:
    """Return what is wrong with the structure of the inventories, a line each.

    Of what Ansible has read: the hosts of each group; and whether a playbook needs hosts in the groups of a site.
    """
    faults = []
    for file in (file for source in sources if os.path.exists(source) for file in files_of(source)):
        try:
            found = list(structure_faults(file.read_text(encoding="utf-8")))
        except (yaml.YAMLError, UnicodeDecodeError, ValueError):
            continue  # a vault; all else Ansible has refused
        faults += [f"{os.path.relpath(file)}:{line}: {why}" for line, why in found]
    for name in sorted(hosts.keys() - {"all", "ungrouped", *GROUPS}):
        meant = difflib.get_close_matches(name, GROUPS, n=1, cutoff=0.8)
        if meant and hosts[name] and not hosts.get(meant[0]):
            other = meant[0]
            faults.append(f"no playbook knows the group {name}, and {other} has no hosts; did you mean {other}?")
        if any(name in members for members in hosts.values()):
            faults.append(f"{name} is a group and a host; give one of them another name")
    for name in GROUPS:
        if any(name in members for members in hosts.values()):
            faults.append(f"{name} is a group and a host; give the host another name")
    if wanted and not faults and not any(hosts.get(name) for name in GROUPS):
        every = ", ".join(GROUPS)
        faults.append(f"no host is in one of the groups {every}: there is nothing to do; name them below a group")
    return faults


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ends a run that is refused."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "whole_run"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """End the run with an error when a part of a playbook is asked for, or the inventory names hosts wrongly."""
        plays = []
        for play in playbook.get_plays():
            hosts = play.hosts if isinstance(play.hosts, str) else ",".join(map(str, play.hosts or ()))
            plays.append((play.get_path().rpartition(":")[0], hosts))
        ours = [pattern for file, pattern in plays if is_ours(file)]
        if ours:
            self._check_ansible()
        # After the check: an unsupported ansible-core may lack what this file imports.
        from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import inventory_of, playbook_path

        if why := refusal(context.CLIARGS, playbook_path(playbook), plays):
            self._refuse(f"{why}.", PAGE)
        if not ours:
            return
        self._check_names(playbook, Path(playbook_path(playbook)).resolve())
        if found := wiring.settings_faults(C.config.get_config_value_and_origin):
            self._refuse("The settings of Ansible are refused:\n  " + "\n  ".join(found) + "\n ", INVENTORY_PAGE)
        inventory = inventory_of(playbook.get_plays()[0].get_variable_manager())
        hosts = {name: [host.name for host in group.get_hosts()] for name, group in inventory.groups.items()}
        wanted = any(re.search(rf"\b({'|'.join(GROUPS)})\b", pattern) for pattern in ours)
        sources = [source for source in context.CLIARGS.get("inventory") or () if isinstance(source, str)]
        if copies := wiring.copy_faults(tuple(sources)):
            text = "\n".join(f"{place}: {why}; {fix}" for place, why, fix in copies).replace("\n", "\n  ")
            self._refuse(f"The inventory is refused:\n  {text}\n ", WIRING_PAGE)
        if faults := inventory_faults(sources, hosts, wanted):
            self._refuse("The inventory is refused:\n  " + "\n  ".join(faults) + "\n ", INVENTORY_PAGE)

    def _check_ansible(self) -> None:
        """Refuse an unsupported ansible-core, and warn of one whose support has ended."""
        supported = yaml.safe_load(SUPPORTED.read_text(encoding="utf-8"))["requires_ansible"]
        if why := ansible_fault(ansible_version, supported):
            self._refuse(f"{why}.", ANSIBLE_PAGE)
        if warning := ansible_warning(ansible_version):
            self._display.warning(f"{warning}.")

    def _check_names(self, playbook: Any, own: Path) -> None:
        """Refuse extra-vars that no playbook takes; pass on those with deprecated names by their new ones."""
        if not is_ours(str(own)):
            return
        if new := successor(own):
            self._deprecate(f"playbooks/{own.name} is now playbooks/{new}; run that one.")
        playbooks = [Path(path).resolve() for path in context.CLIARGS.get("args") or () if is_ours(path)]
        playbooks = playbooks or [own]
        extra = playbook.get_plays()[0].get_variable_manager().extra_vars
        if faults := extra_faults(list(extra), playbooks):
            self._refuse("The extra-vars are refused:\n  " + "\n  ".join(faults) + "\n ", EXTRA_PAGE)
        for old, name in renamed(list(extra), playbooks).items():
            self._deprecate(f"The extra-var {old} is now {name}.")
            extra[name] = extra[old]

    def _deprecate(self, what: str) -> None:
        """Warn of a deprecated name."""
        self._display.deprecated(what, version=REMOVED_IN, collection_name="slipway.kit")

    def _refuse(self, why: str, page: str) -> None:
        """End the run; an exception would be taken for a mistake of this plugin, and the run would go on."""
        self._display.error(f"{why} Nothing was changed on any host. {page} says more.", wrap_text=False)
        sys.exit(1)
