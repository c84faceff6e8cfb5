#!/usr/bin/python
"""Remove releases that are neither among the newest nor in use, and virtual environments that no release has."""

from __future__ import annotations

import os
import shutil

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.release_store import MARKER, LockedError, deploy_lock, releases_in_use

DOCUMENTATION = r"""
module: release_prune
short_description: Remove releases that are neither among the newest nor in use
description:
  - Keeps the newest complete releases, and every release that a slot or the links C(current), C(candidate) and
    C(previous) lead to, whatever its age. Unfinished ones go, and the virtual environments that no release leads to.
options:
  folder: {description: The application's folder., type: path, required: true}
  keep: {description: How many of the newest to keep., type: int, required: true}
author: Slipway contributors
"""


def completed_at(folder: str) -> float:
    """Return when `folder` was completed, in seconds since the epoch, 0 for an unfinished one."""
    try:
        return os.path.getmtime(os.path.join(folder, MARKER))
    except FileNotFoundError:
        return 0.0


def folders_in(path: str) -> set[str]:
    """Return the real paths of the folders in a folder."""
    if not os.path.isdir(path):
        return set()
    return {os.path.realpath(entry.path) for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False)}


def find_unwanted(folder: str, keep: int) -> list[str]:
    """Return the releases and virtual environments to remove."""
    releases = folders_in(os.path.join(folder, "releases"))
    newest = sorted(filter(completed_at, releases), key=completed_at, reverse=True)[:keep]
    kept = (set(newest) | releases_in_use(folder)) & releases
    venvs = {os.path.realpath(os.path.join(release, "venv")) for release in kept}
    return sorted(releases - kept) + sorted(folders_in(os.path.join(folder, "venvs")) - venvs)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={"folder": {"type": "path", "required": True}, "keep": {"type": "int", "required": True}},
        supports_check_mode=True,
    )
    folder, keep = module.params["folder"], module.params["keep"]
    removed = find_unwanted(folder, keep)
    if removed and not module.check_mode:
        try:
            with deploy_lock(folder):
                removed = find_unwanted(folder, keep)
                for path in removed:
                    # Without its marker first: a removal that is cut leaves nothing that looks complete.
                    if completed_at(path):
                        os.unlink(os.path.join(path, MARKER))
                    shutil.rmtree(path)
        except LockedError as error:
            module.fail_json(msg=str(error))
    module.exit_json(changed=bool(removed), removed=removed)


if __name__ == "__main__":
    main()
