#!/usr/bin/python
"""Hold the lock of deployments on a host: the part of the action of this name that runs there."""

from __future__ import annotations

import os
import time
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.store import (
    LockedError,
    deploy_lock,
    read_holder,
    write_holder,
)

DOCUMENTATION = r"""
module: release_lock
short_description: Acquire or release the deploy lock
description:
  - One deployment at a time for a site. Fails when another run holds the lock.
  - A lock whose run has ended is taken over at once, where the run was on this machine. One that has expired is taken
    over as soon as no module is at work in the directory. A lock that cannot be read counts as held.
options:
  folder: {description: The application's directory., type: path, required: true}
  state: {description: Whether to acquire or to release it., type: str, choices: [held, free], required: true}
  minutes: {description: Minutes after which another machine may take it over., type: int, default: 60}
  break: {description: Whether to take it over from whoever holds it., type: bool, default: false}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Acquire the deploy lock
  slipway.kit.release_lock:
    folder: /srv/shop
    state: held
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "state": {"type": "str", "choices": ["held", "free"], "required": True},
            "owner": {"type": "dict", "required": True},
            "minutes": {"type": "int", "default": 60},
            "replace": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    folder, owner, replace = (module.params[name] for name in ("folder", "owner", "replace"))

    def end(held: bool, holder: dict[str, Any] | None = None) -> None:
        module.exit_json(changed=False, held=held, holder=holder or {})

    def is_free(holder: dict[str, Any]) -> bool:
        """Tell whether the lock may be taken: nobody's, our own, one that has expired or that is to be replaced."""
        if not holder or holder == replace:
            return True
        return "unreadable" not in holder and (holder["owner"] == owner or holder["expires"] <= time.time())

    holder = read_holder(folder)
    if module.check_mode or not os.path.isdir(folder):
        end(False, holder if not is_free(holder) else {})
    # A holder that is known is told at once; for any other answer the lock must be ours.
    known = "unreadable" not in holder
    if module.params["state"] == "held" and known and not is_free(holder):
        end(False, holder)
    if module.params["state"] == "free" and (not known or holder.get("owner") != owner):
        end(False)
    try:
        with deploy_lock(folder) as lock:
            holder = read_holder(folder)
            if module.params["state"] == "free":
                if holder.get("owner") == owner:
                    write_holder(lock, {})
                end(False)
            if not is_free(holder):
                end(False, holder)
            now = int(time.time())
            write_holder(lock, {"owner": owner, "since": now, "expires": now + 60 * module.params["minutes"]})
    except (LockedError, OSError) as error:
        module.fail_json(msg=f"The deploy lock cannot be acquired: {error}")
    end(True)


if __name__ == "__main__":
    main()
