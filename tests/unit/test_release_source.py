"""release_source: each kind of source gives one archive, and the digest says what is in it and nothing else."""

from __future__ import annotations

import functools
import hashlib
import http.server
import io
import os
import shutil
import socket
import subprocess
import tarfile
import threading
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from ansible import constants as C
from ansible.errors import AnsibleActionFail
from conftest import ROOT, run_action

from ansible_collections.slipway.kit.plugins.action import release_source as plugin
from ansible_collections.slipway.kit.plugins.plugin_utils.source.get import get_source
from ansible_collections.slipway.kit.plugins.plugin_utils.source.git import Repository
from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError, Wanted
from ansible_collections.slipway.kit.plugins.plugin_utils.source.tree import MODIFIED

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


@pytest.fixture(autouse=True)
def of_this_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test a cache and a temporary folder of its own: a run gets each source once."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    runs = tmp_path / "runs"
    runs.mkdir()
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(runs))


def new_run(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, name: str) -> None:
    """Begin another run of Ansible, which knows nothing of what the last one found."""
    (tmp_path / name).mkdir()
    monkeypatch.setattr(C, "DEFAULT_LOCAL_TMP", str(tmp_path / name))


def get(key: str = "", **wanted: Any) -> dict[str, Any]:
    """Get a source as the action does, but anew."""
    cache = Path(os.environ["XDG_CACHE_HOME"], "slipway/sources")
    return asdict(get_source(Wanted(**wanted), key, cache))


def bundle(folder: Path | str) -> dict[str, Any]:
    """Get a folder."""
    return get(source=str(folder))


def act(check: bool = False, refuse: bool = True, **variables: Any) -> dict[str, Any]:
    """Run the action over variables of the role."""
    variables = {f"django_app_{name}": value for name, value in variables.items()}
    return run_action(plugin, check=check, variables=variables, refuse=refuse)


def names(result: dict[str, Any]) -> list[str]:
    """Return the names in the archive."""
    with tarfile.open(result["archive"]) as archive:
        return archive.getnames()


EXPECTED = sorted([*FILES, "app/link", "folder link", "dangling"], key=os.fsencode)


def test_archive_holds_the_tree(tree: Path, tmp_path: Path) -> None:
    result = bundle(tree)
    assert names(result) == EXPECTED
    assert result["files"] == len(EXPECTED)
    assert result["size"] == os.path.getsize(result["archive"]) < 10_000
    with tarfile.open(result["archive"]) as archive:
        assert {(member.uid, member.gid, member.uname, member.mtime) for member in archive} == {(0, 0, "", MODIFIED)}
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
    assert archive.parent == Path(C.DEFAULT_LOCAL_TMP)
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
    checked = act(check=True, source=str(other))
    assert (checked["digest"], checked["changed"]) == (first["digest"], False)


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
    monkeypatch.setattr(shutil, "which", lambda name: None)
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
    with pytest.raises(SourceError, match="submodule .*vendor/library is not there: run 'git submodule"):
        bundle(tree)


def test_broken_repository_is_refused(tree: Path) -> None:
    """Walked instead, the folder would have another digest."""
    git(tree, "init")
    git(tree, "add", ".")
    (tree / ".git/index").write_bytes(b"broken")
    with pytest.raises(SourceError, match="git cannot list the files"):
        bundle(tree)


def test_source_that_is_not_there(tree: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    for path, message in {
        tmp_path / "nowhere": "does not exist on the control node",
        tree / "manage.py": "is not a folder",
        tmp_path / "empty": "has no files",
    }.items():
        with pytest.raises(SourceError, match=message):
            bundle(path)


def test_file_that_cannot_be_packed(tree: Path) -> None:
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(tree / "socket"))  # the whole path may be too long for a socket
        with pytest.raises(SourceError, match="is neither a file nor a link"):
            bundle(tree)


def test_bundled_application_can_be_bundled() -> None:
    assert "manage.py" in names(bundle(ROOT / "app"))


