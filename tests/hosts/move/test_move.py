"""A site on one server moves its database and Redis to another, and keeps rows, logins and queued tasks."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
import requests
import yaml
from conftest import APP, PROJECT, Playbooks, Servers, mail_to, wait_until
from testinfra import get_host
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]

NEW = "data"
WAITING = 3

Move = Callable[..., str]


@pytest.fixture
def move(tmp_path: Path) -> Move:
    """Return a function that runs a playbook on the hosts with groups, and variables, other than the inventory's."""
    shipped = PROJECT / "molecule/move/inventory"
    folder = tmp_path / "inventory"
    (folder / "group_vars").mkdir(parents=True)
    (folder / "group_vars/all").mkdir()
    for name in ("variables.yml", "vault.yml"):
        (folder / "group_vars/all" / name).symlink_to(shipped / "group_vars/all" / name)

    def run(name: str, *arguments: str, groups: dict[str, list[str]], **variables: str) -> str:
        hosts = yaml.safe_load((shipped / "hosts.yml").read_text(encoding="utf-8"))
        hosts |= {group: {"hosts": dict.fromkeys(names)} for group, names in groups.items()}
        (folder / "hosts.yml").write_text(yaml.safe_dump(hosts, sort_keys=False), encoding="utf-8")
        # Read after the others; the source is named from the folder of the inventory there.
        own = {"django_app_source": str(PROJECT / "app"), **variables}
        (folder / "group_vars/all/z.yml").write_text(yaml.safe_dump(own), encoding="utf-8")
        done = Playbooks(str(folder))(name, *arguments)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return run


def token(page: requests.Response) -> str:
    """Return the token of the form in a page."""
    found = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert found, page.text[:500]
    return found[1]


def register(browser: requests.Session, url: str, name: str) -> str:
    """Register as `name`, which logs in, and return the address of the mail that is then sent."""
    address = f"{name}@example.com"
    fields = {"username": name, "email": address, "password1": f"not-{name}-9x", "password2": f"not-{name}-9x"}
    fields["csrfmiddlewaretoken"] = token(browser.get(f"{url}/accounts/register/", timeout=15))
    answer = browser.post(f"{url}/accounts/register/", fields, timeout=30, headers={"Referer": url})
    assert answer.history, "the form came back"
    return address


def logged_in(browser: requests.Session, url: str, name: str) -> bool:
    """Tell whether the site knows the visitor."""
    page = browser.get(f"{url}/accounts/profile/", timeout=15)
    return page.status_code == 200 and not page.history and name in page.text


def test_database_and_redis_move(host: Host, move: Move) -> None:
    url = f"http://{host.ansible.get_variables()['ansible_host']}"
    new = get_host(f"ansible://{NEW}?ansible_inventory={PROJECT}/molecule/move/inventory")
    servers = Servers.around(f"{PROJECT}/molecule/move/inventory", "www")
    browser = requests.Session()
    register(browser, url, "mover")
    assert logged_in(browser, url, "mover")
    # Tasks that no worker takes before the move: both slots are stopped while they are queued.
    host.check_output("systemctl stop '%s-celery-*'", APP)
    addresses = [register(requests.Session(), url, f"waiting{number}") for number in range(WAITING)]
    assert not any(mail_to(servers, address) for address in addresses)

    # Redis moves, and the database gets a replica.
    said = move("move_redis.yml", "-e", "slipway_from=www", groups={"redis": [NEW], "database": ["www", NEW]})
    moved = re.search(r"(\d+) messages were brought from www to data", said)
    assert moved and int(moved[1]) >= WAITING, said[-3000:]
    wait_until(lambda: all(mail_to(servers, address) == 1 for address in addresses), "tasks were lost")
    assert host.run("systemctl is-active redis-server@broker redis-server@cache").stdout.split() == ["inactive"] * 2
    assert logged_in(browser, url, "mover")

    # The replica becomes the primary.
    move(
        *("promote_replica.yml", "-e", f"slipway_promote={NEW}"),
        groups={"redis": [NEW], "database": ["www", NEW]},
        topology_database_primary=NEW,
    )
    assert logged_in(browser, url, "mover")
    register(requests.Session(), url, "after")
    query = "SELECT count(*) FROM accounts_user WHERE username IN ('mover', 'waiting0', 'after')"
    assert new.check_output("runuser -u postgres -- psql -d %s -Atqc %s", APP, query) == "3"

    # The first server gives the database up.
    host.check_output("pg_dropcluster --stop 15 main")
    move("database.yml", groups={"redis": [NEW], "database": [NEW]})
    slots = "SELECT count(*) FROM pg_replication_slots"
    assert new.check_output("runuser -u postgres -- psql -Atqc %s", slots) == "0"
    assert logged_in(browser, url, "mover")
    assert requests.get(f"{url}/readyz", timeout=15).status_code == 200
