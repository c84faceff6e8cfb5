"""What a host is asked for the plan and preflight, asked of this machine."""

from __future__ import annotations

import os
import platform
import pwd
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from ansible_collections.slipway.kit.plugins.modules import preflight_facts


def test_who_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert any(one.endswith(f"(pid {os.getpid()})") for one in preflight_facts.listeners()[port])
    assert not preflight_facts.listeners().get(port)


def test_who_is_about_to_be_started_by_systemd_goes_by_the_name_of_the_program() -> None:
    script = "open('/proc/self/comm', 'w').write('(python)'); print(flush=True); input()"
    with (
        socket.create_server(("127.0.0.1", 0)) as server,
        subprocess.Popen(
            [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE, pass_fds=[server.fileno()]
        ) as process,
    ):
        assert process.stdout
        process.stdout.readline()
        port = str(server.getsockname()[1])
        assert f"python (pid {process.pid})" in preflight_facts.listeners()[port]


def test_room_is_that_of_the_filesystem_a_folder_will_be_on(tmp_path: Path) -> None:
    assert preflight_facts.free_mb(str(tmp_path / "not/there/yet")) == preflight_facts.free_mb(str(tmp_path)) > 0


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ("authorizedkeysfile .ssh/authorized_keys .ssh/authorized_keys2\n", True),
        ("authorizedkeysfile {}/%u/.ssh/authorized_keys\n", True),
        ("authorizedkeysfile %h/.ssh/commented\n", False),
        ("authorizedkeysfile .ssh/nothing_there\ntrustedusercakeys none\nauthorizedkeyscommand none\n", False),
        ("authorizedkeysfile none\ntrustedusercakeys /etc/ssh/authority.pub\n", True),
        ("authorizedkeysfile none\nauthorizedkeyscommand /usr/bin/keys\n", True),
        ("", False),
    ],
)
def test_key_of_who_logs_in_is_looked_for_where_sshd_looks(tmp_path: Path, settings: str, expected: bool) -> None:
    folder = tmp_path / "ops/.ssh"
    folder.mkdir(parents=True)
    (folder / "authorized_keys").write_text("# Operators\n\nssh-ed25519 AAAA ops\n")
    (folder / "commented").write_text("# ssh-ed25519 AAAA ops\n\n")
    said = settings.format(tmp_path)
    assert preflight_facts.has_key(said, "ops", str(tmp_path / "ops")) is expected


@pytest.mark.parametrize(
    ("above", "user"),
    # From the module up to the first process: who runs each.
    [([0, 0, 1000, 0, 0], 1000), ([0, 0, 0], 0), ([1000, 0], 1000), ([], 0)],
    ids=["su", "root", "nobody became root", "ended meanwhile"],
)
def test_who_has_logged_in_is_known_by_the_processes_above(tmp_path: Path, above: list[int], user: int) -> None:
    """As su leaves no variable that names the user."""
    for number, uid in enumerate(above):
        folder = tmp_path / str(len(above) - number)
        folder.mkdir()
        text = f"Name:\tsh\nPPid:\t{len(above) - number - 1}\nUid:\t{uid}\t{uid}\t{uid}\t{uid}\n"
        (folder / "status").write_text(text, encoding="utf-8")
    assert preflight_facts.login_uid(str(len(above) or 7), tmp_path) == user


def person(name: str, comment: str = "", home: str = "", uid: int = 998) -> pwd.struct_passwd:
    return pwd.struct_passwd((name, "x", uid, uid, comment, home or f"/home/{name}", "/bin/sh"))


