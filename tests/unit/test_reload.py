"""reload.py, by which `systemctl reload` fails where a service goes on with its previous configuration."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import ROOT

SCRIPT = ROOT / "roles/base/templates/usr/local/lib/slipway/reload.py.j2"
# A service that reloads by SIGHUP: as Nginx (new workers), sshd (new listeners) and PostgreSQL (a line in its log).
SERVICE = """
import os, signal, socket, subprocess, sys, time
mode, log = sys.argv[1:]
worker = lambda: subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
old, listener = worker(), socket.create_server(("127.0.0.1", 0))
def say(line):
    with open(log, "a") as file:
        file.write(line + "\\n")
def reload(*_):
    global old, listener
    if mode == "worker":
        new, gone = worker(), old
        gone.kill(); gone.wait()
        old = new
    elif mode == "second attempt":
        say("[emerg] bind() failed")
        time.sleep(1)
        new, gone = worker(), old
        gone.kill(); gone.wait()
        old = new
    elif mode == "dying worker":
        subprocess.Popen(["true"]).wait()
        say("[alert] worker exited with fatal code 2")
    elif mode == "refusal":
        say("[emerg] bind() failed")
    elif mode == "listener":
        new = socket.create_server(("127.0.0.1", 0))
        listener.close()
        listener = new
    elif mode == "part of the listeners":
        say("[emerg] bind() failed")
        new = socket.create_server(("127.0.0.1", 0))
        listener.close()
        listener = new
    elif mode == "line":
        say("received SIGHUP")
    elif mode == "line and refusal":
        say("received SIGHUP")
        say("[emerg] pg_hba.conf was not reloaded")
    elif mode == "end":
        old.kill(); old.wait()
        os._exit(1)
signal.signal(signal.SIGHUP, reload)
say("[emerg] of an earlier reload")
say("ready")
while True:
    signal.pause()
"""


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Callable[[str], tuple[subprocess.Popen[bytes], Path]]]:
    """Return a function that starts a service, and ends it and its workers."""
    started: list[subprocess.Popen[bytes]] = []
    log = tmp_path / "error.log"

    def start(mode: str) -> tuple[subprocess.Popen[bytes], Path]:
        started.append(subprocess.Popen([sys.executable, "-c", SERVICE, mode, str(log)]))
        while not (log.exists() and "ready" in log.read_text()):
            assert started[-1].poll() is None
            time.sleep(0.02)
        return started[-1], log

    yield start
    for process in started:
        children = subprocess.run(
            ["ps", "-o", "pid=", "--ppid", str(process.pid)], capture_output=True, text=True, check=False
        )
        process.kill()
        process.wait()
        for child in children.stdout.split():
            subprocess.run(["kill", child], check=False, capture_output=True)


@pytest.mark.parametrize(
    ("over", "mode", "refused"),
    [
        ("workers", "worker", ""),
        ("workers", "second attempt", ""),
        ("workers", "refusal", "[emerg] bind() failed"),
        ("workers", "dying worker", "[alert] worker exited with fatal code 2"),
        ("workers", "silence", "the main process has started no worker with the new configuration"),
        ("workers", "end", "the service has ended"),
        ("listeners", "listener", ""),
        ("listeners", "part of the listeners", "[emerg] bind() failed"),
        ("listeners", "end", "the service has ended"),
        ("log", "line", ""),
        ("log", "line and refusal", "[emerg] pg_hba.conf was not reloaded"),
        ("log", "end", "the service has ended"),
        # A log that says nothing is no proof of a failure.
        ("log", "silence", ""),
        ("listeners", "silence", ""),
    ],
)
def test_reload_that_a_service_refuses_fails(
    service: Callable[[str], tuple[subprocess.Popen[bytes], Path]], tmp_path: Path, over: str, mode: str, refused: str
) -> None:
    process, log = service(mode)
    text = SCRIPT.read_text(encoding="utf-8").partition("\n")[2]
    silence = 'SILENCE = {"workers": 60, "listeners": 10, "log": 10}'
    assert silence in text
    # Long enough for a service that answers; one that never does would take as long as on a host.
    text = text.replace(
        silence, f"SILENCE = dict.fromkeys(('workers', 'listeners', 'log'), {1 if mode == 'silence' else 60})"
    )
    if mode != "second attempt":
        text = text.replace("GRACE = 5", "GRACE = 0.5")
    script = tmp_path / "reload.py"
    script.write_text(text)
    # The service is this process's child, and a child that has ended is there until somebody has asked for it.
    kill = f"kill -HUP {process.pid}" + (f"; while kill -0 {process.pid}; do sleep 0.1; done" if mode == "end" else "")
    done = subprocess.Popen(
        [sys.executable, script, "--pid", str(process.pid), "--over", over, "--begun", "received SIGHUP",
         "--refused", "emerg|alert", "--log", str(log), "--", "sh", "-c", kill],
        stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    if mode == "end":
        process.wait()
    said = done.communicate()[1]
    assert (done.returncode != 0) is bool(refused), said
    assert refused in said and "of an earlier reload" not in said


def test_command_that_fails_is_a_failure(tmp_path: Path) -> None:
    script = tmp_path / "reload.py"
    script.write_text(SCRIPT.read_text(encoding="utf-8").partition("\n")[2])
    command = [sys.executable, script, "--pid", "1", "--over", "log", "--refused", "x", "--", "false"]
    assert subprocess.run(command, check=False).returncode == 1