def test_archive_is_removed_with_the_run(tree: Path, tmp_path: Path, run_playbook: Callable[..., Any]) -> None:
    (tmp_path / "site.yml").write_text(
        "- hosts: localhost\n  gather_facts: false\n  vars: {django_app_source: source}\n  tasks:\n"
        "    - slipway.kit.release_source:\n      register: bundle\n"
        "    - ansible.builtin.assert: {that: bundle.archive is file, quiet: true}\n"
        "    - ansible.builtin.debug: {msg: '{{ bundle.digest }} {{ bundle.archive }} end'}\n",
        encoding="utf-8",
    )
    done = run_playbook("site.yml")
    assert done.returncode == 0, done.stdout + done.stderr
    digest, archive = done.stdout.partition("msg: ")[2].split()[:2]
    assert digest == bundle(tree)["digest"]
    assert Path(archive).is_absolute() and not Path(archive).exists()


# Once for a run


def test_hosts_of_a_run_get_the_same(tree: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = act(source=str(tree))
    (tree / "manage.py").write_text("changed meanwhile")
    assert act(source=str(tree)) == first
    new_run(monkeypatch, tmp_path, "next")
    later = act(source=str(tree))
    assert later["digest"] != first["digest"] and later["run"] != first["run"]


# git


@pytest.fixture
def repository(tree: Path) -> Path:
    """Return a repository with the branch main, the tag v1 at its first commit, and another branch."""
    git(tree, "init", "--initial-branch=main")
    git(tree, "add", ".")
    git(tree, "commit", "-m", "one")
    git(tree, "tag", "-a", "v1", "-m", "v1")
    (tree / "manage.py").write_text("two")
    git(tree, "commit", "-a", "-m", "two")
    git(tree, "branch", "other", "v1^{commit}")
    return tree


def head(repository: Path, name: str = "HEAD") -> str:
    """Return the commit of a name."""
    done = subprocess.run(["git", "rev-parse", name], cwd=repository, check=True, capture_output=True, text=True)
    return done.stdout.strip()


def test_git_gives_the_tree_of_the_version(repository: Path) -> None:
    url = f"file://{repository}"
    one, two = head(repository, "v1^{commit}"), head(repository)
    newest = get(type="git", source=url)
    assert (newest["commit"], newest["description"]) == (two, f"{url}@HEAD ({two[:12]})")
    assert newest["digest"] == bundle(repository)["digest"], "a folder with the same content has the same digest"
    assert names(newest) == EXPECTED
    tagged = get(type="git", source=url, version="v1")
    assert (tagged["commit"], tagged["description"]) == (one, f"{url}@v1 ({one[:12]})")
    assert tagged["digest"] != newest["digest"]
    for version in ("other", one, one[:10]):
        assert get(type="git", source=url, version=version)["digest"] == tagged["digest"], version


def test_git_follows_a_branch_and_keeps_a_commit(repository: Path) -> None:
    url, before = f"file://{repository}", head(repository)
    get(type="git", source=url, version="main")
    (repository / "manage.py").write_text("three")
    git(repository, "commit", "-a", "--amend", "-m", "history is written anew")
    assert get(type="git", source=url, version="main")["commit"] == head(repository) != before
    repository.rename(repository.with_name("away"))
    assert get(type="git", source=url, version=head(repository.with_name("away")))["files"], "it is in the cache"


def test_git_brings_submodules(repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = fill(tmp_path / "library", {"lib.py": "x"})
    git(library, "init")
    git(library, "add", ".")
    git(library, "commit", "-m", "x")
    git(repository, "submodule", "add", str(library), "vendor/library")
    git(repository, "commit", "-m", "x")
    fill(tmp_path, {"gitconfig": '[protocol "file"]\n\tallow = always\n'})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    found = get(type="git", source=f"file://{repository}")
    assert "vendor/library/lib.py" in names(found) and not [name for name in names(found) if ".git/" in name]
    assert found["digest"] == bundle(repository)["digest"]


@pytest.mark.parametrize("version", ["nosuch", "v2", "0" * 40, "abcdef1", "--upload-pack=x", "v1..main"])
def test_git_refuses_an_unknown_version(repository: Path, version: str) -> None:
    url = f"file://{repository}"
    told = act(refuse=False, source_type="git", source=url, version=version)
    assert told["variable"] == "django_app_version"
    assert told["error"].startswith(f"is neither a branch nor a tag nor a commit of {url}")
    with pytest.raises(AnsibleActionFail, match="django_app_version is neither a branch"):
        act(source_type="git", source=url, version=version)


def test_git_refuses_what_is_no_repository(tmp_path: Path) -> None:
    told = act(refuse=False, source_type="git", source=f"file://{tmp_path}/nowhere")
    assert told["variable"] == "django_app_source" and "cannot be fetched" in told["error"]


def test_git_must_be_installed(repository: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(SourceError, match="git is not installed on the control node"):
        get(type="git", source=f"file://{repository}")


def spy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, script: str) -> Path:
    """Put a program before the real one that notes its arguments; return where."""
    folder = tmp_path / "bin"
    fill(folder, {program: f"#!/bin/sh\necho \"$0 $*\" >>'{tmp_path}/said'\n{script}\n"})
    (folder / program).chmod(0o755)
    monkeypatch.setenv("PATH", f"{folder}:{os.environ['PATH']}")
    return tmp_path / "said"


def test_git_key_is_in_a_closed_file_and_nowhere_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    said = spy(
        tmp_path, monkeypatch, "ssh", f"stat -c %a \"$2\" >>'{tmp_path}/said'; cat \"$2\" >'{tmp_path}/key'; exit 255"
    )
    monkeypatch.setattr(Path, "home", lambda: tmp_path)
    told = act(refuse=False, source_type="git", source="git@git.invalid:a/b.git", git_key="MARKER one\nMARKER two")
    assert "cannot be fetched" in told["error"] and "MARKER" not in str(told)
    assert (tmp_path / "key").read_text() == "MARKER one\nMARKER two\n"
    assert "\n600\n" in said.read_text() and "MARKER" not in said.read_text()
    assert not Path(said.read_text().split()[2]).exists(), "the file of the key is still there"


def test_password_of_a_url_is_not_shown(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real = shutil.which("git")
    said = spy(tmp_path, monkeypatch, "git", f'exec {real} "$@"')
    told = act(refuse=False, source_type="git", source="http://user:MARKER@127.0.0.1:9/a.git")
    assert "cannot be fetched: git says for http://127.0.0.1:9/a.git" in told["error"]
    assert "MARKER" not in str(told) and "MARKER" not in said.read_text() and "ls-remote" in said.read_text()


# Archives


def write_tar(path: Path, tree: Path, top: str = "", mode: str = "w:gz") -> Path:
    """Write a tree into a tar file."""
    with tarfile.open(path, mode) as tar:
        for name in EXPECTED:
            if name != "dangling":
                tar.add(tree / name, f"{top}{name}", recursive=False)
    return path


@pytest.fixture
def sound(tree: Path) -> Path:
    """Return the tree without the link that leads out of it."""
    (tree / "dangling").unlink()
    return tree


@pytest.mark.parametrize("top", ["", "shop-1.0/"])
@pytest.mark.parametrize(
    ("ending", "mode"), [("tar", "w"), ("tar.gz", "w:gz"), ("tar.bz2", "w:bz2"), ("tar.xz", "w:xz")]
)
def test_tar_is_its_tree(sound: Path, tmp_path: Path, top: str, ending: str, mode: str) -> None:
    archive = write_tar(tmp_path / f"shop.{ending}", sound, top, mode)
    found = get(type="archive", source=str(archive))
    assert found["digest"] == bundle(sound)["digest"]
    assert found["description"] == f"shop.{ending}"


@pytest.mark.parametrize("top", ["", "shop-1.0/"])
def test_zip_is_its_tree(sound: Path, tmp_path: Path, top: str) -> None:
    with zipfile.ZipFile(tmp_path / "shop.zip", "w") as archive:
        for name in EXPECTED:
            if (sound / name).is_symlink():
                entry = zipfile.ZipInfo(f"{top}{name}")
                entry.create_system, entry.external_attr = 3, 0o120777 << 16
                archive.writestr(entry, os.readlink(sound / name))
            elif (sound / name).exists():
                archive.write(sound / name, f"{top}{name}")
    assert get(type="archive", source=str(tmp_path / "shop.zip"))["digest"] == bundle(sound)["digest"]


@pytest.fixture
def web(tmp_path: Path) -> Iterator[str]:
    """Serve a folder, and return its URL."""
    (tmp_path / "web").mkdir()
    handler = functools.partial(http.server.SimpleHTTPRequestHandler, directory=str(tmp_path / "web"))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_archive_of_a_web_server(sound: Path, tmp_path: Path, web: str) -> None:
    archive = write_tar(tmp_path / "web/shop.tar.gz", sound)
    checksum = f"sha256:{hashlib.sha256(archive.read_bytes()).hexdigest()}"
    found = get(type="archive", source=f"{web}/shop.tar.gz", archive_checksum=checksum)
    assert (found["digest"], found["description"]) == (bundle(sound)["digest"], "shop.tar.gz")
    told = act(refuse=False, source_type="archive", source=f"{web}/shop.tar.gz", archive_checksum="sha256:" + "0" * 64)
    assert told["variable"] == "django_app_archive_checksum" and checksum in told["error"]
    told = act(refuse=False, source_type="archive", source=f"{web}/other.tar.gz")
    assert told["variable"] == "django_app_source" and "404" in told["error"]


def member(name: str, kind: bytes = tarfile.REGTYPE, target: str = "") -> tarfile.TarInfo:
    """Return a member of a tar file."""
    made = tarfile.TarInfo(name)
    made.type, made.linkname, made.size = kind, target, 0
    return made


@pytest.mark.parametrize(
    ("members", "message"),
    [
        ([member("../x")], "outside of its folder: ../x"),
        ([member("a/../../x")], "outside of its folder"),
        ([member("/etc/x")], "outside of its folder: /etc/x"),
        ([member("a", tarfile.SYMTYPE, "/etc")], "a link that leads out of its folder: a"),
        ([member("a", tarfile.SYMTYPE, "b/../..")], "a link that leads out of its folder: a"),
        ([member("b/y"), member("a", tarfile.SYMTYPE, "b"), member("a/x")], "written through a link: a/x"),
        ([member("a", tarfile.LNKTYPE, "/etc/passwd")], "a link to a file that is not in it: a"),
        ([member("a", tarfile.CHRTYPE)], "neither a file nor a folder nor a link: a"),
    ],
)
def test_archive_cannot_leave_its_folder(tmp_path: Path, members: list[tarfile.TarInfo], message: str) -> None:
    with tarfile.open(tmp_path / "evil.tar", "w") as tar:
        for entry in members:
            tar.addfile(entry, io.BytesIO())
    with pytest.raises(SourceError, match=message):
        get(type="archive", source=str(tmp_path / "evil.tar"))


def entry(name: str, mode: int = 0o100644, flags: int = 0) -> zipfile.ZipInfo:
    """Return an entry of a zip file made on Unix."""
    made = zipfile.ZipInfo(name)
    made.create_system, made.external_attr, made.flag_bits = 3, mode << 16, flags
    return made


@pytest.mark.parametrize(
    ("entries", "message"),
    [
        ([(entry("../x"), "x")], "outside of its folder"),
        ([(entry("/etc/x"), "x")], "outside of its folder"),
        ([(entry("a", 0o120777), "/etc")], "a link that leads out of its folder: a"),
        ([(entry("b/y"), "y"), (entry("a", 0o120777), "b"), (entry("a/x"), "x")], "written through a link: a/x"),
        ([(entry("a", 0o120777), "b" * 5000)], "neither a file nor a folder nor a link: a"),
        ([(entry("a", 0o010644), "")], "neither a file nor a folder nor a link: a"),
        ([(entry("a", 0o020644), "")], "neither a file nor a folder nor a link: a"),
    ],
)
def test_zip_cannot_leave_its_folder(tmp_path: Path, entries: list[tuple[zipfile.ZipInfo, str]], message: str) -> None:
    with zipfile.ZipFile(tmp_path / "evil.zip", "w") as archive:
        for info, text in entries:
            archive.writestr(info, text)
    with pytest.raises(SourceError, match=message):
        get(type="archive", source=str(tmp_path / "evil.zip"))


def test_zip_that_is_encrypted_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "shut.zip", "w") as archive:
        archive.writestr("manage.py", "x")
    content = bytearray((tmp_path / "shut.zip").read_bytes())
    content[6] |= 1  # in the header of the file, and in the directory
    content[content.index(b"PK\x01\x02") + 8] |= 1
    (tmp_path / "shut.zip").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked: .*encrypted"):
        get(type="archive", source=str(tmp_path / "shut.zip"))


@pytest.mark.parametrize("content", [b"", b"neither", b"\x1f\x8b\x08\x00broken"])
def test_file_that_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "shop.tar.gz").write_bytes(content)
    with pytest.raises(SourceError, match="is neither a tar file|cannot be unpacked"):
        get(type="archive", source=str(tmp_path / "shop.tar.gz"))


# Packages, and what the variables name


def test_package_has_no_tree() -> None:
    found = act(source_type="package", python_packages=["ara[server]==1.8.0", "gunicorn"], requirements=["r.txt"])
    assert (found["files"], found["missing"]) == (0, [])
    assert found["description"] == "packages ara[server]==1.8.0, gunicorn"
    assert names(found) == []


def test_what_is_named_must_be_in_the_source(tree: Path) -> None:
    there = {"source": str(tree), "manage": ["python", "manage.py"], "requirements": ["app/views.py"]}
    assert act(**there)["missing"] == []
    wrong = there | {"requirements": ["no.txt", "given.txt"], "manage": ["python", "run.py"]}
    wrong["files"] = [{"path": "given.txt", "content": ""}, {"path": "/etc/no.txt", "content": ""}]
    assert act(refuse=False, **wrong)["missing"] == ["no.txt", "run.py"]
    with pytest.raises(AnsibleActionFail, match="no.txt, run.py"):
        act(**wrong)
    assert act(refuse=False, **there | {"directory": "app"})["missing"] == ["app/views.py", "manage.py"]
    assert "nowhere" in act(refuse=False, **there | {"directory": "nowhere"})["missing"]


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"source": 3},
        {"source": "x", "source_type": "svn"},
        {"source": "x", "source_type": "package"},
        {"files": [3]},
    ],
)
def test_variables_that_are_not_in_order_are_left_to_preflight(variables: dict[str, Any]) -> None:
    assert act(refuse=False, **variables)["error"] == ""
    with pytest.raises(AnsibleActionFail, match="are not in order"):
        act(**variables)


