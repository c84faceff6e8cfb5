"""Hosts that come and go, what status.yml shows of them, and commands that run on one of them."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from conftest import (
    APP,
    GROUPS,
    PROJECT,
    Playbooks,
    Site,
    Visitors,
    changes,
    hosts_of,
    podman,
    read_vault,
    recap,
    sites_of,
)
from testinfra.host import Host

# One host, from which all others are found.
testinfra_hosts = ["ansible://redis"]
pytestmark = pytest.mark.disruptive


def say(**variables: object) -> list[str]:
    """Return the words that give variables to a playbook."""
    return ["--extra-vars", json.dumps(variables)]


@pytest.fixture(scope="module")
def sites(playbook: Playbooks) -> list[Site]:
    """Return the site as each edge serves it."""
    return sites_of(hosts_of(playbook, "edge"))


def name_of(host: Host) -> str:
    """Return what the inventory calls a host."""
    return host.backend.host


def row(screen: str, name: str) -> list[str]:
    """Return the cells of a host's row on the screen of status.yml."""
    found = re.search(rf"^{name}  .*$", screen, re.MULTILINE)
    assert found, screen[-4000:]
    return re.split(r" {2,}", found[0])


def test_status_shows_every_host_and_changes_nothing(playbook: Playbooks) -> None:
    done = playbook("status.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert changes(done.stdout) == []
    releases = {row(done.stdout, name_of(host))[2] for host in hosts_of(playbook, "app")}
    assert len(releases) == 1 and re.fullmatch("[0-9a-f]{12}", releases.pop())
    assert "queues: empty" in done.stdout or re.search(r"queues: \w+ \d", done.stdout)
    assert "migrations: none to be applied" in done.stdout
    assert "PostgreSQL, primary" in done.stdout


def test_status_tells_what_needs_somebody(playbook: Playbooks) -> None:
    """A unit that has failed, a drained host, and one that is not there; those that are are shown all the same."""
    app, edge = hosts_of(playbook, "app")[-1], hosts_of(playbook, "edge")[-1]
    gone = hosts_of(playbook, "worker")[-1]
    assert playbook("drain_host.yml", *say(slipway_host=name_of(app))).returncode == 0
    try:
        edge.check_output("systemd-run --unit=broken false; sleep 1")
        nowhere = playbook("status.yml", *say(slipway_status_strict=True), "--ssh-extra-args=-o ConnectTimeout=5")
        assert nowhere.returncode != 0
        assert f"! {name_of(edge)}: failed: broken.service" in nowhere.stdout
        assert f"! {name_of(edge)}: sends no requests to" in nowhere.stdout
        podman(gone, "pause")
        silent = playbook("status.yml", ANSIBLE_SSH_ARGS="-o ControlMaster=no -o ControlPath=none -o ConnectTimeout=5")
        assert silent.returncode == 0, silent.stdout[-4000:]
        assert row(silent.stdout, name_of(gone))[1] == "UNREACHABLE"
        assert f"! {name_of(gone)} cannot be reached" in silent.stdout
        assert "run" in row(silent.stdout, name_of(app))[1]
    finally:
        podman(gone, "unpause")
        edge.run("systemctl reset-failed broken.service")
        assert playbook("undrain_host.yml", *say(slipway_host=name_of(app))).returncode == 0


def test_command_runs_once_and_says_what_it_says(playbook: Playbooks) -> None:
    done = playbook("run_management_command.yml", *say(slipway_command="showmigrations --plan accounts"))
    assert done.returncode == 0, done.stdout[-4000:]
    assert "[X]  accounts.0001_initial" in done.stdout
    assert sum(counts["changed"] for counts in recap(done.stdout).values()) == 1
    # A shell would make two commands of it.
    done = playbook("run_management_command.yml", *say(slipway_command="check; touch /tmp/injected"))
    assert done.returncode != 0 and "The command ended with" in done.stdout
    assert not [host for host in hosts_of(playbook, "app") if host.file("/tmp/injected").exists]
    for words in (
        [],
        say(slipway_command="check", slipway_host="nobody"),
        [*say(slipway_command="check"), "--limit", "worker"],
    ):
        done = playbook("run_management_command.yml", *words)
        assert done.returncode != 0 and "Say what to run" in done.stdout, done.stdout[-2000:]


@pytest.mark.parametrize("name", ["drain_host.yml", "undrain_host.yml", "maintenance.yml", "remove_host.yml"])
def test_part_of_the_site_is_refused(playbook: Playbooks, name: str) -> None:
    edge, app = hosts_of(playbook, "edge")[0], hosts_of(playbook, "app")[0]
    words = say(slipway_host=name_of(app), nginx_maintenance=True)
    done = playbook(name, "--limit", name_of(edge), *words)
    assert done.returncode != 0 and "--limit leaves out" in done.stdout
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())


@pytest.mark.parametrize(
    ("group", "why"), [("database", "it has the database"), ("redis", "it has the queue and the cache")]
)
def test_what_a_site_has_one_of_is_not_removed(playbook: Playbooks, group: str, why: str) -> None:
    done = playbook("remove_host.yml", *say(slipway_host=name_of(hosts_of(playbook, group)[0])))
    assert done.returncode != 0 and why in re.sub(r"\s+", " ", done.stdout)
    assert all(counts["changed"] == 0 for counts in recap(done.stdout).values())


@pytest.fixture
def without(playbook: Playbooks, tmp_path: Path) -> Iterator[Playbooks]:
    """Return what runs playbooks against the inventory without the last host of the application."""
    name = name_of(hosts_of(playbook, "app")[-1])
    source, copy = Path(playbook.inventory), tmp_path / "inventory"
    shutil.copytree(source, copy, symlinks=False)
    inventory = yaml.safe_load((copy / "hosts.yml").read_text(encoding="utf-8"))
    for group in inventory.values():
        group.get("hosts", {}).pop(name, None)
    (copy / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
    return Playbooks(str(copy))


def test_host_goes_and_comes_back_while_visitors_come(
    playbook: Playbooks, without: Playbooks, sites: list[Site]
) -> None:
    host = hosts_of(playbook, "app")[-1]
    app = ["--extra-vars", f"django_app_source={PROJECT}/app"]
    with Visitors(*sites) as visitors:
        done = playbook("remove_host.yml", *say(slipway_host=name_of(host)))
        assert done.returncode == 0, done.stdout[-6000:]
        running = host.check_output("systemctl list-units --plain --no-legend --state=active,failed '%s-*'", APP)
        assert [line for line in running.splitlines() if ".slice" not in line] == []
        assert not host.file(f"/etc/{APP}/app.env").exists
        key = read_vault(playbook)["vault_django_secret_key"]
        assert host.run("grep -rlF -- %s /srv/%s /etc/%s", key, APP, APP).stdout == ""

        done = without("site.yml", *app)
        assert done.returncode == 0, done.stdout[-6000:]
        for edge in hosts_of(playbook, "edge"):
            assert "down" not in edge.file("/etc/nginx/slipway-state/upstream.conf").content_string

        done = playbook("site.yml", *app)
        assert done.returncode == 0, done.stdout[-6000:]
    assert [answer for answer in visitors.answers if answer != "200"] == []
    # Elsewhere: who may come in and who is asked. No process of the application is touched on other hosts.
    touched = changes(done.stdout)
    for group in GROUPS:
        expected = {"firewall"} | {"database": {"postgresql", "pgbouncer"}, "edge": {"nginx"}}.get(group, set())
        for one in {name_of(other) for other in hosts_of(playbook, group)} - {name_of(host)}:
            assert {change.split()[1] for change in touched if change.startswith(f"{one}:")} == expected, touched
