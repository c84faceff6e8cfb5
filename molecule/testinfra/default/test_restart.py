"""After a restart of the host all services come back without a human."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from conftest import APP, Site, live_unit, mail_to, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]
pytestmark = pytest.mark.disruptive


def test_restarted_host_serves(host: Host, site: Site, inventory: dict[str, str]) -> None:
    booted = host.check_output("stat -c %Y /proc/1")
    slots = {service: live_unit(host, service) for service in ("web", "celery-default", "celery-beat")}
    container = f"{inventory['test_network_name']}-{inventory['inventory_hostname']}"
    settings = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}
    subprocess.run(["podman", "restart", container], env=os.environ | settings, check=True, capture_output=True)

    # Over HTTP first: until the host has booted, ssh is an error and not an answer.
    wait_until(site.answers, 60, "the site")
    assert host.check_output("stat -c %Y /proc/1") != booted, "the host was not restarted"
    for service, unit in slots.items():
        wait_until(lambda unit=unit: host.run("systemctl is-active %s", unit).stdout.strip() == "active", 30, unit)
        assert live_unit(host, service) == unit
    address = site.register()
    wait_until(lambda: mail_to(host, address) == 1, 30, "a mail")
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""
    assert (
        host.run("systemctl is-active %s-celery-beat@a %s-celery-beat@b", APP, APP).stdout.split().count("active") == 1
    )
