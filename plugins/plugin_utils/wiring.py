"""The kit's wiring, playbooks/group_vars/all: what Ansible must be told to rank it right, and copies in inventories.

Before version 1.0.0 each inventory held a copy. A copy overrides the wiring of today with that of the day it was made,
so that a variable which came later is missing and one that has changed is stale.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
WIRING = ROOT / "playbooks/group_vars/all"
# Every value that a variable of the wiring has had while inventories held copies, as a digest.
SHIPPED = ROOT / "plugins/shipped_wiring.json"
# So many variables of the wiring with a shipped template make a copy; a few may be an operator's own choice.
COPY = 4
KEY = re.compile(r"""(?m)^[\s{,]*["']?([a-z]\w+)["']?\s*:""")
SECRET = re.compile(r"password|secret|token|passphrase|(^|_)key$|^vault_")
# What the wiring must rank below.
INVENTORY = ("all_inventory", "groups_inventory", "all_plugins_inventory", "groups_plugins_inventory")
SETTING = (
    "precedence = all_plugins_play, all_inventory, groups_inventory, all_plugins_inventory, groups_plugins_inventory, "
    "groups_plugins_play"
)


def settings_faults(setting: Callable[[str], tuple[Any, str]]) -> list[str]:
    """Return what in Ansible's settings hides the wiring or ranks it above the inventory.

    `setting` gives the value of a setting of Ansible by its name, and where it is from: `default`, a file, or
    `env: NAME`; it is `C.config.get_config_value_and_origin`.
    """
    faults = []
    order, origin = setting("VARIABLE_PRECEDENCE")
    missing = [name for name in INVENTORY if name not in order]
    if list(order[:1]) != ["all_plugins_play"] or missing:
        why = "would not read all of the inventory" if missing else "ranks the kit's wiring above the inventory"
        faults.append(f"precedence = {', '.join(order)} ({origin}) {why}; write {SETTING}")
    root, origin = setting("PLAYBOOK_VARS_ROOT")
    if root != "top":
        faults.append(f"playbook_vars_root = {root} ({origin}) hides the kit's wiring from the roles; remove it")
    plugins, origin = setting("VARIABLE_PLUGINS_ENABLED")
    if not {"host_group_vars", "ansible.builtin.host_group_vars"} & set(plugins):
        faults.append(
            f"vars_plugins_enabled = {', '.join(plugins)} ({origin}) reads no group_vars; add host_group_vars to it"
        )
    return [f"{fault}, or use the kit's ansible.cfg (ANSIBLE_CONFIG={ROOT / 'ansible.cfg'})" for fault in faults]


def digest(value: Any) -> str:
    """Return a short digest of a value."""
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:8]


@cache
def shipped() -> dict[str, frozenset[str]]:
    """Return the digests of all values that were shipped, by variable."""
    texts: Mapping[str, list[str]] = json.loads(SHIPPED.read_text(encoding="utf-8"))
    return {name: frozenset(digests) for name, digests in texts.items()}


@cache
def current() -> dict[str, Any]:
    """Return the wiring of today."""
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    files = [yaml.load(path.read_bytes(), Loader=loader) for path in sorted(WIRING.glob("*.yml"))]  # noqa: S506 (a safe loader)
    return {name: value for content in files for name, value in (content or {}).items()}


class Value(yaml.SafeLoader):
    """Reads what an operator wrote; a tag of Ansible's, as !vault, gives the text below it."""


Value.add_multi_constructor("!", lambda loader, suffix, node: f"!{suffix} {node.value}")


def value_of(node: yaml.Node) -> Any:
    """Return the value of a node."""
    loader = Value("")
    try:
        return loader.construct_document(node)
    except yaml.YAMLError:
        return None
    finally:
        loader.dispose()


def is_shipped(name: str, value: Any) -> bool:
    """Tell whether a variable has had a value in a version of the wiring, or has it today."""
    return digest(value) in shipped().get(name, ()) or (name in current() and current()[name] == value)


def mappings(node: yaml.Node) -> Iterator[yaml.MappingNode]:
    """Yield the mappings in a node: variables are at the top of a file of group_vars, and below `vars` in hosts.yml."""
    if isinstance(node, yaml.MappingNode):
        yield node
        for _, value in node.value:
            yield from mappings(value)


def files_of(sources: Sequence[str]) -> Iterator[Path]:
    """Yield the files of inventories that can hold variables, each once."""
    seen: set[str] = set()
    for source in sources:
        path = Path(source)
        if not path.exists():
            continue
        folder = path if path.is_dir() else path.parent
        found = sorted(folder.iterdir()) if path.is_dir() else [path]
        for kind in ("group_vars", "host_vars"):
            found += sorted(Path(place, name) for place, _, names in os.walk(folder / kind) for name in names)
        for file in found:
            if (
                file.suffix in (".yml", ".yaml", ".json", "")
                and file.is_file()
                and (real := os.path.realpath(file)) not in seen
            ):
                seen.add(real)
                yield file


def copied(text: str) -> list[tuple[int, str, Any]] | None:
    """Return the operator's own lines in a copy of the wiring as line, name and value; None where it is no copy."""
    known = shipped().keys()
    if sum(name in known for name in set(KEY.findall(text))) < COPY:
        return None
    try:
        root = yaml.compose(text, Loader=getattr(yaml, "CSafeLoader", yaml.SafeLoader))
    except (yaml.YAMLError, ValueError):
        return None  # Ansible says what is wrong with it
    for mapping in mappings(root):
        entries = [(key.start_mark.line + 1, str(key.value), value_of(value)) for key, value in mapping.value]
        same = [name for _, name, value in entries if "{{" in str(value) and is_shipped(name, value)]
        if len(same) >= COPY:
            return [(line, name, value) for line, name, value in entries if not is_shipped(name, value)]
    return None


def shown(name: str, value: Any) -> str:
    """Return a value for a message: on one line, and not that of a secret."""
    text = " ".join(value.split()) if isinstance(value, str) else json.dumps(value, default=str)
    if SECRET.search(name) and "{{" not in text:
        return "***"
    return text if len(text) <= 100 else f"{text[:97]}..."


def short(path: Path) -> str:
    """Return a path from the current directory, or the whole one where that is shorter."""
    return min(os.path.relpath(path), os.path.abspath(path), key=len)


@cache
def copy_faults(sources: tuple[str, ...]) -> list[tuple[str, str, str]]:
    """Return the copies of the wiring in inventories: a place, why it is refused, and what to do, in several lines.

    The callback whole_run and preflight ask for them in the same run: the files are read once.
    """
    faults = []
    for file in files_of(sources):
        try:
            text = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            continue
        own = copied(text)
        if own is None:
            continue
        place = short(file)
        why = "is a copy of the kit's wiring, and overrides the wiring of this version"
        beside = file.parent / "variables.yml"
        target = "another file" if beside == file else short(beside)
        lines = [f"  {place}:{line}: {name}: {shown(name, value)}" for line, name, value in own]
        fix = "\n".join([f"move these lines of your own to {target}, and delete the rest:", *lines])
        faults.append((place, why, fix if lines else "delete it; it holds no lines of your own"))
    return faults
