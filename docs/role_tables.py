#!/usr/bin/env python3
"""Write the table of variables into each role's README.md, from the role's argument specification.

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
MARKED = re.compile(r"(<!-- variables: begin -->\n).*?(<!-- variables: end -->)", re.DOTALL)


def cell(text: str) -> str:
    """Return text as it stands in one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")


def code(value: Any) -> str:
    """Return a value as YAML would have it, set as code."""
    text = value if isinstance(value, str) and value else json.dumps(value, ensure_ascii=False)
    return f"`{text}`"


def rows(options: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield a row for each option, those of its parts behind it."""
    for name, spec in options.items():
        kind = spec.get("type", "str")
        elements = f" of {spec['elements']}" if "elements" in spec else ""
        default = "required" if spec.get("required") else code(spec["default"]) if "default" in spec else "none"
        description = spec.get("description", "")
        sentences = [description if isinstance(description, str) else " ".join(description)]
        if "choices" in spec:
            sentences.append(f"One of {', '.join(map(code, spec['choices']))}.")
        if spec.get("no_log"):
            sentences.append("Secret.")
        cells = (f"`{prefix}{name}`", kind + elements, default, " ".join(sentences))
        yield f"| {' | '.join(map(cell, cells))} |"
        yield from rows(spec.get("options", {}), f"{prefix}{name}{'[]' if kind == 'list' else ''}.")


def table(role: Path) -> str:
    """Return the table of a role's variables."""
    specification = yaml.safe_load((role / "meta/argument_specs.yml").read_text(encoding="utf-8"))
    options = specification["argument_specs"]["main"].get("options", {})
    return "\n".join(["| Variable | Type | Default | Meaning |", "| --- | --- | --- | --- |", *rows(options), ""])


def with_table(role: Path) -> str:
    """Return the role's README with the table as it should be."""
    text = (role / "README.md").read_text(encoding="utf-8")
    if len(MARKED.findall(text)) != 1:
        raise SystemExit(f"{role}/README.md: the comments 'variables: begin' and 'variables: end' must be there once")
    return MARKED.sub(lambda match: f"{match[1]}\n{table(role)}\n{match[2]}", text)


def main() -> int:
    """Write the tables, or with --check tell which are stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when a table is stale")
    check = parser.parse_args().check
    stale = []
    for role in sorted(path.parent.parent for path in ROLES.glob("*/meta/argument_specs.yml")):
        readme, text = role / "README.md", with_table(role)
        if text != readme.read_text(encoding="utf-8"):
            stale.append(str(readme))
            if not check:
                readme.write_text(text, encoding="utf-8")
    for name in stale:
        print(f"{name}: {'stale, run docs/role_tables.py' if check else 'written'}")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
