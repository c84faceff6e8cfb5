"""An inventory that cannot work is refused before anything is changed, with all its faults at once."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import FOREIGN_PORT, PROJECT, START_FOREIGN, STOP_FOREIGN, Servers, recap, state_of

testinfra_hosts = ["ansible://app"]
pytestmark = pytest.mark.runs_on("app", first=True)

# Variable: a wrong value, and what the message must say besides the variable's name.
FAULTS: dict[str, tuple[object, str]] = {
    "nginx_server_names": ([""], "nginx_server_names[0]"),
    "vault_redis_cache_password": ("", "redis_cache_password"),
    "vault_postgresql_password": ("changeme", "8 characters, not shown"),
    "gunicorn_wokers": (3, "did you mean gunicorn_workers?"),
    "gunicorn_timeout": ("30s", "must be a whole number"),
    "gunicorn_worker_class": ("async", "must be sync, gthread, gevent or asgi"),
    "postgresql_port": (99999, "must be a port from 1 to 65535"),
    "postgresql_allowed_clients": (["0.0.0.0/0"], "opens the database to the world"),
    "postgresql_extensions": ("pg_trgm,unaccent", "must be a list"),
    "redis_cache_port": (6379, "is the port of the broker too"),
    "celery_workers": ([{"name": "default", "concurency": 2}], "did you mean concurrency?"),
    "django_app_source": ("/nowhere", "does not exist on the control node"),
    "celery_task_time_limit": (7200, "they would run twice"),
    "gunicorn_workers": (400, "60000 gunicorn (400 x 150)"),
    "postgresql_max_connections": (40, "connections, and 40 is the most there can be"),
    "topology_disk_needed_mb": (10**9, "GiB are free, and 976562.5 GiB are needed"),
    "nginx_status_port": (FOREIGN_PORT, f"port {FOREIGN_PORT}, which Nginx status needs, is held by python3 (pid "),
    "base_app_name": ("ops", "is taken on this host, and not by Slipway: the account ops (user id "),
    "vault_site_id": ("0123456789abcdef0123456789abcdef", "the vault is not the one that this host was set up with"),
    "postgresql_database": ("elsewhere", "the data of this site is in the database slipway"),
    "base_timezone": ("Europe Berlin", "must be a name of the time zone database"),
}


@pytest.fixture
def foreign(servers: Servers) -> Iterator[None]:
    """Have something that is not ours listen on a port of each host with Nginx."""
    for host in servers.of("edge"):
        host.check_output(START_FOREIGN)
    yield
    for host in servers.of("edge"):
        host.check_output(STOP_FOREIGN)


def test_all_faults_are_told_and_nothing_is_changed(
    foreign: None, tmp_path: Path, servers: Servers, site_playbook: Callable
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({name: value for name, (value, _) in FAULTS.items()}))
    hosts = [servers.host(name) for name in servers.all]
    before = [state_of(host) for host in hosts]

    result = site_playbook("site.yml", "--extra-vars", f"@{wrong}")

    assert result.returncode != 0
    assert [state_of(host) for host in hosts] == before
    assert all(counts["changed"] == 0 for counts in recap(result.stdout).values())
    text = " ".join(result.stdout.split())
    missing = {name: said for name, (_, said) in FAULTS.items() if said not in text}
    assert not missing, result.stdout[-8000:]
    assert len(re.findall("^fatal:", result.stdout, re.MULTILINE)) == 1, "one list, not one for each host"
    assert '"changeme"' not in text, "the message shows a secret"


def test_a_sound_inventory_passes(site_playbook: Callable) -> None:
    assert site_playbook("preflight.yml").returncode == 0


def test_check_mode_of_small_playbooks_changes_nothing(servers: Servers, site_playbook: Callable) -> None:
    """Others are tried with --check elsewhere; these in one run, as each takes seconds."""
    names = ("run_management_command", "audit_secrets", "replication_status", "list_releases", "status")
    books = [str(PROJECT / f"playbooks/{name}.yml") for name in names]
    said = json.dumps({"nginx_maintenance": True, "slipway_command": "check"})
    hosts = [servers.host(name) for name in servers.all]
    before = [state_of(host) for host in hosts]
    result = site_playbook("maintenance.yml", *books, "--check", "--diff", "--extra-vars", said)
    assert result.returncode == 0, result.stdout[-4000:]
    assert [state_of(host) for host in hosts] == before


@pytest.mark.parametrize("option", [("--tags", "nginx"), ("--start-at-task", "Deploy*")])
def test_part_of_a_run_is_refused_before_its_first_task(option: tuple[str, str], site_playbook: Callable) -> None:
    result = site_playbook("site.yml", *option)
    assert result.returncode == 1 and f"{option[0]}" in result.stdout
    assert "is refused: site.yml" in result.stdout and "PLAY" not in result.stdout
