"""Get the application's source on the control node: one archive and its digest, the same for all hosts of a run.

    slipway.kit.release_source:
      refuse: true     # false: tell what is wrong as `error` and `variable`, for preflight
    register: source

It reads the role's variables (django_app_source_type, _source, _version, _archive_checksum, ...) itself: preflight
calls it before they are known to be sound, and the deploy key must be in no task's arguments. Returns

- `digest`: SHA-256 over the sorted paths, the executable bits, the targets of links and the contents. The same content
  has the same digest from any kind of source, in any folder, under any umask and at any time;
- `archive`: a .tar.gz of the tree, removed when Ansible ends;
- `description`: where it came from, in words for the log; `commit`, `files`, `size`;
- `missing`: what the other variables name in the source and is not in it;
- `unlocked`: the requirements that come without a hash;
- `faults`: what cannot be installed, each with `variable` and `why`; where this is judged by a version of Python, by
  that of the host that builds;
- `installation`: what the requirement files say, for release_build (see Requirements);
- `environment`: a digest of django_app_build_environment, empty where that is;
- `scm`: the version of the project by git, where a tool of its build asks git and the source is installed;
- `run`: a name for this run, which no other has.

The first host that asks does the work; the others of the run get what it found, even if the source changes meanwhile.

folder   In a work tree of git: all tracked files, and untracked ones that git does not ignore and that do not belong to
         a checkout or a machine (LEFT_OUT). Elsewhere, all files but LEFT_OUT. A submodule is packed as it is. What
         django_app_include_ignored names is added.
git      The one branch, tag or commit is fetched, without history, into a cache of the control node; the tree is what a
         checkout has. The attributes export-ignore and export-subst have no effect, as in a folder.
archive  A tar or zip file, here or on a web server, held to its checksum. A single folder at its top is not part of the
         tree.
package  The tree is empty: the application is among the Python packages.

Pointers of Git LFS in place of files are refused: the same commit would have two trees.
"""

from __future__ import annotations

import fcntl
import gzip
import hashlib
import json
import lzma
import os
import re
import shutil
import stat
import subprocess
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import IO, Any
from urllib.parse import unquote, urlsplit, urlunsplit

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.module_utils.urls import open_url
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils import requirement_files as reader

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
LINK_SIZE = 4096  # bytes of the longest path that a link may lead to
UNPACK_ERRORS = (
    *(OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError),
    *(RuntimeError, NotImplementedError),  # of a zip file that is encrypted, or compressed in an unknown way
)
# A checkout of git on any machine: no conversion of lines by its settings, no program of another.
CHECKOUT = tuple(
    word
    for setting in (
        *("core.autocrlf=false", "core.hooksPath=/dev/null", "advice.detachedHead=false"),
        *("filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false"),
    )
    for word in ("-c", setting)
)


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


class SourceError(Exception):
    """What is wrong with the source: the variable that says it, and why."""

    def __init__(self, variable: str, why: str) -> None:
        super().__init__(why)
        self.variable = f"django_app_{variable}"


@dataclass(frozen=True)
class Wanted:
    """What the variables ask for."""

    type: str = "folder"
    source: str = ""
    version: str = ""
    archive_checksum: str = ""
    include_ignored: list[str] = field(default_factory=list)
    directory: str = ""
    requirements: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    install_project: bool = False
    install_command: bool = False
    manage: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    packages: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The source without the password that a URL may have in it."""
        return split_credentials(self.source)[0]


@dataclass(frozen=True)
class Found:
    """The source as one archive."""

    digest: str
    archive: str
    description: str
    commit: str
    files: int
    size: int
    missing: list[str]
    unlocked: list[str]
    faults: list[dict[str, str]]
    pythons: dict[str, str]
    installation: dict[str, Any]
    scm: dict[str, str]


def split_credentials(url: str) -> tuple[str, str, str]:
    """Return a URL without user and password, and these two; what is no http URL is left as it is."""
    if not re.match(r"https?://", url):
        return url, "", ""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(name), unquote(password)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold a lock among the processes of this machine."""
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


