#!/usr/bin/python
"""Stop and remove services in slots that are no longer wanted."""

from __future__ import annotations

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.systemd_unit import Systemd

DOCUMENTATION = r"""
module: service_prune
short_description: Stop and remove services in slots that are no longer wanted
description:
  - Finds the services whose names begin with a prefix, and stops, disables and removes those that are not to be
    kept.
options:
  prefix: {description: What the names of the services begin with., type: str, required: true}
  keep: {description: The names to keep, without the prefix., type: list, elements: str, required: true}
  slot_prefix: {description: What the paths of their slots begin with., type: path, required: true}
author: Slipway contributors
"""

UNITS = "/etc/systemd/system"


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "prefix": {"type": "str", "required": True},
            "keep": {"type": "list", "elements": "str", "required": True},
            "slot_prefix": {"type": "path", "required": True},
        },
        supports_check_mode=True,
    )
    prefix = module.params["prefix"]
    present = {
        os.path.basename(path)[len(prefix) : -len("@.service")] for path in glob.glob(f"{UNITS}/{prefix}*@.service")
    }
    removed = sorted(present - set(module.params["keep"]))
    if removed and not module.check_mode:
        systemd = Systemd(module)
        for name in removed:
            unit = f"{prefix}{name}"
            systemd.run("disable", f"{unit}.service")
            systemd.run("stop", f"{unit}.service", f"{unit}@a.service", f"{unit}@b.service")
            os.unlink(f"{UNITS}/{unit}.service")
            shutil.rmtree(module.params["slot_prefix"] + name, ignore_errors=True)
            # Last: it is what tells the next run, should this one be cut, that the service is still to be removed.
            os.unlink(f"{UNITS}/{unit}@.service")
        systemd.run("daemon-reload")
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
