"""A branch, tag or commit of a repository, by a cache on the control node."""

from __future__ import annotations

import fcntl
import hashlib
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ansible import constants as C

from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError, split_credentials

# A checkout of git on any machine: no conversion of lines by its settings, no program of another.
CHECKOUT = tuple(
    word
    for setting in (
        *("core.autocrlf=false", "core.hooksPath=/dev/null", "advice.detachedHead=false"),
        *("filter.lfs.smudge=", "filter.lfs.process=", "filter.lfs.required=false"),
    )
    for word in ("-c", setting)
)


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
