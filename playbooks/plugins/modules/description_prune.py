#!/usr/bin/python
"""Remove the descriptions of services that a role no longer wants; the next commit removes the services."""

from __future__ import annotations

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: description_prune
short_description: Remove the descriptions of services that a role no longer wants
description:
  - The services themselves run on until a deployment is committed, so that one that fails leaves them.
options:
  application: {description: The application., type: str, required: true}
  prefix: {description: What the names of the role's services begin with., type: str, required: true}
  keep: {description: "The names to keep, without the prefix.", type: list, elements: str, required: true}
author: Slipway contributors
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "prefix": {"type": "str", "required": True},
            "keep": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    folder, prefix = f"/etc/{module.params['application']}/services", module.params["prefix"]
    present = {os.path.basename(path) for path in glob.glob(f"{folder}/{prefix}*")}
    removed = sorted(present - {prefix + name for name in module.params["keep"]})
    for name in [] if module.check_mode else removed:
        shutil.rmtree(os.path.join(folder, name))
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
