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

from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically

MARKER = ".complete"
# The one lock of a host: who deploys stands in it, and a module that changes releases has it locked (flock).
LOCK = "deploy.lock"
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


def open_lock(folder: str) -> int:
    """Return a descriptor of the lock of an application's folder, made with nobody in it where there is none yet."""
    path = os.path.join(folder, LOCK)
    os.makedirs(folder, mode=0o755, exist_ok=True)
    if not os.path.lexists(path):
        draft = f"{path}.{os.getpid()}"
        write_atomically(draft, b"{}\n", 0o600)
        try:
            # Made whole or not at all: an empty one is damaged.
            os.link(draft, path)
        except FileExistsError:
            pass
        finally:
            os.unlink(draft)
    # Root's alone: whoever can open a file can lock it.
    os.chmod(path, 0o600)
    return os.open(path, os.O_RDWR)


@contextmanager
def deploy_lock(folder: str, timeout: int = LOCK_TIMEOUT) -> Iterator[int]:
    """Be the only one that changes the releases; a module of a run that was killed may still be at work.

    Yields the descriptor of the lock, for who reads or writes who deploys.
    """
    with os.fdopen(open_lock(folder), "r+b") as file:
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
        yield file.fileno()


def read_holder(folder: str) -> dict[str, Any]:
    """Return who deploys, as `owner`, `since` and `expires` (seconds since the epoch); nothing when nobody does.

    Of a lock that cannot be read nobody knows whether it is held: then `unreadable` says why, and it counts as held.
    """
    path = os.path.join(folder, LOCK)
    try:
        with open(path, "rb") as file:
            content = json.loads(file.read())
    except FileNotFoundError:
        return {}
    except OSError as error:
        return {"unreadable": error.strerror or str(error)}
    except ValueError:
        return {"unreadable": "it is empty or damaged"}
    if content == {}:
        return {}
    owner = content.get("owner") if isinstance(content, dict) else None
    if (
        isinstance(owner, dict)
        and all(isinstance(owner.get(name), str) for name in ("by", "machine", "pid", "started"))
        and all(isinstance(content.get(name), int) for name in ("since", "expires"))
    ):
        return content
    return {"unreadable": "it does not say who holds it"}


def write_holder(lock: int, holder: dict[str, Any]) -> None:
    """Write who deploys into a lock that is locked; `lock` is its descriptor. It is on the disk when this returns.

    In place, as others wait for the lock of this very file. What a crash leaves of it counts as held.
    """
    content = json.dumps(holder).encode() + b"\n"
    os.pwrite(lock, content, 0)
    os.ftruncate(lock, len(content))
    os.fsync(lock)
