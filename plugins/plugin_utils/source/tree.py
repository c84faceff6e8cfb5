"""The files of a tree: which belong to the source, and one archive of them with its digest."""

from __future__ import annotations

import gzip
import hashlib
import os
import re
import shutil
import stat
import subprocess
import tarfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO

from ansible.errors import AnsibleActionFail

from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError
from ansible_collections.slipway.kit.plugins.plugin_utils.source.paths import inside, walk

LEFT_OUT = (
    *(".git", ".hg", ".svn", ".bzr", ".jj", "CVS"),
    *("__pycache__", "*.py[co]", ".venv", "venv", "node_modules", ".env*"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".coverage", "*.egg-info"),
    *(".idea", ".vscode", "*.sw[op]", "*~", ".#*", "#*#", ".DS_Store"),
)
# Of no meaning, but some tools refuse files from before 1980.
MODIFIED = 315532800
LFS_POINTER = re.compile(
    rb"version https://git-lfs\.github\.com/spec/v1\n(?:.+\n)*?oid sha256:[0-9a-f]{64}\nsize \d+\n"
)
LFS_POINTER_SIZE = 1024


class HashingReader:
    """A file that feeds a hash with what is read from it, so that what is hashed is what is packed."""

    def __init__(self, file: IO[bytes]) -> None:
        """Take the file."""
        self._file = file
        self.hash = hashlib.sha256()

    def read(self, size: int = -1) -> bytes:
        """Read up to size bytes."""
        data = self._file.read(size)
        self.hash.update(data)
        return data


def is_left_out(path: str, patterns: tuple[str, ...]) -> bool:
    """Tell whether a relative path is matched by one of the patterns, itself or by a folder that it is in."""
    names = path.split("/")
    paths = ["/".join(names[:count]) for count in range(1, len(names) + 1)]
    return any(
        fnmatchcase(candidate, pattern.strip("/"))
        for pattern in patterns
        for candidate in (paths if "/" in pattern.rstrip("/") else names)
    )


def run_git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run git on the folder itself, whatever repository the environment names."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    # Without the first setting git refuses a tree of another user, and the digest would depend on who runs
    # Ansible; the second names a program that git would run.
    settings = ("-c", "safe.directory=*", "-c", "core.fsmonitor=false")
    command = ["git", "-C", str(folder), *settings, *arguments]
    return subprocess.run(
        command, env=environment, capture_output=True, check=False, encoding="utf-8", errors="surrogateescape"
    )


def list_files(folder: Path, patterns: tuple[str, ...], prefix: str = "") -> Iterator[str]:
    """Yield the relative paths of the files and links in a folder that belong to the source."""
    in_git = bool(shutil.which("git")) and run_git(folder, "rev-parse", "--is-inside-work-tree").stdout == "true\n"
    tracked: set[str] = set()
    if in_git:
        tracked = list_by_git(folder, "--cached")
        entries = tracked | list_by_git(folder, "--others", "--exclude-standard")
    else:
        entries = {
            os.path.relpath(os.path.join(parent, name), folder)
            for parent, folders, files in os.walk(folder)
            for name in (*files, *(name for name in folders if os.path.islink(os.path.join(parent, name))))
        }
    for entry in entries:
        found = folder / entry
        # What is tracked is source, whatever its name is.
        if (entry not in tracked and is_left_out(prefix + entry, patterns)) or not os.path.lexists(found):
            continue  # git still lists a file whose removal is not committed
        if found.is_symlink() or not found.is_dir():
            yield prefix + entry
        elif any(found.iterdir()):
            yield from list_files(found, patterns, f"{prefix}{entry}/")  # git does not look inside another repository
        else:
            raise AnsibleActionFail(f"the submodule {found} is not there: run 'git submodule update --init'")


def list_by_git(folder: Path, *options: str) -> set[str]:
    """Return the paths that `git ls-files` lists."""
    listing = run_git(folder, "ls-files", *options, "-z")
    if listing.returncode:
        raise AnsibleActionFail(f"git cannot list the files of {folder}: {listing.stderr.strip()}")
    return {entry.rstrip("/") for entry in listing.stdout.split("\0") if entry}


def list_included(folder: Path, include: list[str]) -> set[str]:
    """Return the files at paths that belong to the source although git ignores them."""
    paths = set()
    for name in map(inside, include):
        entry = folder / name
        if not os.path.lexists(entry):
            raise SourceError(
                "include_ignored", f"{name} is not in {folder}: build it first, or take it out of the list"
            )
        if entry.is_symlink() or not entry.is_dir():
            paths.add(name)
        else:
            paths |= {f"{name}/{path}" for path in walk(entry) if not is_left_out(path, LEFT_OUT)}
    return paths


def pack(folder: Path, paths: list[str], archive: IO[bytes]) -> str:
    """Write the archive in one reading of the files, and return the digest of the tree."""
    tree = hashlib.sha256()
    pointers = []
    with (
        gzip.GzipFile(filename="", mode="wb", fileobj=archive, compresslevel=6, mtime=0) as compressed,
        tarfile.open(fileobj=compressed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for path in paths:
            source = folder / path
            status = source.lstat()
            member = tarfile.TarInfo(path)
            member.mtime = MODIFIED
            if stat.S_ISLNK(status.st_mode):
                member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.readlink(source), 0o777
                tar.addfile(member)
                kind, content = b"link", hashlib.sha256(os.fsencode(member.linkname))
            elif stat.S_ISREG(status.st_mode):
                executable = bool(status.st_mode & stat.S_IXUSR)
                member.mode = 0o755 if executable else 0o644
                with source.open("rb") as file:
                    member.size = os.fstat(file.fileno()).st_size
                    hashing = HashingReader(file)
                    tar.addfile(member, hashing)  # type: ignore[arg-type]
                kind, content = b"executable" if executable else b"file", hashing.hash
                if member.size < LFS_POINTER_SIZE and LFS_POINTER.fullmatch(source.read_bytes()):
                    pointers.append(path)
            else:
                raise AnsibleActionFail(f"{source} is neither a file nor a link")
            # A path holds no NUL, and the rest has a fixed form: no two trees give the same record.
            tree.update(b"%s %s %s\0" % (kind, content.hexdigest().encode(), os.fsencode(path)))
    if pointers:
        shown = ", ".join(pointers[:5]) + (f" and {len(pointers) - 5} more" if len(pointers) > 5 else "")
        raise AnsibleActionFail(
            f"has pointers of Git LFS in place of files: {shown}. Run 'git lfs pull' in a checkout on the control node "
            "and deploy that with django_app_source_type: folder, or deploy an archive made of it"
        )
    return tree.hexdigest()
