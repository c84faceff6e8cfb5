"""source_bundle: the digest says what is in the tree, and nothing else; the archive holds just that."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tarfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from conftest import ROOT, load_plugin, run_action

plugin = load_plugin("playbooks/plugins/action/source_bundle.py")

FILES = {"manage.py": "x", "app/views.py": "y", "app/ünïcode name.txt": "z", "app/data/big": "0" * 300_000}
LEFT_OUT = [
    *(".hg/store", "app/__pycache__/views.pyc", "app/old.pyc", ".venv/bin/python", "venv/pyvenv.cfg"),
    *(
        "node_modules/x/index.js",
        ".env",
        ".env.local",
        "app/views.py~",
        ".vscode/settings.json",
        ".pytest_cache/x",
    ),
]


def git(folder: Path, *arguments: str) -> None:
    """Run git in a folder, with an identity and without this machine's settings."""
    settings = ["-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "protocol.file.allow=always"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "GIT_CONFIG_NOSYSTEM": "1"}
    subprocess.run(["git", *settings, *arguments], cwd=folder, env=environment, check=True, capture_output=True)


def fill(folder: Path, files: dict[str, str]) -> Path:
    """Write files into a folder."""
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    return folder


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """Return a source tree with an executable file and links."""
    folder = fill(tmp_path / "source", FILES)
    (folder / "manage.py").chmod(0o755)
    (folder / "app/link").symlink_to("views.py")
    (folder / "folder link").symlink_to("app")
    (folder / "dangling").symlink_to("/nowhere")
    return folder


def bundle(folder: Path | str, **arguments: Any) -> dict[str, Any]:
    """Bundle a folder."""
    return run_action(plugin, path=str(folder), **arguments)


def names(result: dict[str, Any]) -> list[str]:
    """Return the names in the archive."""
    with tarfile.open(result["archive"]) as archive:
        return archive.getnames()


EXPECTED = sorted([*FILES, "app/link", "folder link", "dangling"], key=os.fsencode)


def test_archive_holds_the_tree(tree: Path, tmp_path: Path) -> None:
    result = bundle(tree)
    assert names(result) == EXPECTED
    assert (result["changed"], result["files"]) == (False, len(EXPECTED))
    assert result["size"] == os.path.getsize(result["archive"]) < 10_000
    with tarfile.open(result["archive"]) as archive:
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in archive} == {
            (0, 0, "", plugin.MODIFIED)
        }
        # The attribute and not the argument, which Debian 12's Python does not know yet.
        archive.extraction_filter = staticmethod(lambda member, path: member)
        archive.extractall(tmp_path / "unpacked")
    unpacked = tmp_path / "unpacked"
    assert {name: (unpacked / name).read_text(encoding="utf-8") for name in FILES} == FILES
    assert (unpacked / "manage.py").stat().st_mode & 0o777 == 0o755
    assert (unpacked / "app/views.py").stat().st_mode & 0o777 == 0o644
    assert os.readlink(unpacked / "folder link") == "app"
    assert bundle(unpacked)["digest"] == result["digest"]


def test_archive_lies_where_ansible_removes_it(tree: Path) -> None:
    archive = Path(bundle(tree)["archive"])
    assert archive.parent == Path(plugin.C.DEFAULT_LOCAL_TMP)
    assert archive.stat().st_mode & 0o077 == 0
    assert archive.read_bytes()[4:8] == bytes(4), "a time in the header would give each run an archive of its own"


