#!/usr/bin/env python3
"""Write playbooks/README.md from the headers of the playbooks.

A header is the comment at the top of a playbook: a paragraph that says what it does, then paragraphs in any order, of
which one begins with `Variables:` and one with `Changes:`. With --check nothing is written, and the exit status is 1
when the page is not what the headers say.
"""

from __future__ import annotations

import argparse
import re
import sys
from pathlib import Path

PLAYBOOKS = Path(__file__).resolve().parent.parent / "playbooks"
DEPRECATED = re.compile(r"Deprecated: use ([a-z_]+\.yml)\. This name is removed in ([0-9.]+)\.")
PAGE = """\
# Playbooks

    ansible-playbook -i inventories/NAME playbooks/PLAYBOOK.yml

`make docs` writes this page from the headers of the playbooks, which have examples too.

Variables of a playbook are given by `-e` and begin with `slipway_`, so that none can collide with a variable of an
inventory. The others below are options of roles, which an inventory may set as well. A `slipway_` variable that the
playbook does not take, and a name that is close to one that it takes, are refused before the first task.

{operator}

## Deprecated names

These work until the version in the last column, and warn.

{deprecated}

The variables `host`, `from`, `command`, `promote`, `lost`, `rotate`, `plan_file` and `status_strict` have the prefix
`slipway_` now. By `-e` the names without it work until {version}, and warn; in an inventory they are no longer read.

## Internal playbooks

Names that begin with an underscore are parts of others. They do not validate the inventory: do not run them alone.

{internal}
"""


def header(playbook: Path) -> list[str]:
    """Return the paragraphs of a playbook's header; one with examples as lines, others as one line each."""
    match = re.match(r"---\n((?:#.*\n)+)", playbook.read_text(encoding="utf-8"))
    if not match:
        raise SystemExit(f"{playbook.name}: needs a comment at the top that says what the playbook does")
    lines = [line[1:].removeprefix(" ") for line in match[1].splitlines()]
    paragraphs = "\n".join(lines).split("\n\n")
    return [text if text.startswith(" ") else " ".join(text.split()) for text in paragraphs]


def part(playbook: Path, label: str) -> str:
    """Return what a header says behind a label, or nothing."""
    said = [text for text in header(playbook) if text.startswith(f"{label}: ")]
    if len(said) > 1:
        raise SystemExit(f"{playbook.name}: has more than one paragraph {label}")
    return said[0].removeprefix(f"{label}: ").rstrip(".") if said else ""


def table(*rows: tuple[str, ...]) -> str:
    """Return a table in Markdown; the first row is its head."""
    head, *body = rows
    cells = [[text.replace("|", "\\|") for text in row] for row in (head, tuple("---" for _ in head), *body)]
    return "\n".join(f"| {' | '.join(row)} |" for row in cells)


def page(folder: Path) -> str:
    """Return the page of a folder of playbooks."""
    operator, deprecated, internal, version = [], [], [], ""
    for playbook in sorted(folder.glob("*.yml")):
        name, does = f"[{playbook.name}]({playbook.name})", header(playbook)[0]
        if playbook.name.startswith("_"):
            internal.append((name, does))
        elif old := DEPRECATED.fullmatch(does):
            deprecated.append((f"`{playbook.name}`", f"[{old[1]}]({old[1]})", old[2]))
            version = old[2]
        else:
            changes = part(playbook, "Changes")
            if not changes:
                raise SystemExit(f"{playbook.name}: its header has no paragraph Changes")
            operator.append((name, does, part(playbook, "Variables"), changes))
    return PAGE.format(
        operator=table(("Playbook", "What it does", "Variables", "What it changes"), *operator),
        deprecated=table(("Earlier name", "Name", "Removed in"), *deprecated),
        internal=table(("Playbook", "What it does"), *internal),
        version=version,
    )


def main() -> int:
    """Write the page, or with --check tell whether it is stale."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="write nothing; fail when the page is stale")
    check = parser.parse_args().check
    file, text = PLAYBOOKS / "README.md", page(PLAYBOOKS)
    stale = not file.exists() or text != file.read_text(encoding="utf-8")
    if stale:
        print(f"{file}: {'stale, run dev/playbook_table.py' if check else 'written'}")
        if not check:
            file.write_text(text, encoding="utf-8")
    return 1 if check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
