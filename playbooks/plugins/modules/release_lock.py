#!/usr/bin/python
"""Hold the lock of deployments on a host: the part of the action of this name that runs there."""

from __future__ import annotations

import json
import os
import time

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_lock
short_description: Hold the lock of deployments on a host
description: A file that is made whole or not at all, and says who holds it, since when and until when.
options:
  path: {description: The file., type: path, required: true}
  state: {description: Whether to take or to leave it., type: str, choices: [held, free], required: true}
  owner: {description: The run that takes or leaves it., type: dict, required: true}
  minutes: {description: After how many minutes another machine may take it over., type: int, default: 60}
  replace: {description: "The owner whose lock may be taken over.", type: dict, default: {}}
author: Slipway contributors
"""


def read(path: str) -> dict:
    """Return who holds the lock, nothing when nobody does."""
    try:
        with open(path) as file:
            return json.load(file)
    except (FileNotFoundError, ValueError):
        return {}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "required": True},
            "owner": {"type": "dict", "required": True},
            "minutes": {"type": "int", "default": 60},
            "replace": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    path, owner = module.params["path"], module.params["owner"]
    holder = read(path)
    mine = holder.get("owner") == owner
    if module.check_mode or not os.path.isdir(os.path.dirname(path)):
        module.exit_json(changed=False, held=False, holder=holder if not mine else {})
    if module.params["state"] == "free":
        if mine:
            os.unlink(path)
        module.exit_json(changed=False, held=False, holder={})
    if mine:
        module.exit_json(changed=False, held=True, holder={})
    now = int(time.time())
    if holder and (
        holder["expires"] <= now or (module.params["replace"] and holder["owner"] == module.params["replace"])
    ):
        os.unlink(path)
    entry = {"owner": owner, "since": now, "expires": now + 60 * module.params["minutes"]}
    draft = f"{path}.{os.getpid()}"
    with open(draft, "w") as file:
        json.dump(entry, file)
    try:
        # A link fails where there is one already: of two that come at once one holds it.
        os.link(draft, path)
        module.exit_json(changed=False, held=True, holder={})
    except FileExistsError:
        module.exit_json(changed=False, held=False, holder=read(path))
    finally:
        os.unlink(draft)


if __name__ == "__main__":
    main()
