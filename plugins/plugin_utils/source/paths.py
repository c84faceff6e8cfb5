"""Files and links that are written in a directory, and none outside of it."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import IO

from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError

LINK_SIZE = 4096  # bytes of the longest path that a link may lead to


def inside(name: str) -> str:
    """Return the path of an archive's member, or refuse one that would lead out of the folder."""
    path = os.path.normpath(name)
    if os.path.isabs(name) or path.split("/")[0] == "..":
        raise SourceError("source", f"has a file that would be written outside of its folder: {name}")
    return path


def place(folder: Path, name: str) -> Path:
    """Return where a member belongs, with its folder made; no link may stand in the way."""
    path = folder / inside(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.parent.resolve() != folder.resolve() / path.parent.relative_to(folder) or path.is_symlink():
        raise SourceError("source", f"has a file that would be written through a link: {name}")
    return path


def place_file(folder: Path, name: str, content: IO[bytes], executable: bool) -> None:
    """Write a file of an archive."""
    path = place(folder, name)
    with path.open("wb") as file:
        shutil.copyfileobj(content, file)
    path.chmod(0o755 if executable else 0o644)


def place_link(folder: Path, name: str, target: str) -> None:
    """Make a link of an archive, which must lead to a place in the folder."""
    path = place(folder, name)
    end = os.path.normpath(os.path.join(os.path.dirname(inside(name)), target))
    if os.path.isabs(end) or end.split("/")[0] == "..":
        raise SourceError("source", f"has a link that leads out of its folder: {name}")
    path.symlink_to(target)


def walk(folder: Path) -> Iterator[str]:
    """Yield the relative paths of all files and links in a folder."""
    for parent, folders, files in os.walk(folder):
        for name in (*files, *(name for name in folders if os.path.islink(os.path.join(parent, name)))):
            yield os.path.relpath(os.path.join(parent, name), folder)
