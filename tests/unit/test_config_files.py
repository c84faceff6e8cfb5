"""Files and folders as they shall be: what one command finds to be so, what is taken back, what overrides a part."""

from __future__ import annotations

import contextlib
import grp
import json
import os
import pwd
import subprocess
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from conftest import ROOT, run_here

from ansible_collections.slipway.kit.plugins.action import config_files as action
from ansible_collections.slipway.kit.plugins.modules import config_files as files

ROLE = ROOT / "roles/nginx"


def mine() -> dict[str, str]:
    """Return the owner and the group of what this process makes."""
    return {"owner": pwd.getpwuid(os.getuid()).pw_name, "group": grp.getgrgid(os.getgid()).gr_name}


@pytest.fixture
def wanted(tmp_path: Path) -> tuple[list[dict[str, Any]], list[dict[str, Any]], dict[str, Any]]:
    """Return what is wanted, and is there: a folder, files in it, and of folders like it that one alone."""
    me = {**mine(), "mode": None}
    folder = tmp_path / "it's $HOME/worker-a"
    folder.mkdir(parents=True, mode=0o755)
    entries = []
    for name, content, mode in (("unit", "what\nis so\n", None), ("empty", "", None), ("secret", "s", "0640")):
        (folder / name).write_text(content, encoding="utf-8")
        (folder / name).chmod(int(mode or "0644", 8))
        entries.append({"path": str(folder / name), "content": content, "secret": False, **me, "mode": mode})
    only = {"pattern": f"{folder.parent}/worker-*", "keep": [str(folder)]}
    return [{"path": str(folder), **me}], entries, only


def is_there(wanted: Any) -> bool:
    """Ask the action by its own command, on this machine."""
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._low_level_execute_command = run_here
    return bool(plugin._is_there(*wanted, unwanted=[f"{wanted[0][0]['path']}/unwanted"]))


BREAKS: dict[str, Callable[[Path], object]] = {
    "content": lambda folder: (folder / "unit").write_text("what\nis no\n"),
    "no content": lambda folder: (folder / "unit").write_text(""),
    "some content": lambda folder: (folder / "empty").write_text("x"),
    "missing": lambda folder: (folder / "secret").unlink(),
    "mode": lambda folder: (folder / "secret").chmod(0o644),
    "mode of the folder": lambda folder: folder.chmod(0o700),
    "link": lambda folder: (folder / "unit").rename(folder / "real") and (folder / "unit").symlink_to("real"),
    "folder in place of a file": lambda folder: (folder / "empty").unlink() or (folder / "empty").mkdir(),
    "one that is unwanted": lambda folder: (folder / "unwanted").touch(),
    "one too many": lambda folder: (folder.parent / "worker-b").mkdir(),
}


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_not_so_is_seen(wanted: Any, name: str) -> None:
    assert is_there(wanted)
    BREAKS[name](Path(wanted[0][0]["path"]))
    assert not is_there(wanted)


def test_other_owner_is_seen(wanted: Any) -> None:
    for entry in (*wanted[0], *wanted[1]):
        assert is_there(wanted)
        for kind in ("owner", "group"):
            own = entry[kind]
            entry[kind] = "games"
            assert not is_there(wanted)
            entry[kind] = own


def test_folders_alone(wanted: Any) -> None:
    assert is_there((wanted[0], [], None))
    assert not is_there((wanted[0], [], wanted[2] | {"keep": []}))


RunModule = Callable[..., dict[str, Any]]