# The same content from any kind of source


def commit_all(folder: Path) -> None:
    """Make a folder a repository with one commit."""
    git(folder, "init", "--initial-branch=main")
    git(folder, "add", "--all", "--force")
    git(folder, "commit", "-m", "x")


def test_tracked_files_are_source_whatever_their_name(tree: Path, tmp_path: Path) -> None:
    """A folder, a repository and an archive of it give the same release; what git does not track is left out still."""
    tracked = [".env.production", ".envrc", "node_modules/x.js", "a.egg-info/PKG-INFO", "venv/x", "app/x~"]
    (tree / "dangling").unlink()
    fill(tree, dict.fromkeys(tracked, "x") | {"docs/x": "x", "v.py": "$Format:%H$\n", ".gitignore": "node_modules\n"})
    fill(tree, {".gitattributes": "docs export-ignore\nv.py export-subst\n"})
    commit_all(tree)
    with tarfile.open(tmp_path / "shop.tar.gz", "w:gz") as archive:
        for path in tree.iterdir():
            if path.name != ".git":
                archive.add(path, path.name)
    fill(tree, {".env": "x", "app/.env.local": "x", "app/y~": "x"})
    folder = bundle(tree)
    assert {*tracked, "docs/x"} <= set(names(folder)) and not {".env", "app/.env.local", "app/y~"} & set(names(folder))
    assert get(type="git", source=f"file://{tree}")["digest"] == folder["digest"]
    assert get(type="archive", source=str(tmp_path / "shop.tar.gz"))["digest"] == folder["digest"]