class Repository:
    """A git repository, by way of a bare copy that is kept on the control node."""

    def __init__(self, url: str, key: str, cache: Path) -> None:
        """Take the repository's URL, the deploy key (empty: none) and the folder of the copies."""
        self.url, self._user, self._password = split_credentials(url)
        self._key = key
        self.tag = ""  # the version, where it is a tag
        self._folder = cache / f"{hashlib.sha256(self.url.encode()).hexdigest()[:16]}.git"

    @contextmanager
    def opened(self) -> Iterator[None]:
        """Have the copy to oneself and the key in a file."""
        self._folder.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        with locked(self._folder.with_suffix(".lock")), tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP) as folder:
            self._environment = self._make_environment(Path(folder))
            self.git("init", "--quiet", "--bare", str(self._folder), within=False)
            yield

    def _make_environment(self, folder: Path) -> dict[str, str]:
        """Return the environment of git: it asks nobody, and no secret is an argument of a process."""
        ours = ("GIT_SSH", "GIT_CONFIG_GLOBAL", "GIT_CONFIG_SYSTEM", "GIT_SSL", "GIT_PROXY", "GIT_TRACE")
        environment = {
            name: value for name, value in os.environ.items() if not name.startswith("GIT_") or name.startswith(ours)
        }
        environment |= {"GIT_TERMINAL_PROMPT": "0", "LC_ALL": "C.UTF-8"}
        if self._key:
            file = folder / "key"
            file.touch(mode=0o600)
            file.write_text(self._key.strip() + "\n", encoding="utf-8")
            environment["GIT_SSH_COMMAND"] = f"ssh -i '{file}' -o IdentitiesOnly=yes -o BatchMode=yes"
        else:
            environment.setdefault("GIT_SSH_COMMAND", "ssh -o BatchMode=yes")
        if self._user or self._password:
            # For this server alone: a submodule may be on another.
            server = "/".join(self.url.split("/")[:3])
            helper = '!f() { echo "username=$SLIPWAY_GIT_USER"; echo "password=$SLIPWAY_GIT_PASSWORD"; }; f'
            environment |= {
                "GIT_CONFIG_COUNT": "2",
                "GIT_CONFIG_KEY_0": f"credential.{server}.helper",
                "GIT_CONFIG_VALUE_0": "",
                "GIT_CONFIG_KEY_1": f"credential.{server}.helper",
                "GIT_CONFIG_VALUE_1": helper,
                "SLIPWAY_GIT_USER": self._user,
                "SLIPWAY_GIT_PASSWORD": self._password,
            }
        return environment

    def try_git(self, *arguments: str, within: bool = True, folder: str = "") -> subprocess.CompletedProcess[str]:
        """Run git, in the copy unless said otherwise."""
        # A copy in another user's cache folder and local repositories are as good as any.
        settings = ["-c", "safe.directory=*", "-c", "gc.auto=0", *CHECKOUT]
        place = [f"--git-dir={self._folder}"] if within else ["-C", folder] if folder else []
        return subprocess.run(
            ["git", *settings, *place, *arguments],
            env=self._environment, stdin=subprocess.DEVNULL, capture_output=True, check=False, encoding="utf-8",
            errors="replace",
        )  # fmt: skip

    def git(self, *arguments: str, within: bool = True, folder: str = "") -> str:
        """Run git and return what it wrote, or refuse the source with git's own words."""
        done = self.try_git(*arguments, within=within, folder=folder)
        if done.returncode:
            said = " ".join((done.stderr or done.stdout).split())
            raise SourceError("source", f"cannot be fetched: git says for {self.url}: {said}")
        return done.stdout.strip()

    def resolve(self, version: str) -> tuple[str, str]:
        """Return the commit that a branch, tag or commit is now, and the name to call it by."""
        commit = re.fullmatch(r"[0-9a-f]{4,40}", version)
        # What a whole commit is never changes.
        if commit and len(version) == 40 and self._commit(version):
            return version, version[:12]
        if names := self._names(version):
            self.tag = version if names[0].startswith("refs/tags/") else ""
            return self._fetch(names[0]), version or "HEAD"
        if commit:
            if len(version) == 40:
                self._try_fetch(version)
            if not self._commit(version):  # one that the server gives only with what leads to it, or the start of one
                self.fetch_history()
            if len(version) == 40 and not self._commit(version):  # one that no branch leads to
                self.try_git("fetch", "--quiet", "--no-tags", "--end-of-options", self.url, version)
            if found := self._commit(version):
                return found, version[:12]
        raise SourceError(
            "version",
            f"is neither a branch nor a tag nor a commit of {self.url}: write one that is there, or push it first",
        )

    def _names(self, version: str) -> list[str]:
        """Return the full names that the repository has for a branch or tag, the branch first; of none, its HEAD."""
        wanted = [f"refs/heads/{version}", f"refs/tags/{version}"] if version else ["HEAD"]
        listed = self.git("ls-remote", "--end-of-options", self.url, *wanted, within=False)
        there = {line.partition("\t")[2] for line in listed.splitlines()}
        return [name for name in wanted if name in there]

    def _fetch(self, name: str) -> str:
        """Fetch one branch or tag, without the history that is not here, and return its commit."""
        target = "refs/slipway/wanted"
        self.git(
            "fetch", "--quiet", "--force", "--no-tags", *self._depth(), "--end-of-options", self.url,
            f"+{name}:{target}",
        )  # fmt: skip
        return self._commit(target)

    def _try_fetch(self, commit: str) -> None:
        """Fetch one commit, if the server lets one ask for it."""
        self.try_git("fetch", "--quiet", "--no-tags", *self._depth(), "--end-of-options", self.url, commit)

    def _depth(self) -> list[str]:
        """Return the option that leaves history out; a copy that has it stays as it is."""
        has_history = self._commit("refs/slipway/history") and self._is_complete()
        return [] if has_history else ["--depth=1"]

    def _is_complete(self) -> bool:
        return self.git("rev-parse", "--is-shallow-repository") == "false"

    def fetch_history(self) -> None:
        """Fetch all branches and tags with their history."""
        self.git(
            "fetch", "--quiet", "--prune", "--force", "--no-tags", *([] if self._is_complete() else ["--unshallow"]),
            "--end-of-options", self.url,
            "+refs/heads/*:refs/heads/*", "+refs/tags/*:refs/tags/*", "+HEAD:refs/slipway/history",
        )  # fmt: skip

    def describe(self, commit: str) -> str:
        """Return what `git describe --long` says of a commit, empty where no tag leads to it."""
        self.fetch_history()
        done = self.try_git("describe", "--tags", "--long", "--match", "*[0-9]*", commit)
        return done.stdout.strip() if done.returncode == 0 else ""

    def _commit(self, name: str) -> str:
        """Return the commit of a name, empty if there is none."""
        done = self.try_git("rev-parse", "--verify", "--quiet", "--end-of-options", f"{name}^{{commit}}")
        return done.stdout.strip() if done.returncode == 0 else ""

    def write_tree(self, commit: str, folder: Path) -> None:
        """Write what a checkout of a commit has into a folder, with its submodules."""
        # A repository that borrows the objects of the copy.
        self.git("init", "--quiet", "--template=", str(folder), within=False)
        (folder / ".git/objects/info").mkdir(exist_ok=True)
        (folder / ".git/objects/info/alternates").write_text(f"{self._folder.resolve()}/objects\n", encoding="utf-8")
        if (self._folder / "shallow").exists():
            shutil.copyfile(self._folder / "shallow", folder / ".git/shallow")
        self.git("remote", "add", "origin", self.url, within=False, folder=str(folder))
        self.git("checkout", "--quiet", "--detach", commit, within=False, folder=str(folder))
        if (folder / ".gitmodules").exists():
            update = ("submodule", "--quiet", "update", "--init", "--recursive")
            # Not every server gives a commit without what leads to it.
            if self.try_git(*update, "--depth=1", within=False, folder=str(folder)).returncode:
                self.git(*update, within=False, folder=str(folder))
        for path in [*folder.rglob(".git")]:
            shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()