def test_digest_does_not_depend_on_the_checkout(tree: Path, tmp_path: Path) -> None:
    """Another folder, umask, order of creation and time; a work tree of git, committed or not; check mode."""
    first = bundle(tree)
    other = tmp_path / "elsewhere/checkout"
    umask = os.umask(0o077)
    try:
        for name in reversed(EXPECTED):
            (other / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(tree / name, other / name, follow_symlinks=False)
        (other / "manage.py").chmod(0o700)
    finally:
        os.umask(umask)
    os.utime(other / "manage.py", (1, 1))
    (other / "empty folder").mkdir()
    assert bundle(other)["digest"] == first["digest"]
    git(other, "init")
    assert bundle(other)["digest"] == first["digest"]
    git(other, "add", ".")
    git(other, "commit", "-m", "x")
    second = bundle(other)
    assert second["digest"] == first["digest"]
    assert Path(second["archive"]).read_bytes() == Path(first["archive"]).read_bytes()
    assert run_action(plugin, check=True, path=str(other))["digest"] == first["digest"]


@pytest.mark.parametrize(
    "change",
    [
        lambda tree: (tree / "manage.py").write_text("X"),
        lambda tree: (tree / "manage.py").chmod(0o644),
        lambda tree: (tree / "app/views.py").chmod(0o744),
        lambda tree: (tree / "manage.py").rename(tree / "manage2.py"),
        lambda tree: (tree / "new").write_text(""),
        lambda tree: (tree / "app/views.py").unlink(),
        lambda tree: [(tree / "app/link").unlink(), (tree / "app/link").symlink_to("./views.py")],
        lambda tree: [(tree / "app/link").unlink(), (tree / "app/link").write_text("views.py")],
        lambda tree: [(tree / "app/views.py").write_text("x"), (tree / "manage.py").write_text("y")],
    ],
)
def test_digest_tells_each_change(tree: Path, change: Callable[[Path], Any]) -> None:
    before = bundle(tree)["digest"]
    change(tree)
    assert bundle(tree)["digest"] != before


@pytest.mark.parametrize("with_git", [False, True])
def test_what_is_no_source_is_left_out(tree: Path, with_git: bool) -> None:
    before = bundle(tree)["digest"]
    fill(tree, dict.fromkeys(LEFT_OUT, "x"))
    if with_git:
        git(tree, "init")
    result = bundle(tree)
    assert names(result) == EXPECTED
    assert result["digest"] == before


def test_exclude(tree: Path) -> None:
    fill(tree, dict.fromkeys(["docs/a.md", "app/docs/b.md", "build/x", "app/build/y", "notes.rst"], "x"))
    assert names(bundle(tree, exclude=["*.md", "/build", "app/docs/*", "*.rst"])) == sorted(
        [*EXPECTED, "app/build/y"], key=os.fsencode
    )


def test_what_git_ignores_is_left_out(tree: Path) -> None:
    fill(
        tree,
        {
            ".gitignore": "*.log\n/media/\n",
            "a.log": "x",
            "media/x": "x",
            "app/media/x": "x",
            "untracked": "x",
        },
    )
    git(tree, "init")
    git(tree, "add", "manage.py", "app/views.py")
    (tree / "app/views.py").unlink()
    wanted = {*EXPECTED, ".gitignore", "app/media/x", "untracked"} - {"app/views.py"}
    assert names(bundle(tree)) == sorted(wanted, key=os.fsencode)
    # A folder in the work tree, as the bundled application is.
    assert "app/media/x".removeprefix("app/") in names(bundle(tree / "app"))


def test_repository_of_the_environment_is_not_asked(
    tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hook of git runs with GIT_DIR set to its own repository."""
    fill(tree, {".git/info/exclude": "*.log\n", "a.log": "x"})
    other = tmp_path / "other"
    other.mkdir()
    git(tree, "init")
    git(other, "init")
    monkeypatch.setenv("GIT_DIR", str(other / ".git"))
    monkeypatch.setenv("GIT_WORK_TREE", str(other))
    assert names(bundle(tree)) == EXPECTED


def test_without_git_the_folder_is_walked(tree: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    git(tree, "init")
    monkeypatch.setattr(plugin.shutil, "which", lambda name: None)
    assert names(bundle(tree)) == EXPECTED


def test_submodule_is_packed_as_it_is_checked_out(tree: Path, tmp_path: Path) -> None:
    library = fill(tmp_path / "library", {"lib.py": "x", ".gitignore": "*.log\n"})
    git(library, "init")
    git(library, "add", ".")
    git(library, "commit", "-m", "x")
    git(tree, "init")
    git(tree, "submodule", "add", str(library), "vendor/library")
    fill(tree, {"vendor/library/ignored.log": "x"})
    wanted = {*EXPECTED, ".gitmodules", "vendor/library/lib.py", "vendor/library/.gitignore"}
    assert set(names(bundle(tree))) == wanted
    git(tree, "submodule", "deinit", "-f", "vendor/library")
    with pytest.raises(AnsibleActionFail, match="submodule .*vendor/library is not there: run 'git submodule"):
        bundle(tree)


def test_broken_repository_is_refused(tree: Path) -> None:
    """Walked instead, the folder would have another digest."""
    git(tree, "init")
    git(tree, "add", ".")
    (tree / ".git/index").write_bytes(b"broken")
    with pytest.raises(AnsibleActionFail, match="git cannot list the files"):
        bundle(tree)


def test_source_that_is_not_there(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in {
        tmp_path / "nowhere": "does not exist on the control node",
        tree / "manage.py": "is not a folder",
        tmp_path / "empty": "has no files",
    }.items():
        with pytest.raises(AnsibleActionFail, match=message):
            bundle(path)


def test_file_that_cannot_be_packed(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tree / "socket"))  # the whole path may be too long for a socket
        with pytest.raises(AnsibleActionFail, match="is neither a file nor a link"):
            bundle(tree)


def test_bundled_application_can_be_bundled() -> None:
    assert "manage.py" in names(bundle(ROOT / "app"))


def test_archive_is_removed_with_the_run(tree: Path, tmp_path: Path, run_playbook: Callable[..., Any]) -> None:
    (tmp_path / "site.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  tasks:\n"
        "    - source_bundle: {path: source}\n      register: bundle\n"
        "    - ansible.builtin.assert: {that: bundle.archive is file, quiet: true}\n"
        "    - ansible.builtin.debug: {msg: '{{ bundle.digest }} {{ bundle.archive }} end'}\n",
        encoding="utf-8",
    )
    done = run_playbook("site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    digest, archive = done.stdout.partition("msg: ")[2].split()[:2]
    assert digest == bundle(tree)["digest"]
    assert Path(archive).is_absolute() and not Path(archive).exists()