def test_settings_of_git_do_not_change_the_tree(
    repository: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = get(type="git", source=f"file://{repository}")["digest"]
    fill(tmp_path, {"gitconfig": "[core]\n\tautocrlf = true\n", "bin/evil": f"#!/bin/sh\ntouch {tmp_path}/ran\n"})
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", str(tmp_path / "gitconfig"))
    new_run(monkeypatch, tmp_path, "next")
    (repository / "manage.py").write_text("a\nb\n")
    git(repository, "commit", "-a", "-m", "x")
    assert get(type="git", source=f"file://{repository}")["digest"] == bundle(repository)["digest"] != before


POINTER = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 12345\n"


@pytest.mark.parametrize("kind", ["folder", "git", "archive"])
def test_pointers_of_lfs_are_refused(tree: Path, tmp_path: Path, kind: str) -> None:
    (tree / "dangling").unlink()
    fill(tree, {"app/big.bin": POINTER, "notes.md": f"A pointer is\n{POINTER}"})
    commit_all(tree)
    with tarfile.open(tmp_path / "shop.tar.gz", "w:gz") as archive:
        archive.add(tree / "app/big.bin", "app/big.bin")
        archive.add(tree / "manage.py", "manage.py")
    source = {"folder": str(tree), "git": f"file://{tree}", "archive": str(tmp_path / "shop.tar.gz")}[kind]
    told = act(refuse=False, source_type=kind, source=source)
    assert told["variable"] == "django_app_source"
    assert told["error"].startswith("has pointers of Git LFS in place of files: app/big.bin. Run 'git lfs pull'")
    fill(tree, {"app/big.bin": "what the pointer stands for"})
    assert bundle(tree)["files"]


def test_what_git_ignores_is_included_on_demand(tree: Path) -> None:
    fill(
        tree,
        {".gitignore": "dist/\n*.log\nnode_modules/\n", "web/dist/a.css": "x", "web/dist/b/.env": "x", "b.log": "x"},
    )
    fill(tree, {"web/dist/node_modules/x.js": "x"})
    git(tree, "init")
    assert "web/dist/a.css" not in names(bundle(tree))
    included = act(source=str(tree), include_ignored=["web/dist/", "b.log"], manage=[], requirements=[])
    assert {"web/dist/a.css", "b.log"} <= set(names(included))
    assert not {"web/dist/b/.env", "web/dist/node_modules/x.js"} & set(names(included))
    told = act(refuse=False, source=str(tree), include_ignored=["web/out"])
    assert (told["variable"], told["error"].split(": ")[0]) == (
        "django_app_include_ignored",
        f"web/out is not in {tree}",
    )


# Without history


def copies(tmp_path: Path) -> Path:
    """Return the one copy of a repository in the cache."""
    (copy,) = (tmp_path / "cache/slipway/sources").glob("*.git")
    return copy


@pytest.mark.parametrize("version", ["", "main", "v1", "commit"])
def test_git_fetches_no_history(repository: Path, tmp_path: Path, version: str) -> None:
    for number in range(3):
        (repository / "manage.py").write_text(f"more {number}")
        git(repository, "commit", "-a", "-m", "x")
    version = head(repository) if version == "commit" else version
    found = get(type="git", source=f"file://{repository}", version=version)
    assert found["commit"] == head(repository, f"{version or 'HEAD'}^{{commit}}")
    assert head(copies(tmp_path), "--is-shallow-repository") == "true"
    objects = subprocess.run(
        ["git", "rev-list", "--all", "--count"], cwd=copies(tmp_path), check=True, capture_output=True, text=True
    ).stdout
    assert int(objects) <= 1, "history was fetched"


def test_git_finds_a_branch_before_a_tag_of_its_name(repository: Path) -> None:
    git(repository, "tag", "main", "v1")
    assert get(type="git", source=f"file://{repository}", version="main")["commit"] == head(repository, "heads/main")


def test_password_is_for_its_server_alone(repository: Path, tmp_path: Path) -> None:
    source = Repository("https://user:MARKER@git.example.com/a/b.git", "", tmp_path / "cache")
    environment = source._make_environment(tmp_path)
    keys = {environment[f"GIT_CONFIG_KEY_{index}"] for index in range(int(environment["GIT_CONFIG_COUNT"]))}
    assert keys == {"credential.https://git.example.com.helper"}


# The version by git


SCM = (
    '[build-system]\nrequires = ["setuptools", "setuptools-scm"]\n[project]\nname = "My.Shop"\ndynamic = ["version"]\n'
)


@pytest.fixture
def scm(tree: Path) -> Path:
    """Return a repository whose project takes its version from git, one commit after the tag v1.2.3."""
    (tree / "dangling").unlink()
    fill(tree, {"pyproject.toml": SCM})
    commit_all(tree)
    git(tree, "tag", "-a", "v1.2.3", "-m", "x")
    (tree / "manage.py").write_text("two")
    git(tree, "commit", "-a", "-m", "two")
    return tree


def test_version_by_git_is_that_of_the_tag(scm: Path, tmp_path: Path) -> None:
    wanted = {"install_project": True}
    url, short = (
        f"file://{scm}",
        subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=scm, check=True, capture_output=True, text=True
        ).stdout.strip(),
    )
    later = {"version": f"1.2.4.dev1+g{short}", "name": "My.Shop"}
    tagged = {"version": "1.2.3", "name": "My.Shop"}
    assert get(type="git", source=url, version="v1.2.3", **wanted)["scm"] == tagged
    assert head(copies(tmp_path), "--is-shallow-repository") == "true", "the tag alone says it"
    assert get(type="git", source=url, version=head(scm, "v1.2.3^{commit}"), **wanted)["scm"] == tagged
    assert get(type="git", source=url, version="main", **wanted)["scm"] == later
    assert get(source=str(scm), **wanted)["scm"] == later
    assert get(source=str(scm))["scm"] == {}, "nothing is installed from the source"
    assert get(source=str(scm), install_command=True)["scm"] == later


