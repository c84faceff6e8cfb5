"""host_state: every question has a time limit, and a service that hangs is told of."""

from __future__ import annotations

import socket
import threading
from types import SimpleNamespace
from typing import Any

import pytest

from ansible_collections.slipway.kit.plugins.module_utils import threads

# On a host they lie together.
from ansible_collections.slipway.kit.plugins.modules import host_state as state

SHOWN = """\
Type={kind}
Id=shop-web@a.service
ActiveState={active}
SubState={sub}
Result={result}
NRestarts={restarts}
StateChangeTimestampMonotonic=0
"""


def test_question_that_is_not_answered_leaves_the_others() -> None:
    hung = threading.Event()
    answers = state.within(0.2, {"quick": lambda: 1, "hung": lambda: hung.wait(30), "wrong": lambda: 1 / 0})
    hung.set()
    assert answers["quick"] == 1 and "no answer within 0.2 s" in str(answers["hung"])
    assert isinstance(answers["wrong"], ZeroDivisionError)


def test_database_is_asked_with_a_time_limit_of_its_own() -> None:
    """pg_isready waits for three seconds by itself, which a busy host needs more than."""
    asked: list[str] = []

    def run(*command: str) -> str:
        asked.extend(command)
        raise OSError("no response")

    host = SimpleNamespace(_run=run)
    said = state.Host._ask_postgres(host, "PostgreSQL", "/run/postgresql", "5432")
    assert said == f"PostgreSQL takes no connections, or did not answer within {state.ANSWER} s"
    assert f"--timeout={state.ANSWER}" in asked


def test_command_that_hangs_ends() -> None:
    module = SimpleNamespace(run_command_environ_update={})
    threads.allow_threads(module, timeout=0.2)
    with pytest.raises(OSError, match="sleep did not answer within 0.2 s"):
        module.run_command(["sleep", "600"])
    assert module.run_command(["cat"], data="text") == (0, "text", "")


@pytest.mark.parametrize(
    ("reply", "said"), [(b"-NOAUTH Authentication required.\r\n", ""), (b"+PONG\r\n", ""), (None, "no answer within")]
)
def test_redis_that_accepts_and_never_answers_is_told_of(
    monkeypatch: pytest.MonkeyPatch, reply: bytes | None, said: str
) -> None:
    monkeypatch.setattr(state, "ANSWER", 0.3 if reply is None else 30)
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(16)
                if reply:
                    connection.sendall(reply)
                connection.recv(16)

        threading.Thread(target=answer, daemon=True).start()
        configuration = f"bind 127.0.0.1 10.0.0.1\nport {server.getsockname()[1]}\ntls-cert-file /x\n"
        found = state.Host._ask_redis(configuration)
    assert found.startswith(said) if said else found == ""


def test_redis_that_is_not_there_is_told_of() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    assert "no answer" in state.Host._ask_redis(f"port {port}\n")


@pytest.mark.parametrize(
    ("shown", "told"),
    [
        ({"kind": "notify", "active": "activating", "sub": "auto-restart", "result": "exit-code"}, "activating"),
        ({"kind": "notify", "active": "active", "sub": "running", "result": "success"}, "active"),
        # The job of a timer works as long as it is activating, and one that failed is tried again.
        ({"kind": "oneshot", "active": "activating", "sub": "start", "result": "success"}, "active"),
        ({"kind": "oneshot", "active": "activating", "sub": "auto-restart", "result": "exit-code"}, "activating"),
    ],
)
def test_restarts_and_results_are_told(monkeypatch: pytest.MonkeyPatch, shown: dict[str, Any], told: str) -> None:
    host = state.Host(SimpleNamespace(params={"application": "shop"}))
    monkeypatch.setattr(host, "units", lambda: {"shop-web@a.service": shown["active"]})
    monkeypatch.setattr(host, "_run", lambda *_: SHOWN.format(restarts=7, **shown))
    monkeypatch.setattr(state, "all_services", lambda *_: [])
    found = host.starts()["shop-web@a.service"]
    assert (found["state"], found["restarts"], found["result"]) == (told, 7, shown["result"])


@pytest.mark.parametrize(
    ("ends", "result", "told"),
    [
        (True, "success", ("active", 0)),
        # Its command fails, which no intention is.
        (True, "exit-code", ("activating", 7)),
        (False, "success", ("activating", 7)),
    ],
)
def test_restarts_of_a_command_that_ends_by_intention_are_no_problem(
    monkeypatch: pytest.MonkeyPatch, ends: bool, result: str, told: tuple[str, int]
) -> None:
    host = state.Host(SimpleNamespace(params={"application": "shop"}))
    monkeypatch.setattr(host, "units", lambda: {"shop-web@a.service": "activating"})
    shown = {"kind": "exec", "active": "activating", "sub": "auto-restart", "result": result}
    monkeypatch.setattr(host, "_run", lambda *_: SHOWN.format(restarts=7, **shown))
    service = SimpleNamespace(settings={"ends": ends}, unit=lambda slot: f"shop-web@{slot}.service")
    monkeypatch.setattr(state, "all_services", lambda *_: [service])
    found = host.starts()["shop-web@a.service"]
    assert (found["state"], found["restarts"]) == told


@pytest.mark.parametrize(
    ("files", "free", "told"),
    [(1000, 900, {}), (1000, 20, {"/ (inodes)": 98}), (1000, 0, {"/ (inodes)": 100}), (0, 0, {})],
)
def test_inodes_that_run_short_are_told(
    monkeypatch: pytest.MonkeyPatch, files: int, free: int, told: dict[str, int]
) -> None:
    """A file system can be full of files with space left; one that has no number of inodes tells none."""
    status = SimpleNamespace(f_blocks=100, f_bfree=60, f_bavail=60, f_files=files, f_favail=free)
    monkeypatch.setattr(state.os, "statvfs", lambda _: status)
    monkeypatch.setattr(state.os.path, "isdir", lambda path: path == "/")
    assert state.Host.disk(SimpleNamespace(_folder="/nowhere")) == {"/": 40} | told
