"""After a restart of the host all services come back without a human."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
from conftest import APP, Servers, Site, mail_to, services_of, unit_of, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://test_hosts"]
pytestmark = pytest.mark.disruptive


def lets_in(host: Host) -> bool:
    """Tell whether the host can be logged in to: until it has booted, ssh is an error and not an answer."""
    try:
        return host.run("true").succeeded
    except RuntimeError:
        return False


def test_restarted_host_serves(host: Host, servers: Servers, site: Site, inventory: dict[str, Any]) -> None:
    booted = host.check_output("stat -c %Y /proc/1")
    name = inventory["inventory_hostname"]
    units = {service: unit_of(host, service) for service in services_of(servers, name)}
    assert units
    container = f"{inventory['test_network_name']}-{name}"
    settings = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}
    subprocess.run(["podman", "restart", container], env=os.environ | settings, check=True, capture_output=True)

    wait_until(site.answers, 60, "the site")
    wait_until(lambda: lets_in(host), 60, "ssh")
    assert host.check_output("stat -c %Y /proc/1") != booted, "the host was not restarted"
    for service, unit in units.items():
        wait_until(lambda unit=unit: host.run("systemctl is-active %s", unit).stdout.strip() == "active", 30, unit)
        assert unit_of(host, service) == unit
    address = site.register()
    wait_until(lambda: mail_to(servers, address) == 1, 30, "a mail")
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    beats = "systemctl is-active %s-celery-beat@a %s-celery-beat@b"
    assert [state for worker in servers.of("worker") for state in worker.run(beats, APP, APP).stdout.split()].count(
        "active"
    ) == 1
