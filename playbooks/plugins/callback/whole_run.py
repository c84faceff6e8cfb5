"""Refuse to run a part of one of the project's playbooks, before its first task.

--tags, --skip-tags and --start-at-task leave tasks out wherever they are: preflight, the deploy lock and the health
checks too. A task of a playbook cannot prevent that, as it is left out itself. --limit is refused for playbooks with a
play on the control node, which --limit leaves out without a word. Playbooks of other projects are not looked at, unless
they import one of these.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import context
from ansible.plugins.callback import CallbackBase

DOCUMENTATION = """
name: whole_run
type: aggregate
short_description: Refuse to run a part of one of the project's playbooks
description: Refuses --tags, --skip-tags, --start-at-task, and --limit where it would leave out the control node.
requirements: [enabling in ansible.cfg]
"""
PLAYBOOKS = Path(__file__).resolve().parents[2]
PAGE = "docs/operating.md#parts-of-a-run"


def is_ours(path: str) -> bool:
    """Tell whether a file is one of the project's playbooks."""
    return Path(path).resolve().parent == PLAYBOOKS


def refusal(options: Mapping[str, Any], playbook: str, plays: list[tuple[str, str]]) -> str:
    """Return why a run is refused, or nothing; plays are pairs of a file and a pattern of hosts."""
    own = is_ours(playbook)
    name = Path(playbook).name
    tags = [tag for tag in options.get("tags") or () if tag != "all"]
    skipped = list(options.get("skip_tags") or ())
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
            "or the health checks. Run it whole, or a smaller playbook"
        )
    control = [pattern for file, pattern in plays if is_ours(file) and pattern == "localhost"]
    if own and limit and control and "localhost" not in str(limit):
        return (
            f"--limit {limit} is refused: {name} also has work on the control node, which --limit leaves out. "
            "Run it without --limit"
        )
    return ""


class CallbackModule(CallbackBase):  # type: ignore[misc]
    """Ends a run that is refused."""

    CALLBACK_VERSION = 2.0
    CALLBACK_TYPE = "aggregate"
    CALLBACK_NAME = "whole_run"
    CALLBACK_NEEDS_ENABLED = True

    def v2_playbook_on_start(self, playbook: Any) -> None:
        """End the run with an error when a part of a playbook is asked for."""
        plays = []
        for play in playbook.get_plays():
            hosts = play.hosts if isinstance(play.hosts, str) else ",".join(map(str, play.hosts or ()))
            plays.append((play.get_path().rpartition(":")[0], hosts))
        if why := refusal(context.CLIARGS, playbook._file_name, plays):
            self._display.error(f"{why}. Nothing was changed on any host. {PAGE} says more.", wrap_text=False)
            # An exception would be taken for a mistake of this plugin, and the run would go on.
            sys.exit(1)
