"""The source of an application from any kind of source, once in a run."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from ansible import constants as C
from ansible.errors import AnsibleActionFail

from ansible_collections.slipway.kit.plugins.plugin_utils.source import requirements as reader
from ansible_collections.slipway.kit.plugins.plugin_utils.source.archive import UNPACK_ERRORS, fetch, unpack
from ansible_collections.slipway.kit.plugins.plugin_utils.source.git import Repository, locked
from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import Found, SourceError, Wanted
from ansible_collections.slipway.kit.plugins.plugin_utils.source.paths import inside, walk
from ansible_collections.slipway.kit.plugins.plugin_utils.source.tree import (
    LEFT_OUT,
    list_files,
    list_included,
    pack,
    run_git,
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
