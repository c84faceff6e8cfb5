#!/usr/bin/python
"""Stop the units of a site on a host that leaves it, and keep them from starting again."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd.site_units import is_of_site
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import UP, Systemd

DOCUMENTATION = r"""
module: host_retire
short_description: Stop the units of a site on a host, and keep them from starting again
description: Waits until they have stopped; workers finish the tasks that they have begun.
options:
  application: {description: The application., type: str, required: true}
author: Slipway contributors
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"application": {"type": "str", "required": True}}, supports_check_mode=True)
    application = module.params["application"]
    systemd = Systemd(module)

    def listed(*arguments: str, key: str) -> list[dict[str, str]]:
        _, out, _ = module.run_command([systemd.systemctl, *arguments, "--output=json", "--no-pager"], check_rc=True)
        return [unit for unit in json.loads(out) if is_of_site(unit[key], application)]

    files = listed("list-unit-files", "--state=enabled,enabled-runtime", key="unit_file")
    enabled = sorted(unit["unit_file"] for unit in files)
    running = sorted(unit["unit"] for unit in listed("list-units", key="unit") if unit["active"] in UP)
    if not module.check_mode:
        # First what would start others: sockets, timers, starters.
        for unit in enabled:
            if "@." not in unit:
                systemd.run("disable", unit)
        if running:
            systemd.run("stop", *running)
    module.exit_json(changed=bool(enabled or running), disabled=enabled, stopped=running)


if __name__ == "__main__":
    main()