def inside(name: str) -> str:
    """Return the path of an archive's member, or refuse one that would lead out of the folder."""
    path = os.path.normpath(name)
    if os.path.isabs(name) or path.split("/")[0] == "..":
        raise SourceError("source", f"has a file that would be written outside of its folder: {name}")
    return path


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file; nothing is written outside of the folder, and no link leads there."""
    folder.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                unpack_member(tar, member, folder)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for entry in bundle.infolist():
                mode = entry.external_attr >> 16
                if entry.is_dir():
                    continue
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK) or (
                    stat.S_ISLNK(mode) and entry.file_size > LINK_SIZE
                ):
                    raise SourceError(
                        "source", f"has something that is neither a file nor a folder nor a link: {entry.filename}"
                    )
                if stat.S_ISLNK(mode):
                    place_link(folder, entry.filename, os.fsdecode(bundle.read(entry)))
                    continue
                with bundle.open(entry) as content:
                    place_file(folder, entry.filename, content, bool(mode & stat.S_IXUSR))
    else:
        raise SourceError(
            "source", f"is neither a tar file (.tar, .tar.gz, .tar.bz2, .tar.xz) nor a zip file: {archive.name}"
        )


def unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Unpack one member of a tar file."""
    if member.isdir():
        inside(member.name)
    elif member.issym():
        place_link(folder, member.name, member.linkname)
    elif member.isreg() or member.islnk():
        try:
            content = tar.extractfile(member)  # of a hard link, that of the file that it names
        except KeyError:
            content = None
        if content is None:
            raise SourceError("source", f"has a link to a file that is not in it: {member.name}")
        place_file(folder, member.name, content, bool(member.mode & stat.S_IXUSR))
    else:
        raise SourceError("source", f"has something that is neither a file nor a folder nor a link: {member.name}")


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


