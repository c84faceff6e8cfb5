"""Roles of the collection in a play outside of the repository, without its configuration or its wiring.

The archive that `ansible-galaxy collection build` makes is installed elsewhere, and a play with nothing but the
required variables of each role runs twice on a host that belongs to no site.
"""

from __future__ import annotations

import os
import re
import secrets
import socket
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
import yaml
from conftest import PROJECT, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://bare"]

CLOSED_PORT = 8099
PLAY = """\
- name: Set up a host
  hosts: all
  become: true
  roles:
    - role: slipway.kit.hardening
      hardening_app_name: shop
    - role: slipway.kit.postgresql
      postgresql_database: shop
      postgresql_user: shop
      postgresql_password: "{{ database_password }}"
      postgresql_tls: false
    - role: slipway.kit.redis
      redis_broker_password: "{{ broker_password }}"
      redis_cache_password: "{{ cache_password }}"
      redis_admin_password: "{{ admin_password }}"
      redis_tls: false
    - role: slipway.kit.nginx
      nginx_app_name: shop
      nginx_server_names: [shop.example.com]
      nginx_upstream_servers: ["127.0.0.1:8000"]
    - role: slipway.kit.firewall
      firewall_openings:
        - {name: web, port: 80, sources: [0.0.0.0/0, "::/0"]}
"""


@dataclass
class Foreign:
    """A play that has run twice, and the passwords that it was given."""

    outputs: list[str]
    passwords: dict[str, str]
    run: Callable[[str], str]
    """Runs another play on the host, and returns its output."""


@pytest.fixture(scope="module")
def foreign(host: Host, tmp_path_factory: pytest.TempPathFactory) -> Foreign:
    """Return the play after its second run."""
    folder = tmp_path_factory.mktemp("foreign")
    # Only the folder's own: no ansible.cfg, and nothing that Molecule says of it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("ANSIBLE_", "MOLECULE_"))}
    environment |= {"ANSIBLE_NOCOLOR": "1", "ANSIBLE_COLLECTIONS_PATH": str(folder / "collections")}
    environment["ANSIBLE_PIPELINING"] = "1"  # it is faster, and changes nothing else

    def run(*command: str | Path) -> str:
        done = subprocess.run(
            [*map(str, command)], cwd=folder, env=environment, text=True, check=False,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout
        return done.stdout

    run("ansible-galaxy", "collection", "build", PROJECT, "--output-path", folder)
    (archive,) = folder.glob("slipway-kit-*.tar.gz")
    run("ansible-galaxy", "collection", "install", "--offline", archive, "-p", folder / "collections")
    known = host.ansible.get_variables()
    reached = {name: known[name] for name in known if name in (
        "ansible_host", "ansible_user", "ansible_ssh_private_key_file", "ansible_ssh_common_args"
    )}  # fmt: skip
    passwords = {name: secrets.token_hex(16) for name in ("database", "broker", "cache", "admin")}
    variables = {f"{name}_password": value for name, value in passwords.items()}
    inventory = {"all": {"hosts": {"bare": reached}, "vars": variables}}
    (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")

    def play(text: str) -> str:
        (folder / "play.yml").write_text(text, encoding="utf-8")
        return run("ansible-playbook", "-i", "hosts.yml", "play.yml")

    return Foreign([play(PLAY), play(PLAY)], passwords, play)


def test_second_run_changes_nothing(foreign: Foreign) -> None:
    first, second = (re.findall(r"^bare +: (.*)$", output, re.MULTILINE)[0] for output in foreign.outputs)
    assert "changed=0" not in first and "failed=0" in first
    assert "changed=0" in second and "failed=0" in second, foreign.outputs[1]


def test_no_run_shows_a_password_or_a_deprecation(foreign: Foreign) -> None:
    for output in foreign.outputs:
        assert [name for name, password in foreign.passwords.items() if password in output] == []
        assert "DEPRECATION WARNING" not in output, output


def test_postgresql_answers(host: Host, foreign: Foreign) -> None:
    asked = "PGPASSWORD=%s psql --host 127.0.0.1 --username shop --dbname shop --tuples-only --no-align --command %s"
    assert host.check_output(asked, foreign.passwords["database"], "SELECT current_user") == "shop"
    assert host.run(asked, "another", "SELECT 1").failed


def test_redis_answers_with_its_password(host: Host, foreign: Foreign) -> None:
    asked = "REDISCLI_AUTH=%s redis-cli --user admin -p %s PING"
    for port in ("6379", "6380"):
        assert host.check_output(asked, foreign.passwords["admin"], port) == "PONG"
        assert "NOAUTH" in host.check_output("redis-cli -p %s PING", port)


@pytest.fixture
def server(host: Host) -> Iterator[None]:
    """Run servers of HTTP behind Nginx and on a port that nobody has opened."""
    for port, address in ((8000, "127.0.0.1"), (CLOSED_PORT, "0.0.0.0")):
        host.check_output(
            "systemd-run --quiet --unit elsewhere-%s python3 -m http.server --directory /mnt --bind %s %s",
            str(port), address, str(port),
        )  # fmt: skip
        wait_until(lambda port=port: host.run("bash -c '>/dev/tcp/127.0.0.1/%s'", str(port)).succeeded, f"port {port}")
    yield
    host.run("systemctl stop elsewhere-8000 elsewhere-%s", str(CLOSED_PORT))


@pytest.mark.usefixtures("foreign", "server")
def test_nginx_serves_and_the_firewall_drops_a_closed_port(host: Host) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    answer = requests.get(f"http://{address}/", headers={"Host": "shop.example.com"}, timeout=60)
    assert answer.status_code == 200 and "Directory listing" in answer.text
    with pytest.raises(requests.ConnectionError):
        requests.get(f"http://{address}/", headers={"Host": "other.example.com"}, timeout=60)
    with pytest.raises(TimeoutError):
        socket.create_connection((address, CLOSED_PORT), timeout=3)


def test_port_that_is_no_longer_named_is_closed(host: Host, foreign: Foreign) -> None:
    address = host.ansible.get_variables()["ansible_host"]
    socket.create_connection((address, 80), timeout=60).close()
    foreign.run("- hosts: all\n  become: true\n  roles: [{role: slipway.kit.firewall, firewall_openings: []}]\n")
    with pytest.raises(TimeoutError):
        socket.create_connection((address, 80), timeout=3)


def test_host_is_of_no_site(host: Host) -> None:
    """None of the roles needs what the role base does."""
    assert not host.user("shop").exists
    assert not host.file("/srv/shop").exists
