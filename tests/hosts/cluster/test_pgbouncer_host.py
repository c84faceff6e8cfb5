"""PgBouncer on its host."""

from __future__ import annotations

import pytest
from conftest import main_pid, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://database"]


def test_no_file_has_a_password(host: Host) -> None:
    secret = host.ansible.get_variables()["vault_postgresql_password"]
    users = host.file("/etc/pgbouncer/userlist.txt")
    assert "SCRAM-SHA-256$" in users.content_string
    assert secret not in users.content_string
    assert (users.user, users.group, users.mode) == ("root", "postgres", 0o640)


def test_is_confined(host: Host) -> None:
    said = host.check_output("systemd-analyze security --no-pager pgbouncer.service").splitlines()[-1]
    assert float(said.split(": ")[1].split()[0]) < 4, said


@pytest.mark.disruptive
def test_comes_back_when_it_is_killed(host: Host) -> None:
    before = main_pid(host, "pgbouncer.service")
    assert before
    host.check_output("systemctl kill --signal KILL pgbouncer.service")
    wait_until(lambda: main_pid(host, "pgbouncer.service") not in (0, before), "PgBouncer is not back")
