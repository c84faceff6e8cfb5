"""PostgreSQL: who gets in, who does not, and what it is tuned to."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import APP, Playbooks, Servers, main_pid, memory_share, unit_of
from testinfra.host import Host

testinfra_hosts = ["ansible://database"]


def login(host: Host, password: str, user: str = APP, database: str = APP, statement: str = "SELECT 1"):  # noqa: ANN201 (testinfra's)
    """Log in over TCP as the application does."""
    return host.run("PGPASSWORD=%s psql -h 127.0.0.1 -U %s -d %s -Atc %s", password, user, database, statement)


def ask(host: Host, statement: str) -> str:
    """Ask the application's database as the superuser."""
    return host.check_output("runuser -u postgres -- psql -d %s -Atc %s", APP, statement)


def megabytes(host: Host, setting: str) -> int:
    """Return a setting that PostgreSQL counts in blocks of 8 kB, in MB."""
    return int(ask(host, f"SELECT setting FROM pg_settings WHERE name = '{setting}'")) * 8 // 1024


@pytest.fixture(scope="module")
def password(inventory: dict[str, str]) -> str:
    return inventory["vault_postgresql_password"]


def test_application_logs_in(host: Host, password: str) -> None:
    assert login(host, password).stdout.strip() == "1"


@pytest.mark.parametrize("case", ["wrong password", "superuser", "other database"])
def test_others_are_refused(host: Host, password: str, case: str) -> None:
    result = {
        "wrong password": lambda: login(host, "not the password"),
        "superuser": lambda: login(host, password, user="postgres"),
        "other database": lambda: login(host, password, database="postgres"),
    }[case]()
    assert result.failed
    assert ("authentication failed" if case == "wrong password" else "no pg_hba.conf entry") in result.stderr


def test_application_is_no_superuser(host: Host, password: str) -> None:
    refused = login(host, password, statement="ALTER SYSTEM SET fsync = off")
    assert refused.failed and "permission denied" in refused.stderr
    assert login(host, password, statement="CREATE DATABASE other").failed


def test_only_a_verifier_is_stored(host: Host) -> None:
    assert ask(host, f"SELECT rolpassword FROM pg_authid WHERE rolname = '{APP}'").startswith("SCRAM-SHA-256$4096:")


def test_listens_only_where_it_is_asked(host: Host, servers: Servers, inventory: dict[str, Any]) -> None:
    addresses = {
        line.split()[3] for line in host.check_output("ss -Hltn").splitlines() if line.split()[3].endswith(":5432")
    }
    private = {f"{inventory['ansible_host']}:5432"} if len(servers.all) > 1 else set()
    assert addresses == {"127.0.0.1:5432"} | private


def test_cluster_is_sound(host: Host) -> None:
    assert ask(host, "SHOW data_checksums") == "on"
    assert ask(host, "SHOW server_encoding") == "UTF8"
    assert (
        ask(host, "SELECT pg_encoding_to_char(encoding) FROM pg_database WHERE datname = current_database()") == "UTF8"
    )


def test_is_tuned_to_its_share_of_memory(host: Host, inventory: dict[str, Any]) -> None:
    # A quarter, and three quarters (pgtune); where there is nothing else on the host, of all of it.
    share = memory_share(inventory, "database")
    assert megabytes(host, "shared_buffers") == share // 4
    assert megabytes(host, "effective_cache_size") == share * 3 // 4
    assert ask(host, "SELECT count(*) FROM pg_settings WHERE pending_restart") == "0"
    assert ask(host, "SELECT count(*) FROM pg_file_settings WHERE error IS NOT NULL") == "0"


def test_extensions_are_there(host: Host) -> None:
    assert int(ask(host, "SELECT count(*) FROM pg_stat_statements")) > 0


