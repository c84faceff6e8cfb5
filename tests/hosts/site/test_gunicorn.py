"""gunicorn: how many workers, behind which socket, in which slot."""

from __future__ import annotations

import os

import pytest
from conftest import APP, Site, live_unit, main_pid
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]

# An application that tells which process was asked for what, and has something to do when a process ends and, in each
# worker, a thread that is at work then.
LAST_WORK = """
import atexit, os, threading, time

def work():
    time.sleep(1)
    print("thread", os.getpid(), flush=True)

def application(environ, start_response):
    print("asked", os.getpid(), environ["PATH_INFO"], flush=True)
    start_response("200 OK", [("Content-Length", "0")])
    return [b""]

os.register_at_fork(after_in_child=threading.Thread(target=work).start)
atexit.register(lambda: print("atexit", os.getpid(), flush=True))
"""
RUN_LAST_WORK = """
set -e
cd "$(mktemp -d)"
printf '%%s' %s >lastwork.py
slot=/srv/%s/slots/web/live
run="$slot/release/venv/bin/python -m gunicorn --config $slot/gunicorn.conf.py"
$run --bind unix:sock --workers 2 lastwork >said 2>&1 &
timeout 120 sh -c 'until [ "$(grep -c Booting said)" = 2 ]; do sleep 0.05; done' || true
sleep 0.3
kill $!
wait $!
cat said
rm -r "$PWD"
"""


def test_workers_are_2n_plus_1_of_the_usable_cores(host: Host) -> None:
    cores = int(host.check_output("nproc"))
    pid = main_pid(host, live_unit(host, "web"))
    assert int(host.check_output("pgrep --count --parent %s", str(pid))) == 2 * cores + 1


def test_pages_have_no_less_priority_than_others_once_the_slot_has_started(host: Host) -> None:
    pid = main_pid(host, live_unit(host, "web"))
    levels = host.check_output("ps -o ni= -p %s --ppid %s", str(pid), str(pid)).split()
    assert len(levels) > 1 and set(levels) == {"0"}


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


@pytest.fixture(scope="module")
def said(host: Host) -> list[list[str]]:
    """Return what gunicorn and the application of this file's own have said from start to end, by words."""
    return [line.split() for line in host.check_output(RUN_LAST_WORK, LAST_WORK, APP).splitlines()]


def test_first_visitor_of_a_worker_does_not_wait_for_what_a_first_request_loads(said: list[list[str]]) -> None:
    """The pages are asked for in gunicorn itself, whose workers share what that loads, and in each of them."""
    workers = {pid for what, pid, *_ in said if what == "thread"}
    asked = {pid: [words[2] for words in said if words[:2] == ["asked", pid]] for _, pid, *_ in said}
    pages = [pages for pages in asked.values() if pages]
    assert len(pages) == 3 and all(one == pages[0] for one in pages), said
    assert len(workers) == 2 and all(asked[pid] for pid in workers), said


def test_worker_ends_with_its_last_work_done(said: list[list[str]]) -> None:
    """gunicorn.conf.py cuts the end of a worker short, but not what an application may rely on."""
    worked = [pid for what, pid, *_ in said if what == "thread"]
    ended = [pid for what, pid, *_ in said if what == "atexit"]
    assert len(worked) == 2, said
    # gunicorn itself has an end, too, and each has one.
    assert len(ended) == len(set(ended)) == 3 and set(worked) < set(ended), said


def test_only_nginx_reaches_the_socket(host: Host) -> None:
    ask = "import socket; socket.socket(socket.AF_UNIX).connect('/run/%s/web.sock')"
    assert host.run(f'runuser -u www-data -- python3 -c "{ask}"', APP).succeeded
    assert host.run(f'runuser -u nobody -- python3 -c "{ask}"', APP).failed


def test_health(site: Site) -> None:
    assert site.get("/healthz").status_code == 200
    ready = site.get("/readyz")
    assert (ready.status_code, ready.json()["checks"]) == (200, {"database": "ok", "cache": "ok", "broker": "ok"})
