"""Refuse the inventory when preflight has found faults, with all of them in one message.

    preflight_report:

Run it in the last play of preflight, over all hosts: it runs once. A fault that several hosts share is told
once.
"""

from __future__ import annotations

import os
import textwrap
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

FACT = "__preflight_faults"
# Faults of the inventory as a whole, and of hosts that do not answer.
NO_ROLES = ("", "inventory", "topology")
LABELS = {"value": "value", "why": "why", "fix": "what to do", "where": "written in"}


def write_report(faults: list[dict[str, str]], hosts: int) -> list[str]:
    """Return a paragraph of plain text for each fault, those of several hosts once."""
    grouped: dict[tuple[str, ...], list[str]] = {}
    for fault in faults:
        key = tuple(fault[name] for name in ("variable", "role", *LABELS))
        names = grouped.setdefault(key, [])
        if fault["host"] not in names:
            names.append(fault["host"])
    paragraphs = []
    for number, ((variable, role, *texts), names) in enumerate(grouped.items(), start=1):
        on = "all hosts" if len(names) == hosts > 1 else ", ".join(names)
        whose = "" if role in NO_ROLES else f"role {role}, "
        if names == [""]:  # no host's
            lines = [f"{number}. {f'{variable}  (the inventory)' if variable else 'the control node'}"]
        else:
            lines = [f"{number}. {variable or 'the host'}  ({whose}on {on})"]
        for label, text in zip(LABELS.values(), texts, strict=True):
            if text:
                lines += textwrap.wrap(
                    text, 100, initial_indent=f"   {label + ':':<12}", subsequent_indent=" " * 15,
                    break_long_words=False, break_on_hyphens=False,
                )  # fmt: skip
        paragraphs.append("\n".join(lines))
    return paragraphs


class ActionModule(ActionBase):
    """Fail once, with the faults of all hosts of the play."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the report; failed when there is anything in it."""
        result = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = task_vars or {}
        hosts = variables["ansible_play_hosts_all"]
        run = os.path.basename(C.DEFAULT_LOCAL_TMP)
        faults = [
            fault
            for host in hosts
            for fault in variables["hostvars"].raw_get(host).get("ansible_facts", {}).get(FACT, [])
            if fault["run"] == run
        ]
        if not faults:
            return result | {"changed": False, "msg": f"the variables of {len(hosts)} hosts are in order"}
        report = write_report(faults, len(hosts))
        count = "1 fault" if len(report) == 1 else f"{len(report)} faults"
        return result | {
            "changed": False,
            "failed": True,
            "msg": f"The inventory is refused for {count}. Nothing was changed on any host.",
            "faults": "\n\n".join(report),
        }
