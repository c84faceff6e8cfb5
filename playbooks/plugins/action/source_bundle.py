"""Pack a source tree on the control node, and name it by what is in it.

    source_bundle:
      path: "{{ playbook_dir }}/../app"
      exclude: ["docs/*", "*.md"]
    register: bundle

Returns `digest` (SHA-256 over the sorted paths, the executable bits, the targets of links and the contents),
`archive` (a .tar.gz of the tree, removed when Ansible ends), `files` and `size`. The same content has the
same digest in any folder, under any umask and at any time, with git or without.

Left out: what git ignores, when the folder is in a work tree and git is installed; what belongs to a checkout
or a machine rather than to the source (see LEFT_OUT); and the patterns of `exclude`, which are held against
each name in a path or, when they have a slash, against the whole path. Untracked files are part of the tree.
A submodule is packed as it is checked out.
"""

from __future__ import annotations

import gzip
import hashlib
import os
import shutil
import stat
import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

LEFT_OUT = (
    *(".git", ".hg", ".svn", ".bzr", ".jj", "CVS"),
    *("__pycache__", "*.py[co]", ".venv", "venv", "node_modules", ".env*"),
    *(".mypy_cache", ".pytest_cache", ".ruff_cache", ".tox", ".nox", ".coverage", "*.egg-info"),
    *(".idea", ".vscode", "*.sw[op]", "*~", ".#*", "#*#", ".DS_Store"),
)
# Of no meaning, but some tools refuse files from before 1980.
MODIFIED = 315532800


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
    if in_git:
        listing = run_git(folder, "ls-files", "--cached", "--others", "--exclude-standard", "-z")
        if listing.returncode:
            raise AnsibleActionFail(f"git cannot list the files of {folder}: {listing.stderr.strip()}")
        entries = {entry.rstrip("/") for entry in listing.stdout.split("\0") if entry}
    else:
        entries = {
            os.path.relpath(os.path.join(parent, name), folder)
            for parent, folders, files in os.walk(folder)
            for name in (*files, *(name for name in folders if os.path.islink(os.path.join(parent, name))))
        }
    for entry in entries:
        found = folder / entry
        if is_left_out(prefix + entry, patterns) or not os.path.lexists(found):
            continue  # git still lists a file whose removal is not committed
        if found.is_symlink() or not found.is_dir():
            yield prefix + entry
        elif any(found.iterdir()):
            yield from list_files(found, patterns, f"{prefix}{entry}/")  # git does not look inside another repository
        else:
            raise AnsibleActionFail(f"the submodule {found} is not there: run 'git submodule update --init'")


def pack(folder: Path, paths: list[str], archive: IO[bytes]) -> str:
    """Write the archive in one reading of the files, and return the digest of the tree."""
    tree = hashlib.sha256()
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
                    reader = HashingReader(file)
                    tar.addfile(member, reader)  # type: ignore[arg-type]
                kind, content = b"executable" if executable else b"file", reader.hash
            else:
                raise AnsibleActionFail(f"{source} is neither a file nor a link")
            # A path holds no NUL, and the rest has a fixed form: no two trees give the same record.
            tree.update(b"%s %s %s\0" % (kind, content.hexdigest().encode(), os.fsencode(path)))
    return tree.hexdigest()


class ActionModule(ActionBase):
    """Pack a folder of the control node."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the digest and the archive of the tree; check mode is no different."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "path": {"type": "path", "required": True},
                "exclude": {"type": "list", "elements": "str", "default": []},
            }
        )
        folder = Path(self._loader.path_dwim(arguments["path"]))
        if not folder.exists():
            raise AnsibleActionFail(f"the source folder {folder} does not exist on the control node")
        if not folder.is_dir():
            raise AnsibleActionFail(f"the source {folder} is not a folder")
        paths = sorted(list_files(folder, (*LEFT_OUT, *arguments["exclude"])), key=os.fsencode)
        if not paths:
            raise AnsibleActionFail(f"the source folder {folder} has no files, or git ignores them all")
        descriptor, archive = tempfile.mkstemp(dir=C.DEFAULT_LOCAL_TMP, prefix="source-", suffix=".tar.gz")
        try:
            with os.fdopen(descriptor, "wb") as file:
                digest = pack(folder, paths, file)
        except OSError as error:
            raise AnsibleActionFail(f"the source folder {folder} cannot be read: {error}") from error
        return result | {
            "changed": False,
            "digest": digest,
            "archive": archive,
            "files": len(paths),
            "size": os.path.getsize(archive),
        }