@pytest.fixture
def run_module(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> RunModule:
    """Return a function that runs the module itself as Ansible does, with no owner to set, and gives its result."""

    def run(
        wanted: list[dict[str, Any]], validate: list[str] | None = None, absent: list[str] | None = None
    ) -> dict[str, Any]:
        said: dict[str, Any] = {}

        class Module:
            params = {"folders": [], "files": wanted, "only": None, "absent": absent or [], "validate": validate or []}
            check_mode = False

            def get_bin_path(self, name: str) -> str:
                return str(tmp_path / name)

            def run_command(self, argv: list[str]) -> tuple[int, str, str]:
                done = subprocess.run(argv, capture_output=True, text=True, check=False)
                return done.returncode, done.stdout, done.stderr

            def atomic_move(self, source: str, target: str) -> None:
                os.replace(source, target)

            def load_file_common_arguments(self, entry: dict[str, Any]) -> dict[str, Any]:
                return entry

            def set_fs_attributes_if_different(self, *_: Any) -> bool:
                return False

            def exit_json(self, **result: Any) -> None:
                said.update(result)

            def fail_json(self, **result: Any) -> None:
                said.update(result | {"failed": True})
                raise SystemExit

        monkeypatch.setattr(files, "AnsibleModule", lambda **_: Module())
        with contextlib.suppress(SystemExit):
            files.main()
        return said

    return run


def entry(path: Path, content: str, **more: Any) -> dict[str, Any]:
    """Return a file as the module takes it."""
    return {"path": str(path), "content": content, "owner": None, "group": None, "mode": None, "secret": False} | more


def test_previous_files_are_restored_when_new_ones_are_refused(run_module: RunModule, tmp_path: Path) -> None:
    old, new = tmp_path / "old.conf", tmp_path / "new.conf"
    old.write_text("old")
    wanted = [entry(old, "changed"), entry(new, "new")]
    said = run_module(wanted, ["grep", "-q", "nothing of it", str(old)])
    assert said["failed"] and "the previous files were restored" in said["msg"]
    assert old.read_text() == "old" and not new.exists()
    assert run_module(wanted, ["grep", "-q", "changed", str(old)])["changed_paths"] == [str(old), str(new)]
    assert old.read_text() == "changed" and new.read_text() == "new"


def test_refusal_names_file_line_and_value(run_module: RunModule, tmp_path: Path) -> None:
    """PostgreSQL quotes the parameter and names no line; a secret file is not looked through."""
    conf, secret = tmp_path / "a.conf", tmp_path / "b.conf"
    wanted = [entry(conf, "port = 1\nshared_buffers = 'lots'\n"), entry(secret, "shared_buffers xx", secret=True)]
    command = ["sh", "-c", "echo 'invalid value for parameter \"shared_buffers\"' >&2; exit 1"]
    said = run_module(wanted, command)
    assert said["refused_with"][-1] == f"{conf}:2: shared_buffers = 'lots'"
    assert "xx" not in str(said) and not conf.exists() and not secret.exists()


def test_unwanted_files_are_removed_after_the_validation(run_module: RunModule, tmp_path: Path) -> None:
    old = tmp_path / "old.conf"
    old.touch()
    assert run_module([entry(tmp_path / "a", "1")], ["false"], [str(old)])["failed"] and old.exists()
    assert run_module([entry(tmp_path / "a", "1")], ["true"], [str(old)])["changed_paths"][-1] == str(old)
    assert not old.exists() and run_module([], absent=[str(old)])["changed_paths"] == []


def test_difference_of_a_secret_file_is_not_shown(run_module: RunModule, tmp_path: Path) -> None:
    said = run_module([entry(tmp_path / "a", "hidden", secret=True), entry(tmp_path / "b", "plain")])
    assert said["changed_paths"] == [str(tmp_path / "a"), str(tmp_path / "b")]
    assert [part["after"] for part in said["diff"]] == ["plain"]


@pytest.mark.parametrize("name", ["x.service", "x@.service.d/slipway.conf", "x.timer", "x.socket.d/a.conf"])
def test_what_systemd_would_ignore_is_refused(
    run_module: RunModule, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setattr(files, "UNIT_FOLDER", str(tmp_path))
    analyze = tmp_path / "systemd-analyze"
    # As systemd 252 and 257 say it; what they say of other units is none of ours.
    analyze.write_text(
        "#!/bin/sh\nshift 2\n"
        'for file; do grep -Hn "Foo=" "$file" | sed "s/Foo=.*/ Unknown key, ignoring./"; done\n'
        "echo '/usr/lib/systemd/system/other.service:1: Unknown key, ignoring.'\necho 'x.service: no ExecStart'\n"
    )
    analyze.chmod(0o755)
    unit = tmp_path / name
    unit.parent.mkdir(exist_ok=True)
    said = run_module([entry(unit, "[Service]\nFoo=bar\n")])
    assert said["failed"] and said["refused_with"] == [f"{unit}:2: Unknown key, ignoring."]
    assert not unit.exists()
    assert run_module([entry(unit, "[Service]\nNice=5\n")])["changed_paths"] == [str(unit)]


def test_override_changes_a_part(variables_for: Callable[..., dict[str, Any]], tmp_path: Path) -> None:
    own = tmp_path / "mine.j2"
    name = "etc/nginx/snippets/slipway-site.conf.j2"
    block = "{% block media %}{{ super() }}# mine {{ nginx_app_name }}\n{% endblock %}"
    own.write_text(f'{{% extends "{name}" %}}\n{block}\n')
    variables = variables_for(ROLE, "12")
    plugin = action.ActionModule.__new__(action.ActionModule)
    plugin._templar, plugin._loader = Templar(DataLoader(), variables), DataLoader()
    plugin._find_needle = lambda _, source: str(ROLE / "templates" / source)
    file = {"src": name, "dest": "/etc/x", "owner": None, "group": None, "mode": None, "secret": False}
    shipped = plugin._render(file, variables)["content"]
    mine = plugin._render(file, variables, str(own))["content"]
    assert "# mine slipway" in mine and "# mine" not in shipped
    assert mine.replace("# mine slipway\n", "") == shipped


def test_folders_can_be_entered_whatever_the_umask_of_the_login_is(
    tmp_path: Path, run_playbook: Callable[..., subprocess.CompletedProcess[str]]
) -> None:
    tasks = [{"slipway.kit.config_files": {"folders": [{"path": str(tmp_path / "etc/new/deep"), **mine()}]}}]
    play = [{"hosts": "localhost", "gather_facts": False, "tasks": tasks}]
    (tmp_path / "write.yml").write_text(json.dumps(play), encoding="utf-8")
    umask = os.umask(0o077)
    try:
        done = run_playbook("write.yml")
    finally:
        os.umask(umask)
    assert done.returncode == 0, done.stdout
    modes = {name: oct((tmp_path / name).stat().st_mode)[-3:] for name in ("etc", "etc/new", "etc/new/deep")}
    assert set(modes.values()) == {"755"}, modes


@pytest.fixture
def host_module(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return the module with a user and a group of its own, and an os that is to be changed for it alone."""
    from ansible_collections.slipway.kit.plugins.modules import config_files as module

    monkeypatch.setattr(module, "pwd", SimpleNamespace(getpwnam=lambda _: SimpleNamespace(pw_uid=4711, pw_gid=4712)))
    monkeypatch.setattr(module, "grp", SimpleNamespace(getgrnam=lambda _: SimpleNamespace(gr_gid=4713)))
    monkeypatch.setattr(module, "os", SimpleNamespace(**vars(os)))
    return module


def fake(check: bool = False) -> Any:
    """Return a module of Ansible that fails by an exception."""

    def fail_json(msg: str) -> None:
        raise RuntimeError(msg)

    return SimpleNamespace(check_mode=check, fail_json=fail_json)


def test_folder_of_a_service_is_made_and_given_to_it(
    tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    given: list[tuple[str, int, int]] = []
    monkeypatch.setattr(host_module.os, "chown", lambda path, uid, gid: given.append((str(path), uid, gid)))
    path = tmp_path / "spool/app"
    assert host_module.make_own(fake(check=True), str(path), "app") and not path.exists() and not given
    assert host_module.make_own(fake(), str(path), "app")
    assert path.stat().st_mode & 0o777 == 0o750 and path.parent.stat().st_mode & 0o777 == 0o755
    assert given == [(str(path), 4711, 4712)]
    assert host_module.make_own(fake(), f"{tmp_path}/data/app/", "app") and (tmp_path / "data/app").is_dir()


@pytest.mark.parametrize(("owner", "changes"), [(0, True), (4711, False), (33, False)])
def test_folder_that_is_there_is_given_only_if_it_is_roots(
    tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch, owner: int, changes: bool
) -> None:
    given: list[object] = []
    monkeypatch.setattr(host_module.os, "chown", lambda *arguments: given.append(arguments))
    monkeypatch.setattr(host_module.os, "stat", lambda path: SimpleNamespace(st_uid=owner))
    assert host_module.make_own(fake(), str(tmp_path), "app") == changes == bool(given)


def test_folder_hands_its_group_down(tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is in it from before gets the group, and its folders the bit by which new files get it."""
    (tmp_path / "a/b").mkdir(parents=True, mode=0o750)
    (tmp_path / "a/b/file").touch()
    (tmp_path / "a/link").symlink_to("/etc/passwd")
    given = {}
    monkeypatch.setattr(
        host_module.os, "chown", lambda path, uid, gid, **options: given.update({str(path): (uid, gid, options)})
    )
    host_module.hand_down_group(fake(), {"path": str(tmp_path), "group": "www-data"})
    assert [path.removeprefix(str(tmp_path)) for path in given] == ["/a", "/a/link", "/a/b", "/a/b/file", ""]
    assert {(uid, gid) for uid, gid, _ in given.values()} == {(-1, 4713)}
    assert given[str(tmp_path / "a/link")][2] == {"follow_symlinks": False}
    assert all((tmp_path / name).stat().st_mode & 0o2000 for name in ("a", "a/b"))


def test_file_server_that_trusts_no_root_is_told_of(
    tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(path: str, *_: object, **__: object) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(host_module.os, "chown", refuse)
    with pytest.raises(RuntimeError, match=r"(?s)may not give .* the group www-data .*docs/scaling.md"):
        host_module.hand_down_group(fake(), {"path": str(tmp_path), "group": "www-data"})


@pytest.mark.parametrize("check", [False, True])
@pytest.mark.parametrize("below", ["", "/deep/app"])
def test_link_to_nothing_is_named(tmp_path: Path, host_module: Any, check: bool, below: str) -> None:
    link = tmp_path / "data"
    link.symlink_to("/nonexistent/volume")
    with pytest.raises(RuntimeError, match=rf"{link} is a link to /nonexistent/volume, which does not exist"):
        host_module.make_own(fake(check), f"{link}{below}", "app")
    with pytest.raises(RuntimeError, match=rf"{link} is a link to /nonexistent/volume, which does not exist"):
        host_module.make_directory(fake(check), f"{link}{below}", 0o755)


def test_link_to_a_directory_is_followed(tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(host_module.os, "chown", lambda *_: None)
    (tmp_path / "volume").mkdir()
    (tmp_path / "data").symlink_to("volume")
    assert host_module.make_own(fake(), str(tmp_path / "data/app"), "app") and (tmp_path / "volume/app").is_dir()


@pytest.mark.parametrize("missing", [True, False])
def test_file_server_that_gives_no_directory_away_is_told_of(
    tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch, missing: bool
) -> None:
    """A directory that was created for the user and is not the user's is removed: the next run would accept it."""

    def refuse(path: str, *_: object) -> None:
        raise PermissionError(1, "Operation not permitted", path)

    monkeypatch.setattr(host_module.os, "chown", refuse)
    monkeypatch.setattr(host_module.os, "stat", lambda path: SimpleNamespace(st_uid=0))
    path = tmp_path / "uploads" if missing else tmp_path
    with pytest.raises(RuntimeError, match=rf"may not give {path} to app \(4711:4712\): .*docs/scaling.md"):
        host_module.make_own(fake(), str(path), "app")
    assert path.exists() != missing


@pytest.mark.parametrize(
    ("error", "message"),
    [
        (PermissionError(13, "Permission denied", "/srv/x"), "may not create /srv/x, .*docs/scaling.md"),
        (OSError(30, "Read-only file system", "/srv/x"), "cannot be created: /srv/x: Read-only file system"),
    ],
    ids=["no trust", "read-only"],
)
def test_directory_that_cannot_be_created_is_named(
    tmp_path: Path, host_module: Any, monkeypatch: pytest.MonkeyPatch, error: OSError, message: str
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise error

    monkeypatch.setattr(host_module.os, "mkdir", refuse)
    with pytest.raises(RuntimeError, match=message):
        host_module.make_own(fake(), str(tmp_path / "uploads"), "app")


def test_file_in_place_of_a_parent_is_named(tmp_path: Path, host_module: Any) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(RuntimeError, match=rf"cannot be created: {tmp_path}/file"):
        host_module.make_own(fake(), str(tmp_path / "file/app"), "app")
