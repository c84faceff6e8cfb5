"""What preflight finds, and the fact that keeps it until preflight_report lists all faults."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from ansible import constants as C

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import Origin

FACT = "__preflight_faults"


@dataclass(frozen=True)
class Fault:
    """What is wrong with one variable, in words for the operator."""

    variable: str
    why: str
    value: str = ""
    fix: str = ""
    where: str = ""


def place(path: str, line: int) -> str:
    """Write a file and a line, from here where the file is below."""
    relative = os.path.relpath(path)
    return f"{path if relative.startswith('../') else relative}:{line}"


def origin(value: Any) -> str:
    """Return the file and line that a value was read from, if Ansible knows them."""
    tag = Origin.get_tag(value)
    if tag is None or not tag.path:
        return ""
    return place(tag.path, tag.line_num or 1)


def keep(
    variables: Mapping[str, Any], role: str, faults: Iterable[tuple[str, Fault]], part: str = ""
) -> dict[str, Any]:
    """Return the fact that keeps faults of hosts, in place of those that the same part of the same role had before.

    The name of this run's temporary folder tells its faults from those of an earlier run, which a persistent cache of
    facts would bring back.
    """
    run = os.path.basename(C.DEFAULT_LOCAL_TMP)
    others = [
        fault
        for fault in variables.get("ansible_facts", {}).get(FACT, [])
        if fault["run"] == run and (fault["role"], fault.get("part", "")) != (role, part)
    ]
    found = [{"run": run, "host": host, "role": role, "part": part, **asdict(fault)} for host, fault in faults]
    return {"ansible_facts": {FACT: others + found}}