@pytest.mark.disruptive
@pytest.mark.runs_on("database", first=True)
@pytest.mark.parametrize(
    ("settings", "said", "restarts"),
    [
        # Its own parser refuses it, and nothing is restarted.
        ({"shared_buffers": "lots"}, ["slipway-restart.conf:", "shared_buffers = ''lots''"], False),
        # What only a start can tell.
        (
            {"shared_preload_libraries": "no_such_library"},
            ['could not access file "no_such_library"', "files were restored, and the unit runs with them"],
            True,
        ),
    ],
    ids=["value", "start"],
)
def test_refused_setting_leaves_the_server_running(
    host: Host, site_playbook: Callable[..., Any], settings: dict[str, str], said: list[str], restarts: bool
) -> None:
    unit = unit_of(host, "postgresql")
    files = "cat /etc/postgresql/*/main/conf.d/*.conf"
    before, pid = host.check_output(files), main_pid(host, unit)
    done = site_playbook("database.yml", "--extra-vars", json.dumps({"postgresql_settings": settings}))
    assert done.returncode != 0
    text = " ".join(done.stdout.split())
    assert [words for words in said if words not in text] == [], done.stdout
    assert host.check_output(files) == before
    assert (main_pid(host, unit) != pid) == restarts
    assert ask(host, "SELECT 1") == "1"


@pytest.mark.disruptive
@pytest.mark.runs_on("database", first=True)
def test_edited_file_is_rewritten(host: Host, site_playbook: Callable[..., Any]) -> None:
    """Whatever stands there, the next run repairs it, and the server never sees it."""
    path = host.check_output("ls /etc/postgresql/*/main/conf.d/slipway-restart.conf")
    before, pid = host.file(path).content_string, main_pid(host, unit_of(host, "postgresql"))
    host.check_output("echo 'shared_buffers = lots' >> %s", path)
    assert site_playbook("database.yml").returncode == 0
    assert host.file(path).content_string == before
    assert main_pid(host, unit_of(host, "postgresql")) == pid


@pytest.mark.runs_on("database", first=True)
def test_who_may_become_root_alone_sets_the_database_up(host: Host, playbook: Playbooks) -> None:
    """No task becomes the superuser of the database by sudo, which a host may lack."""
    name = host.ansible.get_variables()["inventory_hostname"]
    host.check_output("cp -p /etc/sudoers.d/ops /root/sudoers-ops")
    host.check_output("echo 'ops ALL=(root) NOPASSWD: ALL' >/etc/sudoers.d/ops")
    try:
        result = playbook("database.yml", "--limit", name)
    finally:
        host.check_output("mv /root/sudoers-ops /etc/sudoers.d/ops")
    assert result.returncode == 0, result.stdout[-3000:]


@pytest.mark.parametrize(
    ("file", "line", "reason"),
    [
        ("pg_hba.conf", "nonsense", "pg_hba.conf was not reloaded"),
        ("pg_ident.conf", "alone", "pg_ident.conf was not reloaded"),
        ("conf.d/slipway-zz.conf", "deadlock_timeout = lots", "contains errors"),
        ("conf.d/zz-test.conf", "ssl_cert_file = '/nowhere'", "SSL configuration was not reloaded"),
    ],
)
def test_reload_that_postgresql_refuses_fails(host: Host, file: str, line: str, reason: str) -> None:
    """It says so in its log alone, and goes on with what it had."""
    unit, _, _ = host.check_output("systemctl list-units --plain --no-legend 'postgresql@*'").partition(" ")
    path = f"/etc/postgresql/{unit.partition('@')[2].partition('-')[0]}/main/{file}"
    host.check_output("test ! -e %s || cp --preserve %s /tmp/slipway-test", path, path)
    try:
        host.check_output("echo %s >>%s", line, path)
        assert host.run("systemctl reload %s", unit).failed
        said = host.check_output("journalctl --sync; journalctl --unit %s --lines 20 --output cat", unit)
        assert "reload failed: " in said and reason in said
        assert ask(host, "SELECT 1") == "1"
    finally:
        host.check_output("if test -e /tmp/slipway-test; then mv /tmp/slipway-test %s; else rm %s; fi", path, path)
    assert host.run("systemctl reload %s", unit).succeeded
