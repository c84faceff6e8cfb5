"""Updates and restarts of all hosts but those that a site has one of, one after the other, while visitors come."""

from __future__ import annotations

import json
import threading

import pytest
import requests
from conftest import (
    PODMAN,
    Background,
    Playbooks,
    Servers,
    Site,
    changes,
    hosts_of,
    lets_in,
    mail_to,
    podman,
    sites_of,
    wait_until,
)
from testinfra.host import Host
from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

# One host, from which all others are found.
testinfra_hosts = ["ansible://redis"]
pytestmark = pytest.mark.disruptive

CONTAINER = "{{ test_network_name }}-{{ inventory_hostname }}"


class Browsers(Background):
    """Visitors whose browser knows all addresses of the site, as from DNS, and takes the next where nobody listens.

    A connection that was made and is then cut is a failed request, as is any answer but 200.
    """

    def __init__(self, sites: list[Site], count: int = 4) -> None:
        """Take the site's addresses, and the number of visitors."""
        self.answers: list[str] = []
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._visit, args=(sites, number)) for number in range(count)]

    def _visit(self, sites: list[Site], number: int) -> None:
        addresses = [sites[(number + turn) % len(sites)].url for turn in range(len(sites))]
        with requests.Session() as session:
            if number % 2:
                session.headers["Connection"] = "close"
            while not self._stop.wait(0.2):
                self.answers.append(self._ask(session, addresses))

    @staticmethod
    def _ask(session: requests.Session, addresses: list[str]) -> str:
        for address in list(addresses):
            try:
                return str(session.get(f"{address}/posts/", timeout=(1, 20)).status_code)
            except requests.ConnectionError as error:
                reason = getattr(error.args[0], "reason", None) if error.args else None
                if not isinstance(reason, NewConnectionError | ConnectTimeoutError):
                    return repr(error)
                # From now on it asks the other first.
                addresses.append(addresses.pop(0))
        return "no address takes connections"


def say(**variables: object) -> list[str]:
    """Return the words that give variables to a playbook."""
    return ["--extra-vars", json.dumps(variables)]


def started(host: Host) -> str:
    """Return when a host started."""
    return host.check_output("cut -d ' ' -f 22 /proc/1/stat")


@pytest.fixture(scope="module")
def sites(playbook: Playbooks) -> list[Site]:
    """Return the site as each edge serves it."""
    return sites_of(hosts_of(playbook, "edge"))


def test_nothing_to_do_changes_nothing(playbook: Playbooks) -> None:
    done = playbook("patch_hosts.yml", "--check")
    assert done.returncode == 0, done.stdout[-4000:]
    assert changes(done.stdout) == []
    assert "nothing to do" in done.stdout or "update" in done.stdout


def test_hosts_are_restarted_and_no_request_fails(playbook: Playbooks, sites: list[Site]) -> None:
    single = {host.backend.host for group in ("database", "redis") for host in hosts_of(playbook, group)[:1]}
    hosts = {host.backend.host: host for group in ("app", "worker", "edge") for host in hosts_of(playbook, group)}
    assert len(hosts) >= 4 and len(sites) == 2
    before = {name: started(host) for name, host in hosts.items()}
    restart = ["podman", "restart", "--time", "120", CONTAINER]
    with Browsers(sites) as browsers:
        readers = [sites[0].register()]
        process = playbook.start(
            "patch_hosts.yml", *say(patch_reboot=True, patch_reboot_command=restart, nginx_leave_seconds=3), **PODMAN
        )
        output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output[-6000:]
    assert [answer for answer in browsers.answers if answer != "200"] == []
    assert len(browsers.answers) > 200
    for name, host in hosts.items():
        assert started(host) != before[name], f"{name} was not restarted"
        assert host.run("systemctl is-failed 'slipway-*' nginx").stdout.count("failed") == 0
    for name in single:
        assert f"{name}: LEFT OUT, its restart stops" in output
    assert {site.get("/readyz").status_code for site in sites} == {200}
    # Nobody is left drained.
    for edge in hosts_of(playbook, "edge"):
        assert " down;" not in edge.file("/etc/nginx/slipway-state/upstream.conf").content_string
    workers = Servers.around(playbook.inventory, hosts_of(playbook, "worker")[0].backend.host)
    wait_until(lambda: mail_to(workers, readers[0]) == 1, "a task")


def test_host_that_does_not_come_back_ends_the_run(playbook: Playbooks, sites: list[Site]) -> None:
    """It stays out of the load, and the others serve; when it is there again, the next run takes it back."""
    host = hosts_of(playbook, "app")[-1]
    name = host.backend.host
    edge = hosts_of(playbook, "edge")[0]
    words = say(patch_reboot=True, patch_reboot_timeout=10, slipway_host=name)
    with Browsers(sites) as browsers:
        try:
            done = playbook(
                "patch_hosts.yml", *words, *say(patch_reboot_command=["podman", "stop", CONTAINER]), **PODMAN
            )
            assert done.returncode != 0
            assert " down;" in edge.file("/etc/nginx/slipway-state/upstream.conf").content_string
        finally:
            podman(host, "start")
            wait_until(lambda: lets_in(host), f"{name} to start")
        # The other one has its turn when this one serves again.
        again = ["podman", "restart", "--time", "120", CONTAINER]
        done = playbook("patch_hosts.yml", *say(patch_reboot=True, patch_reboot_command=again), **PODMAN)
        assert done.returncode == 0, done.stdout[-6000:]
        assert f"{name}: restart: asked for; requests: it is drained" in done.stdout
    assert " down;" not in edge.file("/etc/nginx/slipway-state/upstream.conf").content_string
    assert [answer for answer in browsers.answers if answer != "200"] == []


def test_part_of_the_site_is_refused(playbook: Playbooks) -> None:
    done = playbook("patch_hosts.yml", "--limit", "app")
    assert done.returncode != 0 and "--limit leaves out" in done.stdout
    done = playbook("patch_hosts.yml", *say(slipway_host="nobody"))
    assert done.returncode != 0 and "must be a host of the site" in done.stdout