def fetch(wanted: Wanted, target: Path) -> None:
    """Bring the archive here, and hold it to its checksum."""
    digest = hashlib.sha256()
    try:
        if re.match(r"https?://", wanted.source):
            address, user, password = split_credentials(wanted.source)
            content = open_url(
                address,
                timeout=60,
                url_username=user or None,
                url_password=password or None,
                force_basic_auth=bool(user),
            )
        else:
            content = open(wanted.source, "rb")  # noqa: SIM115 (closed below)
        with content, target.open("wb") as file:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, ValueError, AnsibleError) as error:
        raise SourceError("source", f"cannot be read: {wanted.address}: {error}") from error
    if wanted.archive_checksum and wanted.archive_checksum.lower() != f"sha256:{digest.hexdigest()}":
        raise SourceError(
            "archive_checksum",
            f"is not that of {wanted.address}, which has sha256:{digest.hexdigest()}: write this if it is right",
        )


def list_folder(wanted: Wanted) -> tuple[Path, list[str]]:
    """Return a source folder and the paths of what is source in it."""
    folder = Path(wanted.source)
    if not folder.exists():
        raise SourceError(
            "source", f"the source folder {folder} does not exist on the control node: write the path of one"
        )
    if not folder.is_dir():
        raise SourceError(
            "source", f"the source {folder} is not a folder: with a file, set django_app_source_type: archive"
        )
    try:
        paths = list({*list_files(folder, LEFT_OUT), *list_included(folder, wanted.include_ignored)})
    except AnsibleActionFail as error:
        raise SourceError("source", str(error)) from error
    if not paths:
        raise SourceError("source", f"the source folder {folder} has no files, or git ignores them all")
    return folder, paths


