"""One folder with the static files of all kept releases, the one that Nginx serves.

Pages of the previous release, in a browser or in a cache, ask for its static files after the new one serves. Where two
releases have a file of one name, that of the named release wins.

Nginx makes the validator of a file (its ETag) from size and time. The time is made from the content here, so that a
file has one validator on all hosts, whenever they got it, and keeps it as long as its content is the same.
"""

from __future__ import annotations

import glob
import hashlib
import os
import shutil

from ansible_collections.slipway.kit.plugins.module_utils.release.store import MARKER


def files_below(folder: str) -> dict[str, str]:
    """Return the files below `folder`, which may be a link: path relative to it, and full path."""
    return {
        os.path.relpath(os.path.join(top, name), folder): os.path.join(top, name)
        for top, _, names in os.walk(folder)
        for name in names
        # A link that leads nowhere is nobody's file.
        if os.path.isfile(os.path.join(top, name))
    }


def time_of(path: str) -> int:
    """Return the time that stands for the content of a file: a second between 2001 and 2017."""
    with open(path, "rb") as file:
        return 978307200 + int(hashlib.file_digest(file, "sha256").hexdigest(), 16) % (16 * 365 * 86400)


def is_same(wanted: str, time: int, present: str) -> bool:
    """Tell whether a file that is there is the one that is wanted, and has its time."""
    there = os.stat(present)
    return there.st_size == os.path.getsize(wanted) and there.st_mtime == time


def parents(path: str, folder: str) -> list[str]:
    """Return the folders that `path` is in, from below `folder` on."""
    names = os.path.relpath(path, folder).split("/")[:-1]
    return [os.path.join(folder, *names[: count + 1]) for count in range(len(names))]


def unite(folder: str, release: str, dry: bool = False) -> list[str]:
    """Hold the folder of an application's static files equal to those of all complete releases.

    Return what was to be written or removed, nothing if all was as it should be. `release` is the one that wins; `dry`
    is whether only to find out.
    """
    destination = os.path.join(folder, "static")
    markers = sorted(glob.glob(f"{glob.escape(folder)}/releases/*/{MARKER}"), key=os.path.getmtime)
    wanted: dict[str, str] = {}
    for path in [*(os.path.dirname(marker) for marker in markers), release]:
        wanted.update(files_below(os.path.join(path, "static")))
    present = files_below(destination)

    times = {name: time_of(path) for name, path in wanted.items()}
    written = [name for name in wanted if name not in present or not is_same(wanted[name], times[name], present[name])]
    removed = sorted(present.keys() - wanted.keys())
    for name in written if not dry else []:
        target = os.path.join(destination, name)
        # One release may have a folder where another has a file.
        for above in parents(target, destination):
            if os.path.isfile(above):
                os.unlink(above)
        if os.path.isdir(target):
            shutil.rmtree(target)
        os.makedirs(os.path.dirname(target), mode=0o755, exist_ok=True)
        shutil.copyfile(wanted[name], f"{target}.new")
        os.utime(f"{target}.new", (times[name], times[name]))
        os.chmod(f"{target}.new", 0o644)
        os.replace(f"{target}.new", target)
    for name in removed if not dry else []:
        path = os.path.join(destination, name)
        if os.path.lexists(path) and not os.path.isdir(path):
            os.unlink(path)
    return written + removed
