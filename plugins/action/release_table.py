"""Show the releases of all hosts of a play as one table.

slipway.kit.release_table:
register: __release_list      # the variable with each host's own list
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.tables import table

COLUMNS = ("release", "state", "since", "by", "serves on", "source")


def rows_of(lists: dict[str, dict[str, Any]]) -> list[tuple[str, ...]]:
    """Return a row for each release, the newest first; `lists` has each host's releases by host."""
    merged: dict[str, dict[str, Any]] = {}
    for host, releases in lists.items():
        for name, found in releases.items():
            entry = merged.setdefault(name, {"states": set(), "at": "", "by": "", "source": "", "serves": []})
            entry["states"].add(found["state"])
            for key in ("at", "by", "source"):
                entry[key] = entry[key] or found[key]
            if found["serves"]:
                entry["serves"].append(f"{host} ({', '.join(found['serves'])})")
    newest = sorted(merged.items(), key=lambda item: item[1]["at"], reverse=True)
    return [
        (name, "/".join(sorted(e["states"])), e["at"], e["by"], ", ".join(e["serves"]) or "-", e["source"])
        for name, e in newest
    ]


class ActionModule(ActionBase):
    """Show the table once."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the table as the message."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={"register": {"type": "str", "required": True}})
        variables = task_vars or {}
        lists = {}
        for host in variables["ansible_play_hosts_all"]:
            found = variables["hostvars"][host].get(arguments["register"], {})
            lists[host] = found.get("releases", {})
        self._display.display("\n" + "\n".join(table([COLUMNS, *rows_of(lists)])) + "\n")
        return result | {"changed": False, "releases": lists}
