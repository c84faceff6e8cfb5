#!/usr/bin/python
"""Hold files and folders to what they shall be: the part of the action of this name that runs on the host."""

from __future__ import annotations

import glob
import os
import shutil
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: config_files
short_description: Hold files and folders to what they shall be
description:
  - Writes files whole or not at all, and sets owner, group and mode. Folders that are missing are created first.
  - What the command C(validate) refuses is taken back, so that nothing is left that would keep a service from starting.
options:
  folders: {description: "Folders, each with path, owner, group and mode.", type: list, elements: dict, default: []}
  files: {description: "Files, each with path, content, owner, group, mode.", type: list, elements: dict, default: []}
  only:
    description: With a I(pattern) of a shell, the folders like it to I(keep); any other is removed with what is in it.
    type: dict
  validate: {description: A command that must succeed with the files., type: list, elements: str, default: []}
author: Slipway contributors
"""

ATTRIBUTES = {"owner": {"type": "str"}, "group": {"type": "str"}, "mode": {"type": "str"}}


def set_attributes(module: AnsibleModule, entry: dict[str, Any], mode: str) -> bool:
    """Give what is at the entry's path its owner, group and mode; return whether that was a change."""
    wanted = {
        "path": entry["path"],
        "owner": entry["owner"] or "root",
        "group": entry["group"] or "root",
        "mode": entry["mode"] or mode,
    }
    return module.set_fs_attributes_if_different(module.load_file_common_arguments(wanted), False)


def write(module: AnsibleModule, path: str, content: bytes) -> None:
    """Put `content` in place of what is at `path`; a new file is its owner's alone until it has its attributes."""
    # Beside its place, so that the move is a rename; no ending by which a folder of drop-ins would take it.
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    module.atomic_move(temporary, path)


def take_back(module: AnsibleModule, before: dict[str, bytes | None]) -> None:
    """Put back what was at each path."""
    for path, content in before.items():
        if content is None:
            os.unlink(path)
        else:
            write(module, path, content)


def main() -> None:
    """Run the module."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "folders": {"type": "list", "elements": "dict", "default": [], "options": {"path": path, **ATTRIBUTES}},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": path, "content": {"type": "str", "required": True}, **ATTRIBUTES},
            },
            "only": {
                "type": "dict",
                "options": {
                    "pattern": {"type": "path", "required": True},
                    "keep": {"type": "list", "elements": "path", "required": True},
                },
            },
            "validate": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    changed, diff = [], []
    written: dict[str, bytes | None] = {}
    for folder in module.params["folders"]:
        missing = not os.path.isdir(folder["path"])
        if missing and not module.check_mode:
            os.makedirs(folder["path"], mode=0o755)
        # A dry run cannot say more of what is not there yet.
        if missing | (not (missing and module.check_mode) and set_attributes(module, folder, "0755")):
            changed.append(folder["path"])

    for file in module.params["files"]:
        content = file["content"].encode()
        try:
            with open(file["path"], "rb") as current:
                before = current.read()
        except FileNotFoundError:
            before = None
        if before != content:
            headers = {"before_header": file["path"], "after_header": file["path"]}
            diff.append({"before": (before or b"").decode(errors="replace"), "after": file["content"], **headers})
            if not module.check_mode:
                write(module, file["path"], content)
                written[file["path"]] = before
        dry = module.check_mode and before is None
        if (not dry and set_attributes(module, file, "0644")) | (before != content):
            changed.append(file["path"])
    only = module.params["only"]
    for unwanted in sorted(set(glob.glob(only["pattern"])) - set(only["keep"])) if only else []:
        changed.append(unwanted)
        if not module.check_mode:
            shutil.rmtree(unwanted)
    if written and module.params["validate"]:
        code, out, err = module.run_command(module.params["validate"])
        if code != 0:
            take_back(module, written)
            module.fail_json(
                msg=f"{module.params['validate'][0]} refuses the new configuration, and the old one was put back",
                refused_with=(err or out).splitlines(),
            )
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=diff)


if __name__ == "__main__":
    main()
