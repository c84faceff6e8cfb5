"""The releases of an application on a host: their markers, the links to them, and the lock of those who change them."""

from __future__ import annotations

import fcntl
import glob
import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ansible.module_utils.systemd_unit import write_atomically

MARKER = ".complete"
LOCK = ".deploy-lock"
LOCK_TIMEOUT = 600


class LockedError(Exception):
    """Somebody else has been changing the releases for longer than one waits."""


def read_marker(folder: str) -> dict[str, Any] | None:
    """Return what the marker of a release or a virtual environment says, None where it has none: it is unfinished."""
    try:
        with open(os.path.join(folder, MARKER)) as file:
            content = json.load(file)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    return content if isinstance(content, dict) else {}


def write_marker(folder: str, content: dict[str, Any]) -> None:
    """Say that what is in `folder` is complete."""
    write_atomically(os.path.join(folder, MARKER), (json.dumps(content, sort_keys=True) + "\n").encode())


def is_complete(release: str, static_only: bool = False) -> bool:
    """Tell whether a release has all that this host needs of it."""
    marker = read_marker(release)
    if marker is None:
        return False
    if static_only:
        return True
    venv = os.path.join(release, "venv")
    return not marker.get("static_only") and (not os.path.islink(venv) or read_marker(venv) is not None)


def links_to_releases(folder: str) -> list[str]:
    """Return the links in an application's folder that lead to releases: slots, current, candidate, previous."""
    return [
        *(os.path.join(folder, name) for name in ("current", "candidate", "previous")),
        *glob.glob(f"{glob.escape(folder)}/slots/*/*/release"),
    ]


def releases_in_use(folder: str, candidate: bool = True) -> set[str]:
    """Return the real folders of the releases that a link leads to; that of the candidate alone serves nobody yet."""
    links = [link for link in links_to_releases(folder) if candidate or os.path.basename(link) != "candidate"]
    return {os.path.realpath(link) for link in links if os.path.islink(link)}


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
    """Return the releases, but for the newest and those in use, and the virtual environments that no other one has."""
    releases = folders_in(os.path.join(folder, "releases"))
    newest = sorted(filter(completed_at, releases), key=completed_at, reverse=True)[:keep]
    kept = (set(newest) | releases_in_use(folder)) & releases
    venvs = {os.path.realpath(os.path.join(release, "venv")) for release in kept}
    return sorted(releases - kept) + sorted(folders_in(os.path.join(folder, "venvs")) - venvs)


def remove(path: str) -> None:
    """Remove a release or a virtual environment, its marker first: a removal that is cut leaves nothing complete."""
    if completed_at(path):
        os.unlink(os.path.join(path, MARKER))
    shutil.rmtree(path)


def point(link: str, target: str) -> None:
    """Make `link` lead to `target`, by a rename that is done or not done."""
    temporary = f"{link}.new"
    if os.path.lexists(temporary):
        os.unlink(temporary)
    os.symlink(target, temporary)
    os.replace(temporary, link)


def leads_to(link: str, target: str) -> bool:
    """Tell whether `link` is a link to `target`."""
    return os.path.islink(link) and os.path.realpath(link) == os.path.realpath(target)


@contextmanager
def deploy_lock(folder: str, timeout: int = LOCK_TIMEOUT) -> Iterator[None]:
    """Be the only one that changes the releases; a module of a run that was killed may still be at work."""
    os.makedirs(folder, mode=0o755, exist_ok=True)
    # Root's alone: whoever can open a file can lock it.
    descriptor = os.open(os.path.join(folder, LOCK), os.O_WRONLY | os.O_CREAT, 0o600)
    os.fchmod(descriptor, 0o600)
    with os.fdopen(descriptor, "w") as file:
        until = time.monotonic() + timeout
        while True:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                break
            except BlockingIOError:
                if time.monotonic() >= until:
                    raise LockedError(
                        f"another run has been at work in {folder} for {timeout} s: wait until it has ended, or see on "
                        f"the host what it does (fuser -v {folder}/{LOCK})"
                    ) from None
                time.sleep(0.5)
        yield
