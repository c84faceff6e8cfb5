"""Refuse the inventory when preflight has found faults, with all of them in one message.

    slipway.kit.preflight_report:

Run it in the last play of preflight, over all hosts: it runs once. A fault that several hosts share is told
once.
"""

from __future__ import annotations

import os
import textwrap
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import FACT

# Faults of the inventory as a whole, and of hosts that do not answer.
NO_ROLES = ("", "inventory", "topology")
# The page to read about a variable, by the beginning of its name; the longest counts.
PAGES = {
    "": "docs/preflight.md",
    "ansible_": "docs/operating.md",
    "base_": "docs/operating.md",
    "base_sandbox": "docs/security.md",
    "celery_": "docs/own-app.md",
    "django_app_": "docs/own-app.md",
    "django_app_media": "docs/scaling.md",
    "django_app_migrate": "docs/migrations.md",
    "firewall_": "docs/network.md",
    "gunicorn_": "docs/own-app.md",
    "hardening_": "docs/security.md",
    "nginx_": "docs/edge.md",
    "nginx_sandbox": "docs/security.md",
    "nginx_tls_": "docs/tls.md",
    "patch_": "docs/operating.md",
    "pgbouncer_": "docs/scaling.md",
    "postgresql_": "docs/scaling.md",
    "postgresql_sandbox": "docs/security.md",
    "processes_": "docs/own-app.md",
    "redis_": "docs/scaling.md",
    "redis_sandbox": "docs/security.md",
    "release_": "docs/operating.md",
    "secrets_": "docs/secrets.md",
    "tls_": "docs/tls.md",
    "topology_": "docs/scaling.md",
    "topology_cores": "docs/capacity.md",
    "topology_disk": "docs/capacity.md",
    "topology_memory": "docs/capacity.md",
    "topology_system_memory": "docs/capacity.md",
    "topology_weight": "docs/capacity.md",
    "topology_plain_secrets": "docs/secrets.md",
    "vault_": "docs/secrets.md",
}
LABELS = {"value": "value", "why": "why", "fix": "what to do", "where": "written in"}


def page_of(variable: str, role: str) -> str:
    """Return the page of the documents to read about a variable, or about what a role says of a host."""
    name = variable or ("" if role in NO_ROLES else f"{role}_")
    return PAGES[max((start for start in PAGES if name.startswith(start)), key=len)]


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
        if "docs/" not in " ".join(texts):
            lines.append(f"   {'read:':<12}{page_of(variable, role)}")
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
