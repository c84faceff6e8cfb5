"""The base of every host: user, folders, sandbox, journal."""

from __future__ import annotations

import json
import re

import pytest
from conftest import APP, live_unit, main_pid
from testinfra.host import Host

testinfra_hosts = ["ansible://test_hosts"]


def test_app_user_cannot_log_in(host: Host) -> None:
    user = host.user(APP)
    assert user.shell == "/usr/sbin/nologin"
    assert host.run("runuser --login %s --command true", APP).failed
    assert host.check_output("getent shadow %s", APP).split(":")[1].startswith("!")


def test_journal_is_bounded(host: Host) -> None:
    assert "SystemMaxUse=1G" in host.check_output("systemd-analyze cat-config systemd/journald.conf").splitlines()
    changed = host.file("/etc/systemd/journald.conf.d/slipway.conf").mtime.timestamp()
    started = host.check_output('date +%s -d "$(systemctl show -P ActiveEnterTimestamp systemd-journald)"')
    assert int(started) >= int(changed), "journald runs without the bound"


def test_old_names_of_time_zones_are_known(host: Host) -> None:
    """Debian 13 has them in a package of its own; settings of applications name them."""
    host.check_output(
        "python3 -c \"import zoneinfo; zoneinfo.ZoneInfo('US/Eastern'); zoneinfo.ZoneInfo('Europe/Berlin')\""
    )


def test_host_knows_which_site_it_belongs_to(host: Host) -> None:
    record = host.file("/var/lib/slipway-applied/site.json")
    site = json.loads(record.content_string)
    assert site["application"] == APP and site["groups"] and site["database"]
    assert (record.user, record.mode) == ("root", 0o600)
    # Of the vault a digest alone.
    assert re.fullmatch(r"[0-9a-f]{64}", site["vault"])


@pytest.mark.parametrize(
    "service",
    [
        pytest.param("web", marks=pytest.mark.runs_on("app")),
        pytest.param("celery-default", marks=pytest.mark.runs_on("worker")),
        pytest.param("celery-beat", marks=pytest.mark.runs_on("worker", first=True)),
    ],
)
def test_services_are_confined(host: Host, service: str) -> None:
    unit = live_unit(host, service)
    pid = str(main_pid(host, unit))
    assert host.check_output("ps -o user= -p %s", pid) == APP
    inside = "nsenter -t %s -m setpriv --reuid %s --regid %s --clear-groups "
    assert host.run(inside + "touch /var/lib/%s/probe", pid, APP, APP, APP).succeeded, "its own state is writable"
    host.check_output("rm /var/lib/%s/probe", APP)
    # Root may write where permissions forbid; a file system that is read-only stops it all the same.
    for path in (f"/srv/{APP}/probe", "/etc/probe", "/usr/probe"):
        written = host.run("nsenter -t %s -m touch %s", pid, path)
        assert written.failed and "Read-only file system" in written.stderr, f"{unit} can write to {path}"
    assert host.run("nsenter -t %s -m ls /root/.bashrc", pid).failed, "home folders are hidden"
    status = host.check_output("cat /proc/%s/status", pid)
    assert "NoNewPrivs:\t1" in status and "Seccomp:\t2" in status
    assert "CapBnd:\t0000000000000000" in status


def test_no_unit_has_failed(host: Host) -> None:
    assert host.check_output("systemctl list-units --failed --plain --no-legend") == ""


# Takes the processor for some seconds and is ready then, as an application does that loads on a slow host.
SLOW_START = """
import os, socket, time
while time.process_time() < 4:
    pass
with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
    systemd.connect(os.environ["NOTIFY_SOCKET"].replace("@", chr(0), 1))
    systemd.send(b"READY=1")
time.sleep(60)
"""
START = (
    "systemd-run --quiet --unit start-try --service-type notify --property NotifyAccess=all --property User=%s "
    "--property TimeoutStartSec=3 /usr/bin/python3 -I /usr/local/lib/slipway/start.py --unit start-try.service "
    "--seconds 3 "
)


@pytest.mark.parametrize(("command", "starts"), [(["python3", "-c", SLOW_START], True), (["sleep", "60"], False)])
def test_slow_start_has_its_time_and_one_that_hangs_has_not(host: Host, command: list[str], starts: bool) -> None:
    """Both take longer than their limit; the time is extended for as long as there is progress."""
    done = host.run(START + " ".join("%s" for _ in command), APP, *command)
    try:
        assert done.succeeded == starts, done
        assert host.check_output("systemctl show -P Result start-try") == ("success" if starts else "timeout")
    finally:
        host.run("systemctl stop start-try; systemctl reset-failed start-try")
