#!/usr/bin/python
"""Find secrets that every user of the host can read."""

from __future__ import annotations

import glob
import os
import re
import stat
from collections.abc import Iterable, Iterator
from urllib.parse import quote

from ansible.module_utils.basic import AnsibleModule

DOCUMENTATION = r"""
module: secret_audit
short_description: Find secrets that every user of the host can read
description:
  - Looks into all files below some folders that everybody can read, and into the command lines of all processes, for
    the secrets that it is given, as they stand and as they stand in a URL, and for private keys. It changes nothing.
options:
  secrets: {description: Texts that nobody else shall read; those of less than 16 characters are not looked for.,
            type: list, elements: str, required: true, no_log: true}
  folders: {description: Where to look for the secrets., type: list, elements: path, required: true}
  key_folders: {description: Where to look for private keys., type: list, elements: path, required: true}
author: Slipway contributors
"""

SECRET_LENGTH = 16
LARGEST = 8 * 2**20  # bytes; what is larger is an archive, a log or somebody's upload
PRIVATE_KEY = re.compile(rb"-----BEGIN [A-Z ]*PRIVATE KEY-----\s+[A-Za-z0-9+/=:,\s-]{40,}")


def readable_files(folder: str) -> Iterator[str]:
    """Yield the files below a folder that everybody can reach and read."""
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
        reachable = os.stat(folder).st_mode & stat.S_IXOTH
    except OSError:
        return
    for entry in entries if reachable else []:
        try:
            status = entry.stat(follow_symlinks=False)
        except OSError:
            continue  # it went away meanwhile
        if stat.S_ISDIR(status.st_mode):
            yield from readable_files(entry.path)
        elif stat.S_ISREG(status.st_mode) and status.st_mode & stat.S_IROTH and status.st_size <= LARGEST:
            yield entry.path


def is_reachable(folder: str) -> bool:
    """Tell whether everybody can enter the folders above this one."""
    parts = folder.split("/")
    above = ("/".join(parts[:count]) or "/" for count in range(1, len(parts)))
    return all(os.path.isdir(path) and os.stat(path).st_mode & stat.S_IXOTH for path in above)


def content_of(path: str) -> bytes:
    """Return what is in a file, nothing when it cannot be read."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return b""


def find(secrets: Iterable[str], folders: list[str], key_folders: list[str]) -> list[str]:
    """Return the paths that hold a secret or a key that everybody can read, each with what it holds."""
    texts = {secret for secret in secrets if len(secret) >= SECRET_LENGTH}
    wanted = {form.encode() for text in texts for form in (text, quote(text, safe=""))}
    found = []
    for path in sorted({file for folder in folders if is_reachable(folder) for file in readable_files(folder)}):
        content = content_of(path)
        if any(text in content for text in wanted):
            found.append(f"{path}: a secret of the inventory")
        elif path.startswith(tuple(f"{folder}/" for folder in key_folders)) and PRIVATE_KEY.search(content):
            found.append(f"{path}: a private key")
    commands = ((path, content_of(path)) for path in sorted(glob.glob("/proc/[0-9]*/cmdline")))
    return found + [
        f"{path}: a secret of the inventory" for path, content in commands if any(text in content for text in wanted)
    ]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "secrets": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "folders": {"type": "list", "elements": "path", "required": True},
            "key_folders": {"type": "list", "elements": "path", "required": True},
        },
        supports_check_mode=True,
    )
    found = find(module.params["secrets"], module.params["folders"], module.params["key_folders"])
    module.exit_json(changed=False, found=found)


if __name__ == "__main__":
    main()
