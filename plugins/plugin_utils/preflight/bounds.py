"""The bounds of options, from meta/bounds.yml of a role and the kinds that roles share."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.formats import TESTS
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.suggestions import suggest_name, suggest_type

# The kinds of values that several roles have.
KINDS = Path(__file__).resolve().with_name("kinds.yml")
KIND_KEYS = {"kind", "min", "max", "besides", "unit", "pattern", "longest", "test", "refuse", "choices"}
KIND_KEYS |= {"must", "fix", "reason", "least", "most", "unique", "keys", "values", "reserved", "secret"}
# What holds for a list or a dictionary as a whole; the rest holds for each element of a list.
WHOLE = {"least", "most", "unique"}


def is_secret(spec: Mapping[str, Any]) -> bool:
    """Tell whether an option is a secret or has one in it."""
    parts = spec.get("options") or {}
    return bool(spec.get("no_log")) or any(is_secret(part) for part in parts.values())


def resolve_bounds(bounds: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds with those of the kinds that they name; a text is the name of a kind."""
    own = {"kind": bounds} if isinstance(bounds, str) else dict(bounds)
    if unknown := own.keys() - KIND_KEYS:
        raise AnsibleActionFail(f"bounds have no key {', '.join(sorted(unknown))}; docs/bounds.md lists the keys")
    if (kind := own.pop("kind", None)) is not None:
        if kind not in kinds:
            raise AnsibleActionFail(f"there is no kind of values called {kind} in {KINDS}")
        general = resolve_bounds(kinds[kind], kinds)
        refuse = general.get("refuse", {}) | own.get("refuse", {})
        own = general | own | ({"refuse": refuse} if refuse else {})
    for part in ("keys", "values"):
        if part in own:
            own[part] = resolve_bounds(own[part], kinds)
    return own


def unshare(value: Any) -> Any:
    """Return a copy in which what stands in two places by an alias of YAML is two."""
    if isinstance(value, Mapping):
        return {name: unshare(part) for name, part in value.items()}
    return [unshare(part) for part in value] if isinstance(value, list) else value


def add_bounds(options: Mapping[str, Any], bounds: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with a key `bounds` each, from bounds by name; `a.b` is the sub-option b of a."""
    result: dict[str, Any] = unshare(options)
    for path, own in bounds.items():
        first, *below = path.split(".")
        try:
            spec = result[first]
            for name in below:
                spec = spec["options"][name]
        except KeyError as error:
            raise AnsibleActionFail(f"meta/bounds.yml has bounds of {path}, which is no option") from error
        spec["bounds"] = resolve_bounds(own, kinds)
    return result


@cache
def load_kinds() -> dict[str, Any]:
    """Return the kinds of values; read without Ansible, which is slower, as they hold no templates."""
    kinds: dict[str, Any] = yaml.load(KINDS.read_bytes(), Loader=yaml.CSafeLoader)
    return kinds


def read_options(role: Path, loader: DataLoader) -> dict[str, Any]:
    """Return the options of a role's specification, with their bounds."""
    path = role / "meta/argument_specs.yml"
    try:
        options = loader.load_from_file(str(path))["argument_specs"]["main"]["options"] or {}
    except (AnsibleError, KeyError, TypeError) as error:
        raise AnsibleActionFail(f"{path} has no options of 'main'") from error
    own = role / "meta/bounds.yml"
    bounds = (loader.load_from_file(str(own)) if own.exists() else None) or {}
    return add_bounds(options, bounds, load_kinds())


def judge_range(value: float, bounds: Mapping[str, Any]) -> str | None:
    """Return why a number is out of its bounds."""
    least, most = bounds.get("min"), bounds.get("max")
    inside = (least is None or value >= least) and (most is None or value <= most)
    if inside or value in bounds.get("besides", ()):
        return None
    unit = f" {bounds['unit']}" if "unit" in bounds else ""
    limits = f"{least}{unit} or more" if most is None else f"from {least} to {most}{unit}"
    reason = f" ({bounds['reason']})" if "reason" in bounds else ""
    return str(bounds.get("must") or f"must be {limits}{reason}")


def judge_bounds(value: Any, bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a number, a text or the length of a list is out of its bounds, and what to write."""
    fix = str(bounds.get("fix", ""))
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, list):
        return judge_list(value, bounds)
    if not isinstance(value, str | int | float):
        return None
    if {"min", "max"} & bounds.keys():
        if isinstance(value, str):
            return "must be a whole number, is text", suggest_type(value, "int")
        why = judge_range(value, bounds)
        return (why, fix) if why else None
    text = str(value)
    must = str(bounds.get("must", f"must match {bounds.get('pattern', '')}"))
    for pattern, why in (bounds.get("refuse") or {}).items():
        if re.search(pattern, text):
            return str(why), fix
    if len(text) > bounds.get("longest", 65536):
        return f"is longer than {bounds.get('longest', 65536)} characters", fix
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], text, re.DOTALL):
        return must, fix
    if "choices" in bounds and text not in map(str, bounds["choices"]):
        return must, suggest_name(text, map(str, bounds["choices"])) or fix
    if "test" in bounds and (said := TESTS[bounds["test"]](text)) is not True:
        return must, said or fix
    return None


def judge_list(value: list[Any], bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a list has too few or too many elements, or two that are the same."""
    fix = str(bounds.get("fix", ""))
    if len(value) < bounds.get("least", 0):
        return f"must have {bounds['least']} or more elements", fix
    if len(value) > bounds.get("most", 1000):
        return f"has {len(value)} elements; must have at most {bounds.get('most', 1000)}", fix
    if unique := bounds.get("unique"):
        keys = [item.get(unique) if isinstance(item, Mapping) else item for item in value]
        twice = sorted({str(key) for key in keys if key is not None and keys.count(key) > 1})
        if twice:
            return f"has two of one {unique if isinstance(unique, str) else 'value'}: {', '.join(twice)}", fix
    return None


def reserved_key(key: Any, bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a key of a dictionary belongs to the kit, and what to write in its place."""
    for pattern, instead in (bounds.get("reserved") or {}).items():
        if fnmatch.fnmatchcase(str(key).lower(), pattern.lower()):
            if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", instead):
                return f"is set by {instead}, and not here", f"take it out, and set {instead}"
            return f"is not for this variable: {instead}", "take it out"
    return None
