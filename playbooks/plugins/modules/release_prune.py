#!/usr/bin/python
"""Remove releases that are neither among the newest nor in use."""

from __future__ import annotations

import glob
import os
import shutil

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: release_prune
short_description: Remove releases that are neither among the newest nor in use
description:
  - Keeps the newest complete releases, and every release that a slot or the link C(current) points to, whatever its
    age. Unfinished ones go, except the one that is named.
options:
  directory: {description: The folder of the releases., type: path, required: true}
  slots: {description: The folder of the services' slots., type: path, required: true}
  current: {description: The link to the release in use., type: path, required: true}
  release: {description: The release that is being deployed., type: path, required: true}
  keep: {description: How many of the newest to keep., type: int, required: true}
author: Slipway contributors
"""

MARKER = ".complete"


def completed_at(release: str) -> float:
    """Return when `release` was completed, in seconds since the epoch, 0 for an unfinished one."""
    try:
        return os.path.getmtime(os.path.join(release, MARKER))
    except FileNotFoundError:
        return 0.0


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "directory": {"type": "path", "required": True},
            "slots": {"type": "path", "required": True},
            "current": {"type": "path", "required": True},
            "release": {"type": "path", "required": True},
            "keep": {"type": "int", "required": True},
        },
        supports_check_mode=True,
    )
    releases = (
        [entry.path for entry in os.scandir(module.params["directory"])]
        if os.path.isdir(module.params["directory"])
        else []
    )
    releases = [os.path.realpath(release) for release in releases if os.path.isdir(release)]
    links = [module.params["current"], module.params["release"], *glob.glob(f"{module.params['slots']}/*/[ab]/release")]
    in_use = {os.path.realpath(link) for link in links}
    newest = sorted(filter(completed_at, releases), key=completed_at, reverse=True)[: module.params["keep"]]
    removed = sorted(set(releases) - set(newest) - in_use)
    if not module.check_mode:
        for release in removed:
            # Without its marker first: a removal that is cut leaves no release that looks complete.
            if completed_at(release):
                os.unlink(os.path.join(release, MARKER))
            shutil.rmtree(release)
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
