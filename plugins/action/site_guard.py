"""Refuse another site than the one that is recorded on the host, in a playbook that runs without preflight.

    site_guard:
      set_up: true  # refuse a host that site.yml has not set up, too

Where preflight has run before, it has compared them, and nothing is asked. Otherwise one command reads the record.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.plugins.loader import action_loader

PreflightInventory = action_loader.get("preflight_inventory", class_only=True)
inventory = sys.modules[PreflightInventory.__module__]
RECORD = "/var/lib/slipway-applied/site.json"


class ActionModule(ActionBase):
    """Compare what the host has recorded with what the inventory says."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return nothing, or fail with all that is another."""
        result = super().run(tmp, task_vars) | {"changed": False}
        _, arguments = self.validate_argument_spec(argument_spec={"set_up": {"type": "bool", "default": False}})
        variables = task_vars or {}
        if "preflight_site" in variables.get("ansible_facts", {}):
            return result
        wanted, groups, change = (
            self._templar.template(variables.get(name, default))
            for name, default in (("base_site", {}), ("base_groups", []), ("base_site_change", False))
        )
        said = self._low_level_execute_command(f"test ! -e {RECORD} || cat {RECORD}")["stdout"].strip()
        if not wanted:
            return result
        faults = []
        if not said and arguments["set_up"]:
            why = f"{RECORD} is missing: site.yml has not set up this host"
            faults = [inventory.Fault("", why, fix="run playbooks/site.yml, which runs this playbook as well")]
        elif said and change is not True:
            try:
                record = json.loads(said)
            except ValueError as error:
                record = {"error": f"{RECORD} cannot be read: {error}"}
            faults = list(inventory.site_faults(record, wanted, groups))
        if not faults:
            return result
        lines = [f"{fault.variable or 'the host'}: {fault.why}. What to do: {fault.fix}" for fault in faults]
        return result | {"failed": True, "msg": "Nothing was changed on this host.", "faults": "\n".join(lines)}