def find_missing(wanted: Wanted, paths: set[str]) -> list[str]:
    """Return what the variables name in the source and is not there."""
    directory = inside(wanted.directory) if wanted.directory else "."
    there = {os.path.normpath(path) for path in paths}
    given = {os.path.normpath(os.path.join(directory, path)) for path in wanted.files}
    script = wanted.manage[1] if len(wanted.manage) > 1 and wanted.manage[1].endswith(".py") else ""
    named = [*wanted.requirements, *([script] if script else [])]
    missing = [
        name for name in named if os.path.normpath(os.path.join(directory, name)) not in there | given
    ]  # fmt: skip
    if directory != "." and not any(path.startswith(f"{directory}/") for path in there | given):
        missing.insert(0, wanted.directory)
    return missing


def read_installation(wanted: Wanted, folder: Path, paths: set[str]) -> Any:
    """Return what the requirement files of the source and of the inventory say."""
    top = folder.resolve()
    given = {os.path.normpath(name): content for name, content in wanted.files.items()}

    def read(name: str) -> str | None:
        if name in given:
            return given[name]
        path = os.path.normpath(os.path.join(inside(wanted.directory or "."), name))
        found = (folder / path).resolve()
        if not found.is_relative_to(top) or not {path, str(found.relative_to(top))} & paths or not found.is_file():
            return None
        try:
            return found.read_text(encoding="utf-8-sig", errors="replace")
        except OSError as error:
            raise SourceError("source", f"{name} cannot be read: {error}") from error

    selection = reader.Selection(
        wanted.requirements, wanted.extras, wanted.groups, wanted.packages, wanted.install_project
    )
    found = reader.read_requirements(selection, read)
    # A member of a workspace may ask git where the project does not.
    projects = [path for path in paths if os.path.basename(path) in reader.PROJECT_FILES]
    found.scm = found.scm or any(
        reader.SCM_TOOL.search((folder / path).read_text(encoding="utf-8", errors="replace"))
        for path in projects
        if (folder / path).is_file()
    )
    return found


def find_version(wanted: Wanted, folder: Path, top: Path, repository: Repository | None, commit: str) -> str:
    """Return the version that the source has by its tag, its directory's name or its history, empty if it has none."""
    if wanted.type == "git" and repository:
        if tagged := reader.tagged_version(repository.tag):
            return str(tagged)
        with repository.opened():
            return reader.version_of(repository.describe(commit))
    if wanted.type == "folder" and shutil.which("git"):
        done = run_git(folder, "describe", "--tags", "--long", "--match", "*[0-9]*")
        return reader.version_of(done.stdout.strip()) if done.returncode == 0 else ""
    told = any((folder / name).exists() for name in ("PKG-INFO", ".git_archival.txt"))
    if wanted.type == "archive" and folder != top and not told:
        return str(reader.tagged_version(folder.name) or "")
    return ""


