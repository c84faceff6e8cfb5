"""How a release is asked about its migrations, and what the answers mean in words. See migration_plan.py.

words = shell_words({"ask": "plan", "command": ["migrate"], "serving": True})
answer = find_answer(output of `manage.py` with these words)
"""

from __future__ import annotations

import base64
import inspect
import json
import zlib
from typing import Any

from ansible_collections.slipway.kit.plugins.module_utils.release import migration_plan

CONFLICTS_SWITCH = """-e '{"django_app_allow_schema_conflicts": true}'"""
SHOWN = 20


def shell_words(question: dict[str, Any]) -> list[str]:
    """Return the arguments of a management command that answer a question to migration_plan.

    Packed, so that no character of it means anything to systemd, a wrapper or a shell on the way.
    """
    source = f"{inspect.getsource(migration_plan)}\n\nanswer({json.dumps(question)!r})\n"
    packed = base64.b64encode(zlib.compress(source.encode(), 9)).decode()
    unpack = f"compile(zlib.decompress(base64.b64decode('{packed}')), 'migration_plan', 'exec')"
    # Names of its own: what a shell imports for its user does not come in between.
    return ["shell", "-c", f"import base64, zlib; exec({unpack}, {{'__name__': 'migration_plan'}})"]


def find_answer(output: str) -> Any:
    """Return what migration_plan answered, from among all that was written; None if it did not."""
    lines = [line for line in output.splitlines() if line.startswith(migration_plan.MARKER)]
    return json.loads(lines[-1].removeprefix(migration_plan.MARKER)) if lines else None


def entry(item: dict[str, Any]) -> str:
    """Return "shop.0003_x: what is said of it"; with the database, if it is not the default one."""
    return f"{name_of(item)}: {item['text']}"


def name_of(item: dict[str, Any]) -> str:
    """Return the name of a migration; with its database, if it is not the default one."""
    database = "" if item["database"] == "default" else f" (database {item['database']})"
    return f"{item['migration']}{database}"


def unknown_names(plan: dict[str, Any]) -> list[str]:
    """Return the migrations by which the database is ahead of the release.

    Where there are conflicts all that the release does not know, if none of them is newer than what it knows.
    """
    ahead = [name_of(item) for item in plan["unknown"] if item["ahead"]]
    return ahead or ([name_of(item) for item in plan["unknown"]] if plan["conflicts"] else [])


def shorten(names: list[str]) -> str:
    """Return names with commas between them, the last ones of a long list as their number."""
    more = len(names) - SHOWN
    return ", ".join(names[:SHOWN]) + (f" and {more} more" if more > 0 else "")


def destructive_refusal(found: list[str]) -> str:
    """Return why pending migrations are not applied; `found` is what is said of them."""
    return (
        "The active release cannot work with what these migrations leave, so none was applied:\n"
        + "".join(f"  {text}\n" for text in found)
        + "Write it in two releases (expand, then contract: docs/migrations.md), or allow it with"
        " -e '{\"django_app_migrate_destructive\": true}'"
    )


def conflict_lines(plan: dict[str, Any], applies: bool) -> list[str]:
    """Return what tells code and schema apart: migrations that only one of them has, and the conflicts that result."""
    lines = []
    if names := unknown_names(plan):
        lines.append(f"applied to the database, and unknown to the release: {shorten(names)}")
    if plan["pending"] and not applies:
        lines.append(f"known to the release, and not applied: {shorten([name_of(item) for item in plan['pending']])}")
    for item in plan["conflicts"]:
        database = "" if item["database"] == "default" else f" (database {item['database']})"
        lines.append(f"{item['text']}{database}")
    return lines


def conflict_refusal(plan: dict[str, Any], applies: bool) -> str:
    """Return why a release is not switched to whose code does not fit the schema of the database."""
    return (
        "The release does not fit the schema of the database, so nothing was switched:\n"
        + "".join(f"  {line}\n" for line in conflict_lines(plan, applies))
        + "Deploy a release that fits, or restore a backup that does (docs/migrations.md, Code and schema), or allow it"
        f" with {CONFLICTS_SWITCH}"
    )
