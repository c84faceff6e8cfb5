#!/usr/bin/python
"""Hold files and folders to what they shall be: the part of the action of this name that runs on the host."""

from __future__ import annotations

import glob
import grp
import os
import pathlib
import pwd
import re
import shutil
import stat
import tempfile
from typing import Any

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: config_files
short_description: Write all configuration files of a service, and restore the previous ones when they are refused
description:
  - Renders the templates on the control node as M(ansible.builtin.template) does. Where all files are up to date, one
    command on the host shows that, and no module is called.
  - Writes files whole or not at all, and sets owner, group and mode.
  - C(systemd-analyze verify) checks units and drop-ins. When it or I(validate) refuses the new files, the previous ones
    are restored, so that nothing is left that would keep a service from starting.
options:
  folders: &folders
    description: Directories. Missing ones are created first.
    type: list
    elements: dict
    default: []
    options:
      path: {description: The path., type: path, required: true}
      owner: {description: The owner; root where it is left out., type: str}
      group: {description: The group; root where it is left out., type: str}
      mode: {description: 'The mode; 0644, of a directory 0755.', type: str}
      hand_down_group:
        description: Whether everything in the directory gets its group, now and later (setgid).
        type: bool
        default: false
  files: &files
    description: Files, each rendered from a template of the role.
    type: list
    elements: dict
    default: []
    options:
      src: {description: 'The template, below C(templates) of the role.', type: path, required: true}
      dest: {description: The path on the host., type: path, required: true}
      secret: {description: Whether no diff is shown., type: bool, default: false}
      owner: {description: The owner; root where it is left out., type: str}
      group: {description: The group; root where it is left out., type: str}
      mode: {description: 'The mode; 0644, of a directory 0755.', type: str}
  validate:
    description: A command that must succeed with the new files in place.
    type: list
    elements: str
    default: []
  absent: {description: Files to remove., type: list, elements: path, default: []}
  overrides:
    description: >-
      Templates on the control node to use instead of the role's, by the path on the host. One may extend the role's
      template, by the name in C(src), and replace its blocks.
    type: dict
    default: {}
  own:
    description: Directories that a service writes to. Missing ones are created.
    type: dict
    options:
      user: {description: The user of the service., type: str, required: true}
      paths: {description: The directories., type: list, elements: str, required: true}
      adopt: {description: Whether directories of root are given to the user., type: bool, default: true}
  repeat:
    description: Directories and files for each item of a list. C({name}) in a path is the item's C(name).
    type: dict
    options:
      each: {description: The items., type: list, elements: dict, required: true}
      as: {description: The name of the item's variable in the templates., type: str, required: true}
      only: {description: A pattern of the shell; directories like it that belong to no item are removed., type: str}
      absent: {description: Files to remove., type: list, elements: path, default: []}
      folders: *folders
      files: *files
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Write the configuration of Nginx
  slipway.kit.config_files:
    folders:
      - {path: /etc/systemd/system/nginx.service.d}
    files:
      - {src: etc/nginx/nginx.conf.j2, dest: /etc/nginx/nginx.conf}
    validate: [nginx, -t, -q]
"""

RETURN = r"""
changed_paths: {description: What was changed., returned: always, type: list, elements: str}
refused_with: {description: The words of what refused the files., returned: on refusal, type: list, elements: str}
"""

# Where units and drop-ins are that systemd reads, and which it reads as what.
UNIT_FOLDER = "/etc/systemd/system"
UNIT = re.compile(r"[^/]+\.(service|socket|timer|swap)(\.d/[^/]+\.conf)?")
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


def hand_down_group(module: AnsibleModule, folder: dict[str, Any]) -> None:
    """Give all that is in a folder its group, and the folders in it the bit by which new files get it (setgid).

    The folder itself is given both by the caller, after this: so a run that was cut is finished by the next one.
    """
    group = grp.getgrnam(folder["group"]).gr_gid
    try:
        for top, _, files in os.walk(folder["path"]):
            status = os.stat(top)
            if top != folder["path"] and not (status.st_gid == group and status.st_mode & stat.S_ISGID):
                os.chown(top, -1, group)
                os.chmod(top, stat.S_IMODE(status.st_mode) | stat.S_ISGID)
            for name in files:
                path = os.path.join(top, name)
                if os.lstat(path).st_gid != group:
                    os.chown(path, -1, group, follow_symlinks=False)
        os.chown(folder["path"], -1, group)
    except PermissionError as error:
        module.fail_json(
            msg=f"root of this host may not give {error.filename} the group {folder['group']} ({group}), as on a file "
            f"server that trusts no root. Do it on the file server, in the folder that it shares: chgrp -R {group} . "
            "&& find . -type d -exec chmod g+s {} + (docs/scaling.md, one folder for all)"
        )


def dangling_link(path: str) -> str:
    """Return the first part of a path that is a link to nothing, empty where none is."""
    place = pathlib.Path(path)
    parts = map(str, (*reversed(place.parents), place))
    return next((part for part in parts if os.path.islink(part) and not os.path.lexists(os.path.realpath(part))), "")


def make_directory(module: AnsibleModule, path: str, mode: int) -> None:
    """Make a missing directory, with parents of mode 0755; in a dry run, only tell whether a link prevents that."""
    if link := dangling_link(path):
        module.fail_json(
            msg=f"{path} cannot be created: {link} is a link to {os.readlink(link)}, which does not exist. Create that "
            "directory, or mount what it is on; or remove the link"
        )
    if module.check_mode:
        return
    try:
        os.makedirs(os.path.dirname(path.rstrip("/")), mode=0o755, exist_ok=True)
        os.mkdir(path, mode=mode)
    except PermissionError as error:
        module.fail_json(
            msg=f"root of this host may not create {error.filename}, as on a file server that trusts no root. Create "
            "it on the file server, in the directory that it shares (docs/scaling.md, one folder for all)"
        )
    except OSError as error:
        module.fail_json(msg=f"{path} cannot be created: {error.filename}: {error.strerror}")


def make_own(module: AnsibleModule, path: str, user: str, adopt: bool = True) -> bool:
    """Make a folder that a service writes to, its user's own; return whether that was a change.

    One that is there stays as somebody has made it, unless root owns it and it is to be adopted.
    """
    missing = not os.path.exists(path)
    if not missing and (not adopt or os.stat(path).st_uid != 0):
        return False
    if missing:
        make_directory(module, path, 0o750)
    if not module.check_mode:
        entry = pwd.getpwnam(user)
        try:
            os.chown(path, entry.pw_uid, entry.pw_gid)
        except OSError as error:
            if missing:
                # The next run would take it for one that somebody has made for the user.
                os.rmdir(path)
            ids = f"{entry.pw_uid}:{entry.pw_gid}"
            module.fail_json(
                msg=f"root of this host may not give {path} to {user} ({ids}): {error.strerror}, as on a file server "
                f"that trusts no root. Do it on the file server: create the directory that is {path} here, and "
                f"chown {ids} it (docs/scaling.md, one folder for all)"
            )
    return True


def write(module: AnsibleModule, path: str, content: bytes) -> None:
    """Put `content` in place of what is at `path`; a new file is its owner's alone until it has its attributes."""
    # Beside its place, so that the move is a rename; no ending by which a folder of drop-ins would take it.
    descriptor, temporary = tempfile.mkstemp(dir=os.path.dirname(path), prefix=f".{os.path.basename(path)}.")
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
    module.atomic_move(temporary, path)


def restore(module: AnsibleModule, before: dict[str, bytes | None]) -> None:
    """Put back what was at each path."""
    for path, content in before.items():
        if content is None:
            os.unlink(path)
        else:
            write(module, path, content)


def wrong_unit_lines(module: AnsibleModule, paths: list[str]) -> list[str]:
    """Return what systemd would ignore in units and drop-ins, as lines that begin with file and line number.

    Each is read as a unit of its own: what it is a drop-in of may not be installed yet.
    """
    units = {path: found[1] for path in paths if (found := UNIT.fullmatch(os.path.relpath(path, UNIT_FOLDER)))}
    if not units or not (analyze := module.get_bin_path("systemd-analyze")):
        return []
    with tempfile.TemporaryDirectory(prefix="slipway-units-") as folder:
        # No name of another unit, and none that there are drop-ins for.
        names = {f"{folder}/slipwayverify{number}.{units[path]}": path for number, path in enumerate(units)}
        for name, path in names.items():
            shutil.copyfile(path, name)
        _, out, err = module.run_command([analyze, "verify", "--man=no", *names])
    found = []
    for line in (out + err).splitlines():
        name, _, rest = line.partition(":")
        if name in names and rest[:1].isdigit():
            found.append(f"{names[name]}:{rest}")
    return found


def where(output: list[str], paths: list[str]) -> list[str]:
    """Return the lines of the files that `output` is about, where it quotes a setting's name and not its line."""
    names = {name for line in output for name in re.findall(r'"([A-Za-z_][\w.]*)"', line)}
    found = []
    for path in paths:
        with open(path, encoding="utf-8", errors="replace") as file:
            for number, line in enumerate(file, 1):
                if re.split(r"[\s=]", line.strip(), maxsplit=1)[0] in names:
                    found.append(f"{path}:{number}: {line.strip()}")
    return found


def refusal(module: AnsibleModule, written: dict[str, bytes | None]) -> tuple[str, list[str]]:
    """Return what refuses the files that were written, and its words; both are empty when nothing does."""
    if lines := wrong_unit_lines(module, list(written)):
        return "systemd", lines
    command = module.params["validate"]
    if not command:
        return "", []
    code, out, err = module.run_command(command)
    if code == 0:
        return "", []
    lines = (err or out).splitlines()
    shown = [file["path"] for file in module.params["files"] if not file["secret"] and os.path.isfile(file["path"])]
    return "the validation" if command[0] == "sh" else command[0], lines + where(lines, shown)


def main() -> None:
    """Run the module."""
    path = {"type": "path", "required": True}
    module = AnsibleModule(
        argument_spec={
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": path, **ATTRIBUTES, "hand_down_group": {"type": "bool", "default": False}},
            },
            # The action has validated it.
            "own": {"type": "dict"},
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {
                    "path": path,
                    "content": {"type": "str", "required": True},
                    "secret": {"type": "bool", "default": False},
                    **ATTRIBUTES,
                },
            },
            "only": {
                "type": "dict",
                "options": {
                    "pattern": {"type": "path", "required": True},
                    "keep": {"type": "list", "elements": "path", "required": True},
                },
            },
            "absent": {"type": "list", "elements": "path", "default": []},
            "validate": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    # The login's umask does not decide who can enter a directory of the site.
    os.umask(0o022)
    changed, diff = [], []
    written: dict[str, bytes | None] = {}
    for folder in module.params["folders"]:
        missing = not os.path.isdir(folder["path"])
        if missing:
            make_directory(module, folder["path"], 0o755)
        if folder.get("hand_down_group") and not module.check_mode:
            status = os.stat(folder["path"])
            if not status.st_mode & stat.S_ISGID or status.st_gid != grp.getgrnam(folder["group"]).gr_gid:
                hand_down_group(module, folder)
        # A dry run cannot say more of what is not there yet.
        if missing | (not (missing and module.check_mode) and set_attributes(module, folder, "0755")):
            changed.append(folder["path"])

    if own := module.params.get("own"):
        changed += [path for path in own["paths"] if make_own(module, path, own["user"], own["adopt"])]
    for file in module.params["files"]:
        content = file["content"].encode()
        try:
            with open(file["path"], "rb") as current:
                before = current.read()
        except FileNotFoundError:
            before = None
        if before != content:
            headers = {"before_header": file["path"], "after_header": file["path"]}
            if not file["secret"]:
                diff.append({"before": (before or b"").decode(errors="replace"), "after": file["content"], **headers})
            if not module.check_mode:
                write(module, file["path"], content)
                written[file["path"]] = before
        dry = module.check_mode and before is None
        if (not dry and set_attributes(module, file, "0644")) | (before != content):
            changed.append(file["path"])
    if written:
        refused_by, lines = refusal(module, written)
        if refused_by:
            restore(module, written)
            module.fail_json(
                msg=f"the new configuration is refused by {refused_by}, and the previous files were restored",
                refused_with=lines,
            )
    for unwanted in filter(os.path.lexists, module.params["absent"]):
        changed.append(unwanted)
        if not module.check_mode:
            os.unlink(unwanted)
    only = module.params["only"]
    for unwanted in sorted(set(glob.glob(only["pattern"])) - set(only["keep"])) if only else []:
        changed.append(unwanted)
        if not module.check_mode:
            shutil.rmtree(unwanted)
    module.exit_json(changed=bool(changed), changed_paths=changed, diff=diff)


if __name__ == "__main__":
    main()
