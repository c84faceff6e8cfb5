"""After a restart of the host all services come back without a human."""

from __future__ import annotations

import pytest
from conftest import APP, Servers, Site, lets_in, mail_to, restart, services_of, unit_of, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://test_hosts"]
pytestmark = pytest.mark.disruptive


def test_restarted_host_serves(host: Host, servers: Servers, site: Site) -> None:
    booted = host.check_output("stat -c %Y /proc/1")
    units = {service: unit_of(host, service) for service in services_of(servers, host.backend.host)}
    assert units
    restart(host)
    wait_until(site.answers, "the site")
    wait_until(lambda: lets_in(host), "ssh")
    assert host.check_output("stat -c %Y /proc/1") != booted, "the host was not restarted"
    for service, unit in units.items():
        wait_until(lambda unit=unit: host.run("systemctl is-active %s", unit).stdout.strip() == "active", unit)
        assert unit_of(host, service) == unit
    # A worker sends to the broker that has gone with its host, and TCP is more patient with each try.
    address = site.register()
    wait_until(lambda: mail_to(servers, address) == 1, "a mail")
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    beats = "systemctl is-active %s-celery-beat@a %s-celery-beat@b"
    assert [state for worker in servers.of("worker") for state in worker.run(beats, APP, APP).stdout.split()].count(
        "active"
    ) == 1
