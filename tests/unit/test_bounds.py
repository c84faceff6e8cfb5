"""The bounds of options: each option of each role has them, and each value out of them is refused by its name."""

from __future__ import annotations

import re
import zoneinfo
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from bad_values import BAD, BAD_WIRING, GOOD
from conftest import ROLES, ROOT, load_yaml, options_of
from conftest import wiring as wiring_of_the_kit
from test_preflight import root_of, trusted

from ansible_collections.slipway.kit.plugins.action import preflight_inventory as inventory
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.bounds import (
    KINDS,
    judge_bounds,
    reserved_key,
    resolve_bounds,
    unshare,
)
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.formats import ZONE_SPELLINGS, is_time_zone
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes

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
    return "" if {"pattern", "test", "longest", "choices"} & bounds.keys() else "str"


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_has_bounds(role: Path) -> None:
    """An option cannot be added without saying what its values may be."""
    missing = [
        HINT.format(role=role.name, path=path, example=EXAMPLES[kind])
        for path, spec in every(options_of(role))
        if (kind := missing_bounds(spec))
    ]
    assert not missing, "\n".join(["", *missing])


def test_every_kind_is_used() -> None:
    bounds = [KINDS.with_name("topology_options.yml"), KINDS, *ROOT.glob("roles/*/meta/bounds.yml")]
    text = "\n".join(Path(path).read_text(encoding="utf-8") for path in bounds)
    used = set(re.findall(r": ([a-z_]+)", text))
    assert not load_yaml(KINDS).keys() - used


@pytest.mark.parametrize(
    ("name", "taken"),
    [
        *((name, True) for name in ("ExecStart", "ExecStartPre", "ExecStopPost", "ExecReload", "ExecReloadPost")),
        *((name, True) for name in ("ExecCondition", "ExecSearchPath")),
        *((name, False) for name in ("ExecPaths", "NoExecPaths")),
    ],
)
def test_settings_of_the_sandbox_are_free(name: str, taken: bool) -> None:
    bounds = resolve_bounds("unit_settings", load_yaml(KINDS))
    assert bool(reserved_key(name, bounds)) is taken


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
            assert judge_bounds(value, spec.get("bounds") or {}) is None, (path, value)


def faults_of(name: str, value: Any, variables_for: Callable[..., dict[str, Any]]) -> list[Any]:
    """Return the faults of one variable of a role, by its specification, its bounds and the checks that name it."""
    role = next(role for role in ROLES if name.startswith(f"{role.name}_"))
    spec = options_of(role)[name]
    variables = variables_for(role, "12", **{name: trusted(value)})
    tasks = [task for task in load_yaml(role / "tasks/preflight.yml") if "slipway.kit.preflight" in task]
    checks = [
        check
        for check in tasks[0]["slipway.kit.preflight"].get("checks", [])
        if check.get("variable") == name and not re.search(r"__django_app_source|ansible_facts", str(check))
    ]
    inspector = Inspector(role.name, [], {name: spec}, variables, Templar(DataLoader(), variables))
    inspector.inspect_options()
    inspector.inspect_checks(checks)
    return inspector.faults


def test_the_table_is_long_enough() -> None:
    assert sum(len(values) for values in (*BAD.values(), *BAD_WIRING.values())) > 500
    assert len(BAD) + len(BAD_WIRING) > 150


@pytest.mark.parametrize("name", BAD)
def test_bad_value_is_refused_by_the_name_of_its_variable(
    name: str, variables_for: Callable[..., dict[str, Any]]
) -> None:
    accepted = []
    for value in BAD[name]:
        faults = faults_of(name, value, variables_for)
        if name not in {root_of(fault) for fault in faults}:
            accepted.append((value, faults))
        assert all(fault.why for fault in faults)
        assert not [fault for fault in faults if "\0" in fault.value or "\n" in fault.value], "a value is on one line"
    assert not accepted, f"{name}: these values are accepted"


@pytest.mark.parametrize("name", GOOD)
def test_odd_value_that_is_right_passes(name: str, variables_for: Callable[..., dict[str, Any]]) -> None:
    refused = [(value, faults) for value in GOOD[name] if (faults := faults_of(name, value, variables_for))]
    assert not refused


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_value_at_the_end_of_a_range_lets_others_follow_from_it(
    role: Path, variables_for: Callable[..., dict[str, Any]]
) -> None:
    """An option that is left out must not be refused for the value of the one that it is derived from."""
    options = options_of(role)
    refused = []
    for name, spec in options.items():
        ends = {"min", "max"} & (spec.get("bounds") or {}).keys()
        for value in [spec["bounds"][end] for end in sorted(ends)] + GOOD.get(name, []):
            variables = variables_for(role, "12", **{name: trusted(value)})
            for other, told in options.items():
                if other == name or not re.search(rf"\b{name}\b", str(told.get("default"))):
                    continue
                derived = Templar(DataLoader(), variables).template(variables[other])
                if fault := judge_bounds(derived, told.get("bounds") or {}):
                    refused.append((name, value, other, derived, fault))
    assert not refused


