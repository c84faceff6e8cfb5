"""An inventory that cannot work is refused before any host of the site is changed; the plan is what hosts have.

What can be told without hosts is told in molecule/unit/test_refused_inventories.py; here is what they are asked.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import APP, Playbooks, recap
from testinfra import get_host
from testinfra.host import Host

testinfra_hosts = ["local://"]

FOREIGN_PORT = 8099
# Variable: a wrong value, and what must be said.
FAULTS: dict[str, tuple[object, str]] = {
    "nginx_status_port": (FOREIGN_PORT, f"port {FOREIGN_PORT}, which Nginx status needs, is held by python3 (pid "),
    "topology_disk_needed_mb": (10**9, "GiB are free, and 976562.5 GiB are needed"),
    "gunicorn_workers": (400, "60000 gunicorn (400 x 150)"),
    "postgresql_max_connections": (40, "connections, and 40 is the most there can be"),
    "redis_cache_port": ("6380a", "must be a whole number"),
    "celery_wokers": ([], "did you mean celery_workers?"),
    "vault_redis_admin_password": ("changeme", "8 characters, not shown"),
    "postgresql_allowed_clients": (["0.0.0.0/0"], "opens the database to the world"),
    "nginx_server_names": (["https://www.example.test"], "must be host names without scheme"),
    "celery_task_time_limit": (7200, "they would run twice"),
    "gunicorn_timeout": ("30s", "write 30, the number of seconds"),
}


@pytest.fixture(scope="module")
def hosts(request: pytest.FixtureRequest) -> dict[str, Host]:
    """Return the hosts of the site by name."""
    inventory = request.config.getoption("ansible_inventory")
    groups = yaml.safe_load(Path(inventory, "hosts.yml").read_text(encoding="utf-8"))
    return {
        name: get_host(f"ansible://{name}?ansible_inventory={inventory}", sudo=True)
        for name in groups["test_hosts"]["hosts"]
    }


def state(host: Host) -> str:
    """Return a digest of what a run could change: packages, configuration, releases, units."""
    return host.check_output(
        "{ dpkg-query -W; find /etc /srv /opt /usr/local -type f -printf '%p %s %m %u %T@\\n' | sort;"
        " systemctl list-units --plain --no-legend --type service,socket,timer 'slipway*' 'nginx*' 'redis*'"
        " 'postgresql*' | sort; } | sha256sum"
    )


@pytest.fixture
def foreign(hosts: dict[str, Host], request: pytest.FixtureRequest) -> Iterator[None]:
    """Have something that is not ours listen on a port of each host."""
    for host in hosts.values():
        host.check_output(f"systemd-run --quiet --unit foreign python3 -m http.server --directory /mnt {FOREIGN_PORT}")
    yield
    for host in hosts.values():
        host.check_output("systemctl stop foreign")


def test_all_faults_are_told_and_no_host_is_changed(
    hosts: dict[str, Host], foreign: None, tmp_path: Path, playbook: Playbooks
) -> None:
    wrong = tmp_path / "wrong.json"
    wrong.write_text(json.dumps({name: value for name, (value, _) in FAULTS.items()}), encoding="utf-8")
    before = {name: state(host) for name, host in hosts.items()}
    result = playbook("site.yml", "--extra-vars", f"@{wrong}")
    assert result.returncode != 0
    assert {name: state(host) for name, host in hosts.items()} == before
    assert all(counts["changed"] == 0 for counts in recap(result.stdout).values())
    text = " ".join(result.stdout.split())
    assert not {name: said for name, (_, said) in FAULTS.items() if said not in text}, result.stdout[-9000:]
    assert len(re.findall("^fatal:", result.stdout, re.MULTILINE)) == 1, "one list, not one for each host"


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ansible_become": False}, "answers as the user with the number"),
        ({"ansible_port": 1}, "cannot be reached: "),
        ({"ansible_user": "nobody"}, "cannot be reached: "),
    ],
    ids=str,
)
def test_hosts_that_cannot_be_used_are_one_line(
    variables: dict[str, object], said: str, hosts: dict[str, Host], playbook: Playbooks
) -> None:
    result = playbook("site.yml", "--extra-vars", json.dumps(variables))
    assert result.returncode != 0
    text = " ".join(result.stdout.split())
    assert said in text, result.stdout[-6000:]
    counts = recap(result.stdout)
    assert counts.keys() >= hosts.keys()
    assert all(own["changed"] == own["unreachable"] == 0 for own in counts.values())


def test_plan_is_what_the_hosts_have(hosts: dict[str, Host], tmp_path: Path, playbook: Playbooks) -> None:
    """What gunicorn is configured with is what was planned, on each host that serves the application."""
    page = tmp_path / "plan.html"
    result = playbook("plan.yml", "--extra-vars", f"plan_file={page}")
    assert result.returncode == 0, result.stdout
    assert "It fits." in result.stdout
    text = page.read_text(encoding="utf-8")
    assert all(f"<b>{name}</b>" in text for name in hosts)
    planned = dict(
        re.findall(r"^ +(\S+) .* (\d+) by (?:cores|memory|connections|set) \(", result.stdout, flags=re.MULTILINE)
    )
    assert planned
    for name, workers in planned.items():
        configured = hosts[name].file(f"/etc/{APP}/services/web/gunicorn.conf.py").content_string
        assert f"\nworkers = {workers}\n" in configured, name