@pytest.fixture
def accounts(monkeypatch: pytest.MonkeyPatch) -> dict[str, pwd.struct_passwd]:
    """Return the accounts that the host has; a test adds some. Each has a group of its name, and there is `video`."""
    found: dict[str, pwd.struct_passwd] = {}
    monkeypatch.setattr(preflight_facts.pwd, "getpwall", lambda: list(found.values()))
    monkeypatch.setattr(preflight_facts.pwd, "getpwnam", found.__getitem__)
    monkeypatch.setattr(preflight_facts.grp, "getgrnam", lambda name: found[name] if name != "video" else True)
    return found


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("etc/shop/shop.conf", "the directory /etc/shop"),
        ("var/lib/shop/data", "the directory /var/lib/shop"),
        ("srv/shop/www/index.html", "the directory /srv/shop"),
        ("run/shop/socket", "the directory /run/shop"),
        ("usr/lib/systemd/system/shop.service", "the unit /usr/lib/systemd/system/shop.service"),
        ("etc/systemd/system/shop-export.timer", "the unit /etc/systemd/system/shop-export.timer"),
        ("usr/lib/systemd/system/shop@.socket", "the unit /usr/lib/systemd/system/shop@.socket"),
        ("etc/shop", "/etc/shop"),
        ("usr/local/sbin/shop-manage", "/usr/local/sbin/shop-manage"),
        ("srv/shop/media/a.png", ""),
        ("usr/lib/systemd/system/shopping.service", ""),
        ("etc/systemd/system/shop-.service.d/x.conf", ""),
    ],
)
def test_what_bears_the_name_of_the_application_is_named(
    tmp_path: Path, accounts: dict[str, pwd.struct_passwd], path: str, said: str
) -> None:
    (tmp_path / path).parent.mkdir(parents=True)
    (tmp_path / path).touch()
    assert preflight_facts.taken("shop", tmp_path) == ([said] if said else [])
    accounts["shop"] = person("shop", preflight_facts.PURPOSE, "/var/lib/shop")
    assert preflight_facts.taken("shop", tmp_path) == []
    assert preflight_facts.own_account("shop") == "shop"


@pytest.mark.parametrize(
    ("comment", "home"), [("", "/home/ops"), ("Runs the Django application", "/home/ops"), ("Olga", "/var/lib/ops")]
)
def test_account_is_ours_only_when_base_has_made_it(
    tmp_path: Path, accounts: dict[str, pwd.struct_passwd], comment: str, home: str
) -> None:
    accounts["ops"] = person("ops", comment, home)
    assert preflight_facts.own_account("ops") == preflight_facts.own_account("") == ""
    assert preflight_facts.taken("ops", tmp_path) == [f"the account ops (user id 998, home {home})", "the group ops"]
    assert preflight_facts.taken("video", tmp_path) == ["the group video"]
    assert preflight_facts.taken("", tmp_path) == []


def test_site_of_a_host_is_known_by_its_record_or_its_account(
    tmp_path: Path, accounts: dict[str, pwd.struct_passwd], monkeypatch: pytest.MonkeyPatch
) -> None:
    record = tmp_path / "site.json"
    assert preflight_facts.site("shop", record) == {}
    accounts["blog"] = person("blog", preflight_facts.PURPOSE, "/var/lib/blog")
    assert preflight_facts.site("shop", record) == {}  # of a host that was taken out of its site
    monkeypatch.setattr(preflight_facts.os.path, "isdir", lambda path: path == "/etc/blog")
    assert preflight_facts.site("shop", record) == {"application": "blog"}
    assert preflight_facts.site("blog", record) == {}
    record.write_text('{"application": "shop"}', encoding="utf-8")
    assert preflight_facts.site("blog", record) == {"application": "shop"}
    for broken in ("", "{", "[]", "\xff"):
        record.write_text(broken, encoding="latin-1")
        assert "site.json" in preflight_facts.site("shop", record)["error"]


def test_host_without_sshd_needs_no_key() -> None:
    assert preflight_facts.login(None) == {}


def test_version_of_a_python(tmp_path: Path) -> None:
    assert preflight_facts.python_version(sys.executable) == platform.python_version()
    (tmp_path / "broken").write_text("#!/bin/sh\nexit 3\n")
    (tmp_path / "broken").chmod(0o755)
    assert [preflight_facts.python_version(str(tmp_path / name)) for name in ("none", "broken", ".")] == ["", "", ""]