@pytest.fixture(scope="module")
def wiring() -> tuple[dict[str, Any], frozenset[str]]:
    """Return the options of the wiring, and all names that it has."""
    kinds = load_yaml(KINDS)
    options = unshare(load_yaml(inventory.OPTIONS)["options"])
    for spec in options.values():
        if "bounds" in spec:
            spec["bounds"] = resolve_bounds(spec["bounds"], kinds)
    return options, frozenset({*options, *wiring_of_the_kit()})


@pytest.mark.parametrize("name", BAD_WIRING)
def test_bad_wiring_is_refused(name: str, wiring: tuple[dict[str, Any], frozenset[str]]) -> None:
    options, known = wiring
    accepted = []
    for value in BAD_WIRING[name]:
        variables = {name: trusted(value)}
        faults = list(inventory.wiring_faults(variables, options, known, DataLoader(), Outcomes()))
        if name not in {root_of(fault) for fault in faults}:
            accepted.append(value)
    assert not accepted, f"{name}: these values are accepted"


def test_wiring_as_shipped_passes(
    wiring: tuple[dict[str, Any], frozenset[str]], variables_for: Callable[..., dict[str, Any]]
) -> None:
    options, known = wiring
    variables = variables_for(ROOT / "roles/base", "12", "cluster", topology_disk_mb=51200)
    assert not list(inventory.wiring_faults(variables, options, known, DataLoader(), Outcomes()))


@pytest.mark.parametrize(
    ("workers", "told"),
    [
        ({"one": (True, False, ["one"])}, ["one"]),
        ({"one": (True, False, ["one", "two"]), "two": (False, False, ["one", "two"])}, ["one"]),
        ({"one": (True, False, ["one", "two"]), "two": (False, True, ["one", "two"])}, []),
        ({"one": (False, False, ["one"])}, []),
        ({"one": (True, True, ["one"])}, []),
    ],
)
def test_beat_without_workers_is_refused(workers: dict[str, Any], told: list[str]) -> None:
    assert [host for host, _ in inventory.beat_faults(workers)] == told


def test_no_legacy_time_zone_is_taken_for_a_mistake(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a control node without Debian's tzdata-legacy, and on an old one that lacks the new spellings."""
    every = zoneinfo.available_timezones()
    table = Path("/usr/share/zoneinfo/zone.tab").read_text(encoding="utf-8")
    today = {"UTC", *(line.split("\t")[2].strip() for line in table.splitlines() if not line.startswith("#"))}
    today |= {zone for zone in every if zone.startswith("Etc/")}
    for known in (today, every - ZONE_SPELLINGS):
        monkeypatch.setattr(zoneinfo, "available_timezones", lambda known=known: known)
        assert [zone for zone in every if is_time_zone(zone) is not True] == []


def test_time_zones_as_far_as_this_machine_knows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {"Europe/Berlin", "America/New_York", "UTC"}
    monkeypatch.setattr(zoneinfo, "available_timezones", lambda: known)
    assert [is_time_zone(zone) for zone in ("UTC", "Europe/Berlin", "US/Eastern", "GB")] == [True] * 4
    assert is_time_zone("Europe/Berlim") == "did you mean Europe/Berlin?"
    assert not is_time_zone("Mars/Olympus")
    known |= {"Europe/Kyiv", "Asia/Kathmandu", "America/Sitka"}
    for legacy in ("Europe/Kiev", "Asia/Katmandu", "America/Atka"):
        assert is_time_zone(legacy) is True, f"{legacy} is in tzdata-legacy"
    assert is_time_zone("Europe/Kyivv") == "did you mean Europe/Kyiv?"
    known.clear()
    assert is_time_zone("Mars/Olympus"), "a machine without time zones knows nothing of them"


def test_every_option_of_the_wiring_is_specified(wiring: tuple[dict[str, Any], frozenset[str]]) -> None:
    options, _ = wiring
    types = {"str", "int", "bool", "dict", "list", "raw"}
    assert not [name for name, spec in options.items() if spec.get("type") not in types or not spec.get("description")]
    given = {name for name in options if name.startswith("topology_")}
    assert given <= wiring_of_the_kit().keys()
