"""start.py, by which a service has as much time to start as it makes use of, and a bound on that."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT

SCRIPT = ROOT / "roles/base/templates/usr/local/lib/slipway/start.py.j2"
SECONDS = 60


class Host:
    """A host whose clock goes as fast as it is looked at, with a unit that takes `share` of a processor to start."""

    def __init__(self, share: float, starts_after: float) -> None:
        self.now, self.share, self.starts_after = 0.0, share, starts_after

    def monotonic(self) -> float:
        """Return the time."""
        return self.now

    def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds

    def state(self, _: str) -> str:
        """Return the state of the unit."""
        return "active" if self.now >= self.starts_after else "activating"

    def processor_seconds(self) -> float:
        """Return the processor time of the unit."""
        return self.now * self.share


@pytest.fixture
def notified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """Return the socket on which systemd would listen."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as server:
        server.bind(str(tmp_path / "notify"))
        server.setblocking(False)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield server


def watch(host: Host, server: socket.socket) -> list[str]:
    """Have the script watch a start on a host, and return what systemd is told."""
    space: dict[str, Any] = {}
    exec(SCRIPT.read_text(encoding="utf-8").partition("\n")[2].removesuffix("main()\n"), space)
    said: list[str] = []

    def sleep(seconds: float) -> None:
        host.sleep(seconds)
        try:
            while True:
                said.append(server.recv(4096).decode())
        except BlockingIOError:
            pass

    space["time"] = SimpleNamespace(monotonic=host.monotonic, sleep=sleep)
    space["os"] = SimpleNamespace(environ=os.environ, sched_getaffinity=lambda _: {0, 1})
    space["state"], space["processor_seconds"] = host.state, host.processor_seconds
    space["watch"]("x.service", SECONDS)
    return said


def test_start_with_progress_is_extended_until_it_is_over(notified: socket.socket) -> None:
    host = Host(share=0.05, starts_after=10 * SECONDS)
    said = watch(host, notified)
    assert set(said) == {f"EXTEND_TIMEOUT_USEC={SECONDS * 1_000_000}"} and len(said) > 100
    assert host.now == 10 * SECONDS


def test_start_without_progress_is_not_extended(notified: socket.socket) -> None:
    assert watch(Host(share=0.001, starts_after=10 * SECONDS), notified) == []


def test_start_that_never_ends_is_bounded(notified: socket.socket) -> None:
    """By processor time where it has a processor for itself, and in all cases by time."""
    endless = Host(share=1.0, starts_after=float("inf"))
    watch(endless, notified)
    assert 2 * SECONDS <= endless.now <= 3 * SECONDS
    slow = Host(share=0.05, starts_after=float("inf"))
    watch(slow, notified)
    assert 20 * SECONDS <= slow.now <= 21 * SECONDS
