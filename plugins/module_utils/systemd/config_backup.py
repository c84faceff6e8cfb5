"""Keep a copy of the configuration files that a service last started with, and restore it."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterable

from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically

# Every template begins with it. A file without it is a package's or the operator's, and is left alone.
MARK = b"Ansible managed"
# The state that playbooks keep for Nginx; one that an older copy lacks stays.
STATE = b"# State of this host, kept by Slipway."
HEAD_BYTES = 512


def is_managed(file: str, *marks: bytes) -> bool:
    """Tell whether `file` is a regular file, not reached by a link, that has one of the marks in its head."""
    if not os.path.isfile(file) or os.path.realpath(file) != file:
        return False
    with open(file, "rb") as content:
        head = content.read(HEAD_BYTES)
    return any(mark in head for mark in marks)


def files_in(paths: Iterable[str], *marks: bytes) -> set[str]:
    """Return the files with one of the marks among `paths` and in the directories among them."""
    files = set()
    for path in paths:
        files |= {path, *(os.path.join(top, name) for top, _, names in os.walk(path) for name in names)}
    return {file for file in files if is_managed(file, *marks)}


def save(archive: str, paths: Iterable[str]) -> None:
    """Write the files of `paths` to the tar file `archive`, which only root can read."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for file in sorted(files_in(paths, MARK, STATE)):
            tar.add(file, arcname=file.lstrip("/"), recursive=False)
    write_atomically(archive, buffer.getvalue(), mode=0o600)


def restore(archive: str, paths: Iterable[str]) -> list[str]:
    """Make the files of `paths` what they are in `archive`; return those that were changed or removed.

    Without an archive nothing is done.
    """
    if not os.path.exists(archive):
        return []
    changed, kept = [], set()
    with tarfile.open(archive) as tar:
        for member in tar.getmembers():
            path = f"/{member.name}"
            kept.add(path)
            file = tar.extractfile(member)
            content = file.read() if file else b""
            try:
                with open(path, "rb") as current:
                    same = current.read() == content
            except FileNotFoundError:
                same = False
            if not same:
                os.makedirs(os.path.dirname(path), mode=0o755, exist_ok=True)
                write_atomically(path, content, member.mode, member.gid, member.uid)
                changed.append(path)
    for path in files_in(paths, MARK) - kept:
        os.unlink(path)
        changed.append(path)
    return sorted(changed)