def get_source(wanted: Wanted, key: str, cache: Path) -> Found:
    """Get the source as an archive in Ansible's own temporary folder."""
    commit, description, repository = "", wanted.address, None
    with tempfile.TemporaryDirectory(dir=C.DEFAULT_LOCAL_TMP, prefix="tree-") as temporary:
        folder = top = Path(temporary) / "tree"
        if wanted.type == "folder":
            folder, paths = list_folder(wanted)
            description = str(folder)
        elif wanted.type == "git":
            if not shutil.which("git"):
                raise SourceError("source_type", "git is not installed on the control node: install its package git")
            repository = Repository(wanted.source, key, cache)
            with repository.opened():
                commit, name = repository.resolve(wanted.version)
                repository.write_tree(commit, folder)
            description = f"{repository.url}@{name} ({commit[:12]})"
            paths = list(walk(folder))
        elif wanted.type == "archive":
            name = os.path.basename(urlsplit(wanted.address).path if "://" in wanted.source else wanted.source)
            file = Path(temporary) / (name or "archive")
            fetch(wanted, file)
            try:
                unpack(file, folder)
            except UNPACK_ERRORS as error:
                raise SourceError("source", f"cannot be unpacked: {wanted.address}: {error}") from error
            entries = list(folder.iterdir())
            if len(entries) == 1 and entries[0].is_dir() and not entries[0].is_symlink():
                folder = entries[0]
            description, paths = name, list(walk(folder))
        else:
            folder.mkdir()
            description, paths = f"packages {', '.join(wanted.packages)}", []
        paths = sorted(paths, key=os.fsencode)
        descriptor, archive = tempfile.mkstemp(dir=C.DEFAULT_LOCAL_TMP, prefix="source-", suffix=".tar.gz")
        try:
            with os.fdopen(descriptor, "wb") as target:
                digest = pack(folder, paths, target)
        except AnsibleActionFail as error:
            raise SourceError("source", str(error)) from error
        except OSError as error:
            raise SourceError("source", f"the source {description} cannot be read: {error}") from error
        installation = read_installation(wanted, folder, set(paths))
        installs_source = installation.local or wanted.install_command
        version = find_version(wanted, folder, top, repository, commit) if installation.scm and installs_source else ""
    faults = [{"variable": f"django_app_{variable}", "why": why} for variable, why in installation.faults]
    return Found(
        digest=digest,
        archive=archive,
        description=description,
        commit=commit,
        files=len(paths),
        size=os.path.getsize(archive),
        missing=[*find_missing(wanted, set(paths)), *installation.missing],
        unlocked=installation.unlocked,
        faults=faults,
        pythons=installation.pythons,
        installation={name: getattr(installation, name) for name in ("files", "locked", "local", "no_project", "git")},
        scm={"version": version, "name": installation.name} if version else {},
    )


def get_source_once(wanted: Wanted, key: str, cache: Path) -> Found:
    """Get the source, or what this run has got already: all of its processes share Ansible's temporary folder."""
    name = hashlib.sha256(json.dumps(asdict(wanted), sort_keys=True).encode()).hexdigest()
    note = Path(C.DEFAULT_LOCAL_TMP) / f"source-{name}.json"
    with locked(note.with_suffix(".lock")):
        if note.exists():
            return Found(**json.loads(note.read_text(encoding="utf-8")))
        found = get_source(wanted, key, cache)
        note.write_text(json.dumps(asdict(found)), encoding="utf-8")
        return found


