"""gunicorn: how many workers, behind which socket, in which slot."""

from __future__ import annotations

import os

from conftest import APP, Site, live_unit, main_pid
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]


def test_workers_are_2n_plus_1_of_the_usable_cores(host: Host) -> None:
    cores = int(host.check_output("nproc"))
    pid = main_pid(host, live_unit(host, "web"))
    assert int(host.check_output("pgrep --count --parent %s", str(pid))) == 2 * cores + 1


def test_one_slot_serves(host: Host) -> None:
    active = [slot for slot in "ab" if host.run("systemctl is-active %s", f"{APP}-web@{slot}.service").succeeded]
    assert [f"{APP}-web@{slot}.service" for slot in active] == [live_unit(host, "web")]


def test_systemd_holds_the_socket(host: Host) -> None:
    socket = host.file(f"/run/{APP}/web.sock")
    assert (socket.user, socket.group, socket.mode) == (APP, "www-data", 0o660)
    assert '("systemd",pid=1,' in host.check_output("ss -Hlxp src %s", f"/run/{APP}/web.sock")


def test_no_worker_waits_in_accept(host: Host) -> None:
    """Whatever systemd has started with the socket since: a flag that is cleared once is cleared for all who listen."""
    pid = main_pid(host, live_unit(host, "web"))
    worker = host.check_output("pgrep --parent %s", str(pid)).split()[0]
    # What systemd hands over lies at 3; gunicorn keeps a copy of its own.
    listening = host.check_output(
        "cd /proc/%s/fd; inode=$(grep -m 1 %s$ /proc/net/unix | awk '{print $7}'); "
        'for fd in *; do if [ "$(readlink $fd)" = "socket:[$inode]" ]; then grep flags ../fdinfo/$fd; fi; done',
        worker,
        f"/run/{APP}/web.sock",
    )
    flags = [int(line.split()[1], 8) for line in listening.splitlines()]
    assert flags
    assert all(flag & os.O_NONBLOCK for flag in flags), flags


def test_only_nginx_reaches_the_socket(host: Host) -> None:
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('/run/%s/web.sock')"
    assert host.run(f'runuser -u www-data -- python3 -c "{ask}"', APP).succeeded
    assert host.run(f'runuser -u nobody -- python3 -c "{ask}"', APP).failed


def test_health(site: Site) -> None:
    assert site.get("/healthz").status_code == 200
    ready = site.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {"database": "ok", "cache": "ok", "broker": "ok"})