def test_member_of_a_workspace_may_ask_git(scm: Path) -> None:
    fill(scm, {"members/lib/pyproject.toml": SCM, "pyproject.toml": '[project]\nname = "shop"\n'})
    fill(scm, {"requirements.txt": "./members/lib\n"})
    commit_all(scm)
    git(scm, "tag", "v5.0")
    assert get(source=str(scm), requirements=["requirements.txt"])["scm"] == {"version": "5.0", "name": "shop"}


def test_version_of_an_archive_is_in_its_name(scm: Path, tmp_path: Path) -> None:
    archive = write_tar(tmp_path / "shop.tar.gz", scm, "shop-1.4/")
    with tarfile.open(tmp_path / "scm.tar", "w") as tar:
        tar.add(scm / "pyproject.toml", "shop-1.4/pyproject.toml")
    assert archive.exists()
    found = get(type="archive", source=str(tmp_path / "scm.tar"), install_project=True)
    assert found["scm"] == {"version": "1.4", "name": "My.Shop"}


# The Python that the source requires


@pytest.mark.parametrize(
    ("file", "text", "version", "why"),
    [
        ("pyproject.toml", '[project]\nname = "x"\nrequires-python = ">=3.12"\n', "3.11.2", "requires Python >=3.12"),
        ("pyproject.toml", '[project]\nname = "x"\nrequires-python = ">=3.12"\n', "3.13.5", ""),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "^3.12"\n', "3.11.2", "requires Python >=3.12,<4"),
        ("pyproject.toml", '[tool.poetry.dependencies]\npython = "~3.11"\n', "3.13.5", "requires Python >=3.11,<3.12"),
        ("setup.cfg", "[options]\npython_requires = <3.12\n", "3.13.5", "setup.cfg requires Python <3.12"),
        (
            "setup.py",
            'setup(name="x", python_requires=">=3.9,<3.12")\n',
            "3.13.5",
            "setup.py requires Python >=3.9,<3.12",
        ),
        ("setup.py", "setup(python_requires=computed)\n", "3.13.5", ""),
        ("uv.lock", 'version = 1\nrequires-python = ">=3.14"\n', "3.13.5", "uv.lock requires Python >=3.14"),
    ],
)
def test_python_of_the_host_is_held_to_what_the_source_requires(
    tree: Path, file: str, text: str, version: str, why: str
) -> None:
    fill(tree, {"pyproject.toml": '[project]\nname = "x"\n'} | {file: text})
    names = ["uv.lock"] if file == "uv.lock" else []
    variables = {"source": str(tree), "requirements": names, "python_version": version}
    told = act(refuse=False, **variables)
    assert [fault["variable"] for fault in told["faults"]] == ["django_app_python"] * bool(why)
    if why:
        assert why in told["faults"][0]["why"]
        assert told["faults"][0]["why"].endswith(f"the Python of the host that builds is {version}")
        with pytest.raises(AnsibleActionFail, match="django_app_python .* requires Python"):
            act(**variables)


def test_another_python_is_held_to_it_too(tree: Path) -> None:
    fill(tree, {"pyproject.toml": '[project]\nname = "x"\nrequires-python = ">=3.12"\n'})
    path = "/opt/python/bin/python3"
    for version, count in (("3.12.1", 0), ("3.10.0", 1), ("", 0)):
        variables = {"django_app_source": str(tree), "django_app_requirements": [], "django_app_python": path}
        variables |= {"ansible_facts": {"python_version": "3.11.2", "preflight_python": {path: version}}}
        assert len(run_action(plugin, variables=variables, refuse=False)["faults"]) == count


def test_environment_of_the_build_is_told_as_a_digest(tree: Path) -> None:
    there = {"source": str(tree), "requirements": []}
    assert act(**there)["environment"] == ""
    told = {act(**there, build_environment={"TOKEN": f"MARKER {number}"})["environment"] for number in range(2)}
    assert len(told) == 2 and "MARKER" not in str(told)
    assert act(**there)["installation"]["git"] is False
    assert act(**there, build_git_key="x")["installation"]["git"] is True
