#!/usr/bin/env python3
"""Write the tables of variables: of each role into its README.md, and of the wiring into docs/wiring.md.

A role's table is from its argument specification and bounds, the wiring's from topology_options.yml and the values in
playbooks/group_vars/all.

The table stands between two comments, `variables: begin` and `variables: end`; nothing else is touched. With
--check nothing is written, and the exit status is 1 when a table is not what the specification says.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).resolve().parent.parent / "roles"
KINDS = ROLES.parent / "plugins/plugin_utils/preflight/kinds.yml"
OPTIONS = KINDS.with_name("topology_options.yml")
WIRING = ROLES.parent / "playbooks/group_vars/all"
PAGE = ROLES.parent / "docs/wiring.md"
HEAD = ["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |"]
MARKED = re.compile(r"(<!-- variables: begin -->\n).*?(<!-- variables: end -->)", re.DOTALL)


def cell(text: str) -> str:
    """Return text as it stands in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(value: Any) -> str:
    """Return a value as YAML would have it, set as code."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def limits(bounds: Any, kinds: Mapping[str, Any]) -> str:
    """Return the range of a number, and the keys of a dictionary that other variables set, as a sentence."""
    own = {"kind": bounds} if isinstance(bounds, str) else dict(bounds or {})
    own = kinds.get(own.get("kind"), {}) | own
    sentences = []
    if "min" in own and "max" in own:
        unit = f" {own['unit']}" if "unit" in own else ""
        besides = "".join(f", or {value}" for value in own.get("besides", ()))
        sentences.append(f"From {own['min']} to {own['max']}{unit}{besides}.")
    if "reserved" in own:
        sentences.append(f"Refused here: {', '.join(map(code, own['reserved']))}.")
    return " ".join(sentences)


def rows(
    options: Mapping[str, Any],
    bounds: Mapping[str, Any] | None = None,
    kinds: Mapping[str, Any] | None = None,
    prefix: str = "",
) -> Iterator[str]:
    """Yield a row for each option, those of its parts behind it; bounds are by the path of an option."""
    bounds, kinds = bounds or {}, kinds or {}
    for name, spec in options.items():
        kind = spec.get("type", "str")
        elements = f" of {spec['elements']}" if "elements" in spec else ""
        default = "required" if spec.get("required") else code(spec["default"]) if "default" in spec else "none"
        description = spec.get("description", "")
        sentences = [description if isinstance(description, str) else " ".join(description)]
        if "choices" in spec:
            sentences.append(f"One of {', '.join(map(code, spec['choices']))}.")
        if limit := limits(bounds.get(re.sub(r"\[\]", "", f"{prefix}{name}")), kinds):
            sentences.append(limit)
        if spec.get("no_log"):
            sentences.append("Secret.")
        cells = (f"`{prefix}{name}`", kind + elements, default, " ".join(sentences))
        yield f"| {' | '.join(map(cell, cells))} |"
        yield from rows(spec.get("options", {}), bounds, kinds, f"{prefix}{name}{'[]' if kind == 'list' else ''}.")


def table(role: Path) -> str:
    """Return the table of a role's variables."""
    specification = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specification["argument_specs"]["main"].get("options", {})
    own = role / "meta/bounds.yml"
    bounds = yaml.safe_load(own.read_text(encoding="utf-8")) if own.exists() else {}
    kinds = yaml.safe_load(KINDS.read_text(encoding="utf-8"))
    return "\n".join([*HEAD, *rows(options, bounds, kinds), ""])


def wiring_table() -> str:
    """Return the table of what an inventory may set of the wiring."""
    options = yaml.safe_load(OPTIONS.read_text(encoding="utf-8"))["options"]
    kinds = yaml.safe_load(KINDS.read_text(encoding="utf-8"))
    values: dict[str, Any] = {}
    for path in WIRING.glob("*.yml"):
        values |= yaml.safe_load(path.read_text(encoding="utf-8"))
    given = {name: spec | ({"default": values[name]} if name in values else {}) for name, spec in options.items()}
    bounds = {name: spec["bounds"] for name, spec in options.items() if "bounds" in spec}
    return "\n".join([*HEAD, *rows(given, bounds, kinds), ""])


def with_table(page: Path, content: str) -> str:
    """Return a page with the table as it should be."""
    text = page.read_text(encoding="utf-8")
    if len(MARKED.findall(text)) != 1:
        raise SystemExit(f"{page}: the comments 'variables: begin' and 'variables: end' must be there once")
    return MARKED.sub(lambda match: f"{match[1]}\n{content}\n{match[2]}", text)


def main() -> int:
    """Write the tables, or with --check tell which are stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is stale")
    check = parser.parse_args().check
    stale = []
    roles = sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml"))
    tables = {role / "README.md": table(role) for role in roles} | {PAGE: wiring_table()}
    for readme, content in tables.items():
        text = with_table(readme, content)
        if text != readme.read_text(encoding="utf-8"):
            stale.append(str(readme))
            if not check:
                readme.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'stale, run dev/role_tables.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
