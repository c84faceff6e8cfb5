"""Secrets: none is told to anybody, and a new one takes effect with the next run."""

from __future__ import annotations

import json
import secrets
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import APP, Servers, Site, mail_to, redis_as, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]
# Runs of everything take their time; one site of the inventory is enough, and another one than test_deploy.py has.
pytestmark = [pytest.mark.disruptive, pytest.mark.runs_on("app", first=True, site=-1)]

NAMES = (
    "vault_django_secret_key",
    "vault_postgresql_password",
    "vault_redis_broker_password",
    "vault_redis_cache_password",
    "vault_redis_admin_password",
    "vault_demo_admin_password",
)


def readable_by_nobody(inventory: dict[str, str], markers: list[str]) -> list[str]:
    """Return the files and command lines on the host that the user `nobody` can read and that hold a marker."""
    # By ssh itself: the markers go through its standard input, and so into no command line and no log.
    options = [
        *inventory["ansible_ssh_common_args"].split(),
        "-i",
        str(Path(inventory["ansible_ssh_private_key_file"]).expanduser()),
    ]
    search = "grep -rlsF -f - /etc /srv /var /opt /usr/local /home /root /tmp /run /dev/shm; true"
    command = f"sudo setpriv --reuid nobody --regid nogroup --clear-groups sh -c '{search}'"
    address = f"{inventory['ansible_user']}@{inventory['ansible_host']}"
    result = subprocess.run(
        ["ssh", *options, address, command], input="\n".join(markers) + "\n", capture_output=True, text=True, check=True
    )
    return result.stdout.split()


@pytest.fixture(scope="module")
def rotation(site_playbook: Callable, tmp_path_factory: pytest.TempPathFactory) -> object:
    """Give the site new secrets, told as loudly as Ansible can; afterwards the old ones again."""
    new = {name: f"rotated{secrets.token_hex(16)}" for name in NAMES}
    file = tmp_path_factory.mktemp("secrets") / "new.json"
    file.touch(mode=0o600)
    file.write_text(json.dumps(new))
    result = site_playbook("site.yml", "-vvv", "--diff", "--extra-vars", f"@{file}")
    assert result.returncode == 0, result.stdout[-3000:]
    yield new, result.stdout
    again = site_playbook("site.yml")
    assert again.returncode == 0, again.stdout[-3000:]


def test_new_secrets_take_effect_and_old_ones_do_not(
    servers: Servers,
    redis_host: Host,
    database_host: Host,
    site: Site,
    inventory: dict[str, str],
    rotation: tuple[dict[str, str], str],
) -> None:
    new, _ = rotation
    assert site.answers()
    address = site.register()
    wait_until(lambda: mail_to(servers, address) == 1, "a task")
    for port, user, name in ((6379, "celery", "broker"), (6380, "django", "cache")):
        assert redis_as(redis_host, port, user, new[f"vault_redis_{name}_password"], "ping") == "PONG"
        assert "WRONGPASS" in redis_as(redis_host, port, user, inventory[f"vault_redis_{name}_password"], "ping")
    login = "PGPASSWORD=%s psql -h 127.0.0.1 -U %s -d %s -Atc 'SELECT 1'"
    assert database_host.run(login, new["vault_postgresql_password"], APP, APP).succeeded
    assert database_host.run(login, inventory["vault_postgresql_password"], APP, APP).failed


def test_playbook_tells_none(inventory: dict[str, str], rotation: tuple[dict[str, str], str]) -> None:
    new, output = rotation
    assert "PLAY RECAP" in output and "Write the environment" in output
    told = [name for name in NAMES if new[name] in output or inventory[name] in output]
    assert not told


def test_hosts_tell_none(
    host: Host, servers: Servers, inventory: dict[str, str], rotation: tuple[dict[str, str], str]
) -> None:
    new, _ = rotation
    # Those that no test has used on a command line, which sudo logs.
    markers = [new["vault_django_secret_key"], new["vault_redis_admin_password"]]
    for name in servers.all:
        server = servers.host(name)
        journal = server.check_output("journalctl --no-pager --output cat")
        assert "Started" in journal and not [marker for marker in markers if marker in journal]
        commands = server.check_output("cat /proc/[0-9]*/cmdline | tr '\\0' ' '")
        assert "systemd" in commands and not [secret for secret in new.values() if secret in commands]
        assert ("gunicorn" in commands) == (name in servers.names["app"])
        assert readable_by_nobody(server.ansible.get_variables(), list(new.values())) == []
    # The search would find one: a file that everybody may read.
    planted = "/tmp/planted"
    host.check_output(
        "sed -n 's/^SECRET_KEY=//p' /etc/%s/app.env | tr -d '\"' >%s && chmod 644 %s", APP, planted, planted
    )
    try:
        assert readable_by_nobody(inventory, list(new.values())) == [planted]
    finally:
        host.check_output("rm %s", planted)