class ActionModule(ActionBase):
    """Get the source that the role's variables name."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the digest and the archive of the tree; check mode is no different."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec={"refuse": {"type": "bool", "default": True}})
        run = os.path.basename(C.DEFAULT_LOCAL_TMP)
        nothing = {
            "changed": False,
            "error": "",
            "variable": "",
            "missing": [],
            "unlocked": [],
            "faults": [],
            "installation": {"files": {}, "locked": [], "local": False, "no_project": [], "git": False},
            "scm": {},
            "environment": self._digest_environment(task_vars or {}),
            "description": "",
            "run": run,
        }
        try:
            wanted, key = self._read(task_vars or {})
        except (AnsibleError, TypeError, KeyError, ValueError) as error:
            if arguments["refuse"]:
                raise AnsibleActionFail(f"the variables of the source are not in order: {error}") from error
            return result | nothing  # preflight says of the variables themselves what is wrong
        cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache", "slipway/sources")
        try:
            found = get_source_once(wanted, key, cache)
        except SourceError as error:
            if arguments["refuse"]:
                raise AnsibleActionFail(f"{error.variable} {error}") from error
            return result | nothing | {"error": str(error), "variable": error.variable}
        if found.missing and arguments["refuse"]:
            raise AnsibleActionFail(f"not in the source {found.description}: {', '.join(found.missing)}")
        faults = found.faults + self._refuse_python(found.pythons, task_vars or {})
        if faults and arguments["refuse"]:
            raise AnsibleActionFail("; ".join(f"{fault['variable']} {fault['why']}" for fault in faults))
        # An installation command may fetch from git too, and a key is given for nothing else.
        installation = found.installation | {"git": found.installation["git"] or self._has_key(task_vars or {})}
        return result | nothing | asdict(found) | {"faults": faults, "installation": installation}

    def _digest_environment(self, variables: Mapping[str, Any]) -> str:
        """Return a digest of the environment of the build, in which there may be secrets."""
        try:
            environment = self._templar.template(variables.get("django_app_build_environment", {}))
            content = json.dumps(environment, sort_keys=True) if environment else ""
        except (AnsibleError, TypeError, ValueError):
            return ""  # preflight says what is wrong with it
        return hashlib.sha256(content.encode()).hexdigest() if content else ""

    def _has_key(self, variables: Mapping[str, Any]) -> bool:
        try:
            return bool(self._templar.template(variables.get("django_app_build_git_key", "")))
        except AnsibleError:
            return False

    def _refuse_python(self, pythons: dict[str, str], variables: Mapping[str, Any]) -> list[dict[str, str]]:
        """Return a fault if the source does not admit the Python that it is installed for; unknown, it is no fault."""
        facts = variables.get("ansible_facts", {})
        program = str(self._templar.template(variables.get("django_app_python", "")))
        if program:
            version = facts.get("preflight_python", {}).get(program, "")
        else:
            stated = self._templar.template(variables.get("django_app_python_version", ""))
            version = stated or facts.get("python_version", "")
        refused = reader.refused_pythons(pythons, version) if version else []
        if not refused:
            return []
        why = f"{'; '.join(refused)}, and {program or 'the Python of the host that builds'} is {version}"
        return [{"variable": "django_app_python", "why": why}]

    def _read(self, variables: Mapping[str, Any]) -> tuple[Wanted, str]:
        """Return what the variables ask for, and the deploy key."""

        def read(name: str, kind: type, default: Any) -> Any:
            value = self._templar.template(variables.get(f"django_app_{name}", default))
            if not isinstance(value, kind):
                raise TypeError(f"django_app_{name} is not what it should be")
            return value

        kind, source = read("source_type", str, "folder"), read("source", str, "")
        if kind not in ("folder", "git", "archive", "package") or bool(source) == (kind == "package"):
            raise ValueError("django_app_source does not fit django_app_source_type")
        if kind == "folder" or (kind == "archive" and not re.match(r"https?://", source)):
            source = self._loader.path_dwim(source)
        files = {
            os.fspath(file["path"]): str(file["content"])
            for file in read("files", list, [])
            if not file["path"].startswith("/")
        }
        requirements = [str(name) for name in read("requirements", list, [])]
        if kind == "package":
            requirements = [name for name in requirements if name in files]
        return Wanted(
            type=kind,
            source=str(source),
            version=str(read("version", str, "")) if kind == "git" else "",
            archive_checksum=str(read("archive_checksum", str, "")) if kind == "archive" else "",
            include_ignored=[str(name) for name in read("include_ignored", list, [])] if kind == "folder" else [],
            directory=str(read("directory", str, "")),
            extras=[str(name) for name in read("extras", list, [])],
            groups=[str(name) for name in read("dependency_groups", list, [])],
            install_project=read("install_project", bool, False),
            install_command=bool(read("install_command", list, [])),
            requirements=requirements if not read("install_command", list, []) else [],
            manage=[str(word) for word in read("manage", list, [])],
            files=files,
            packages=[str(name) for name in read("python_packages", list, [])],
        ), str(read("git_key", str, ""))
