"""The bounds of options: each option of each role has them, and each value out of them is refused by its name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROLES, load_plugin, options_of

preflight = load_plugin("playbooks/plugins/action/preflight.py")
HINT = (
    "roles/{role}/meta/bounds.yml has no bounds for {path}. Add one line there, as docs/bounds.md describes:\n"
    "  {path}: {example}"
)
EXAMPLES = {
    "int": '{min: 1, max: 100, reason: "why there are limits"}   # or a kind: port, mebibytes, seconds, http_status',
    "str": "line   # free text of one line; or a kind: path, host, url; or {pattern: '...', must: must be ...}",
    "dict": "{keys: environment_name, values: line, reserved: {KEY: variable_that_does_it}}   # or a kind",
}


def every(options: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield options and sub-options by their path."""
    for name, spec in options.items():
        yield f"{prefix}{name}", spec
        yield from every(spec.get("options", {}), f"{prefix}{name}.")


def missing_bounds(spec: dict[str, Any]) -> str:
    """Return the type of the values for which an option needs bounds and has none."""
    bounds = spec.get("bounds") or {}
    kind = spec.get("elements", "raw") if spec.get("type") == "list" else spec.get("type", "str")
    if spec.get("choices") or kind == "bool" or (kind == "dict" and spec.get("options")):
        return ""
    if kind in ("int", "float"):
        return "" if {"min", "max"} <= bounds.keys() else "int"
    if kind == "dict":
        return "" if {"keys", "values"} & bounds.keys() else "dict"
    return "" if {"pattern", "test", "longest"} & bounds.keys() else "str"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_has_bounds(role: Path) -> None:
    """An option cannot be added without saying what its values may be."""
    missing = [
        HINT.format(role=role.name, path=path, example=EXAMPLES[kind])
        for path, spec in every(options_of(role))
        if (kind := missing_bounds(spec))
    ]
    assert not missing, "\n".join(["", *missing])


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_a_range_says_why(role: Path) -> None:
    for path, spec in every(options_of(role)):
        bounds = spec.get("bounds") or {}
        if "max" in bounds:
            assert bounds.get("reason") or bounds.get("must"), f"{path}: add `reason` or `must` to its range"
            assert bounds["min"] <= bounds["max"], path


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_defaults_are_within_their_bounds(role: Path) -> None:
    for path, spec in every(options_of(role)):
        default = spec.get("default")
        values = default if isinstance(default, list) else [default]
        if default in (None, "", [], {}) or "{{" in str(default):
            continue
        for value in values:
            assert preflight.judge_bounds(value, spec.get("bounds") or {}) is None, (path, value)
