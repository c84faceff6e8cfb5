"""The visitors of dev/soak, held against a small server that answers as it is told to."""

from __future__ import annotations

import asyncio
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import load
import pytest
import soak
from conftest import ROOT

PAGE = b"HTTP/1.1 200 OK\r\nServer: nginx\r\nContent-Length: 5\r\n\r\nhello"
Handler = Callable[[socket.socket, bytes, int], bool]


@contextmanager
def served(handler: Handler) -> Iterator[str]:
    """Give each request to `handler` (connection, request, its number there), which says whether to go on."""
    listener = socket.create_server(("127.0.0.1", 0), backlog=64)
    done = threading.Event()

    def talk(connection: socket.socket) -> None:
        with connection:
            number, data = 0, b""
            while not done.is_set():
                while b"\r\n\r\n" not in data:
                    try:
                        more = connection.recv(65536)
                    except OSError:
                        return
                    if not more:
                        return
                    data += more
                number += 1
                request, data = data, b""
                if not handler(connection, request, number):
                    return

    def accept() -> None:
        while not done.is_set():
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            threading.Thread(target=talk, args=(connection,), daemon=True).start()

    accepting = threading.Thread(target=accept, daemon=True)
    accepting.start()
    try:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
    finally:
        done.set()
        # Closed under the thread, its number would be the next server's socket, whose visitor the thread would take.
        listener.shutdown(socket.SHUT_RDWR)
        accepting.join()
        listener.close()


def answer(content: bytes = PAGE, go_on: bool = True) -> Handler:
    """Return a handler that always says the same."""

    def handler(connection: socket.socket, request: bytes, number: int) -> bool:
        connection.sendall(content)
        return go_on

    return handler


def visit(handler: Handler, **options: object) -> load.Result:
    """Let visitors come to a server for a moment."""
    wanted = {"rate": 50, "clients": 2, "most": 20, "mix": ["/"]} | options
    with served(handler) as url:
        return load.Load(url, **wanted).start().wait()


def test_rate_and_number_are_held() -> None:
    result = visit(answer())
    summary = result.summary()
    assert (summary["requests"], summary["failed"], summary["failures"]) == (20, 0, {})
    assert summary["servers"] == {"nginx": 20} and result.reopened == 0
    assert result.seconds >= 0.36, "20 requests at 50 a second: the last is due after 19 / 50 s, at the earliest"
    assert 0 < summary["p50_ms"] <= summary["p99_ms"] <= summary["max_ms"] and result.cpu_seconds > 0
    assert sorted(record.due for record in result.records) == pytest.approx([n / 50 for n in range(20)])
    assert sum(record.kept for record in result.records) == 10


def test_time_ends_it_and_so_does_stop() -> None:
    records = visit(answer(), most=1000, seconds=0.2).records
    assert records and max(record.due for record in records) < 0.2
    with served(answer()) as url, load.Load(url, rate=50, clients=2, mix=["/"]) as visitors:
        while len(visitors.result.records) < 3:
            time.sleep(0.01)
        result = visitors.stop()
        sent = len(result.records)
        time.sleep(0.1)
        assert len(result.records) == sent, "nothing is sent after stop"


def test_stall_is_not_hidden() -> None:
    """While the server stalls, as many requests as would have come are slow: each is timed from when it was due."""
    begin: list[float] = []

    def handler(connection: socket.socket, request: bytes, number: int) -> bool:
        begin.append(time.monotonic())
        time.sleep(max(0.0, begin[0] + 0.6 - begin[-1]))
        connection.sendall(PAGE)
        return True

    result = visit(handler, most=60, rate=50)
    slow = [record for record in result.records if record.latency > 0.1]
    assert result.failed == 0
    assert len(slow) > 20, "0.5 s at 50 a second"
    assert any(record.kept for record in slow) and any(not record.kept for record in slow)
    assert result.no_service > 0.4


@pytest.mark.parametrize(
    ("content", "kind"),
    [
        (b"HTTP/1.1 502 Bad Gateway\r\nContent-Length: 3\r\n\r\nbad", "status 502"),
        (b"HTTP/1.1 302 Found\r\nLocation: /\r\nContent-Length: 0\r\n\r\n", "status 302"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", "empty answer"),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", "answer cut off"),
        (b"", "closed without an answer"),
        (b"nonsense\r\n\r\n", "answer is not HTTP"),
    ],
)
def test_failure_is_told_by_its_kind(content: bytes, kind: str) -> None:
    result = visit(answer(content, go_on=False), most=4)
    assert result.failures == {kind: 4}


def test_server_that_is_not_there() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    result = load.Load(f"http://127.0.0.1:{port}", rate=50, clients=2, most=6, mix=["/"]).start().wait()
    assert result.failures == {"no connection: ConnectionRefusedError": 6}
    assert result.no_service == load.without_service(result.records)


def test_late_answer_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(load, "TIMEOUT", 0.2)
    # The server answers nothing until the visitor has gone.
    result = visit(lambda connection, request, number: bool(connection.recv(1)), most=2)
    assert result.failures == {"no answer within 0 s": 2}


def test_answers_in_chunks_and_to_the_end() -> None:
    chunked = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhel\r\n2;x=y\r\nlo\r\n0\r\nTrailer: x\r\n\r\n"
    assert visit(answer(chunked)).failed == 0
    assert visit(answer(b"HTTP/1.1 200 OK\r\n\r\nhello", go_on=False)).failed == 0


def test_closed_connection_is_opened_again_before_a_byte_is_sent() -> None:
    """Counted, and no failure; nothing is sent twice."""
    requests = []

    def handler(connection: socket.socket, request: bytes, number: int) -> bool:
        requests.append(request)
        connection.sendall(PAGE)
        return False

    async def ask_each_time_it_was_closed(visitors: load.Load) -> None:
        connection, queue = load.Connection(visitors.site), asyncio.Queue()
        asking = asyncio.create_task(visitors._keep_asking(connection, None, queue))
        for number in range(1, 11):
            queue.put_nowait((0.0, "/"))
            while len(visitors.result.records) < number or connection.is_open:
                await asyncio.sleep(0.01)
        queue.put_nowait(None)
        await asking

    with served(handler) as url:
        visitors = load.Load(url, mix=["/"])
        asyncio.run(ask_each_time_it_was_closed(visitors))
    assert visitors.result.failed == 0 and len(requests) == 10
    assert visitors.result.reopened == 9, "all but the first"


def test_request_that_was_sent_is_not_sent_again() -> None:
    requests = []

    def handler(connection: socket.socket, request: bytes, number: int) -> bool:
        requests.append(request)
        if number == 2:
            return False
        connection.sendall(PAGE)
        return True

    result = visit(handler, most=10, clients=1)
    assert len(requests) == 10, "each once"
    assert result.failures == {"closed without an answer": 5}, "the second on each connection"


def test_what_is_written_is_told_from_what_is_not() -> None:
    session = load.Session({"sessionid": "s", "csrftoken": "c"}, "c")
    seen = []

    def handler(connection: socket.socket, request: bytes, number: int) -> bool:
        seen.append(request)
        place = b"/accounts/login/" if len(seen) == 1 else b"/posts/p/#comments"
        connection.sendall(b"HTTP/1.1 302 Found\r\nLocation: " + place + b"\r\nContent-Length: 0\r\n\r\n")
        return True

    mix = ["POST /posts/{post}/comments/"]
    result = visit(handler, mix=mix, sessions=[session], posts=["p"], most=5, clients=1, marker="mark")
    assert (result.written, result.failures) == (4, {"POST answered 302 /accounts/login/": 1})
    assert b"Cookie: sessionid=s; csrftoken=c" in seen[0] and b"body=mark+0&csrfmiddlewaretoken=c" in seen[0]
    with pytest.raises(load.LoadError, match="nothing to ask for"):
        load.Load("http://127.0.0.1:1", mix=mix)


def test_mark_is_counted() -> None:
    result = visit(answer(PAGE.replace(b"hello", b"rel:7")), mark="rel:([0-9])", most=4)
    assert result.marks == {"7": 4}


@pytest.mark.parametrize(
    ("url", "options"),
    [
        ("ftp://x", {}),
        ("http://x/path", {}),
        ("127.0.0.1:80", {}),
        ("http://x", {"rate": 0}),
        ("http://x", {"most": 10**7}),
    ],
)
def test_impossible_load_is_refused(url: str, options: dict[str, float]) -> None:
    with pytest.raises(load.LoadError):
        load.Load(url, mix=["/"], **options)


def record(due: float, latency: float, error: str = "") -> load.Record:
    return load.Record(due, latency, 200, error, "GET", "/", True)


def test_time_without_service() -> None:
    good = [record(n / 10, 0.01) for n in range(10)]
    assert load.without_service(good) == 0
    assert load.without_service([]) == 0
    # Nobody asks for five seconds: nobody is without service.
    assert load.without_service([*good, record(6, 0.01)]) == 0
    # From 1.0 on only errors, at once, until the next good answer at 3.01.
    errors = [record(1 + n / 10, 0.01, "status 502") for n in range(20)]
    assert load.without_service([*good, *errors, record(3, 0.01)]) == pytest.approx(2.01)
    # Less than the shortest stretch that counts.
    assert load.without_service(errors[:3]) == 0
    # The same without an end.
    assert load.without_service([*good, *errors]) == pytest.approx(1.91)
    # One who waits long while others are served.
    assert load.without_service([*good, record(0.05, 0.9)]) == 0


def test_percentiles() -> None:
    values = [n / 100 for n in range(1, 101)]
    assert [load.percentile(values, share) for share in (0, 0.5, 0.99, 1)] == [0.01, 0.5, 0.99, 1]
    assert load.percentile([], 0.99) == 0


def test_command_line() -> None:
    command = [sys.executable, str(ROOT / "dev/soak/load.py")]
    for content, code in ((PAGE, 0), (PAGE.replace(b"200", b"503"), 1)):
        with served(answer(content)) as url:
            words = [url, "--seconds", "0.5", "--rate", "20", "--clients", "2", "--path", "/"]
            done = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
        assert done.returncode == code, done.stdout + done.stderr
        assert "p99_ms" in done.stdout
    done = subprocess.run([*command, "http://127.0.0.1:1"], capture_output=True, text=True, check=False)
    assert done.returncode == 2 and "no connection" in done.stderr


# What soak.py makes of it


def row(name: str, *latencies: float, errors: int = 0) -> soak.Row:
    """Return a line of the table with one load of these latencies."""
    made = soak.Row(name, changes=1, seconds=[1.0])
    records = [record(n, latency, "status 502" if n < errors else "") for n, latency in enumerate(latencies)]
    made.add(load.Result(records=records, seconds=len(records)), busy=1.0)
    return made


def test_failed_request_of_a_deploy_fails_the_run() -> None:
    good = [row("baseline", 0.1), row("deploy", 0.1, 0.15), row("own-socket", 0.1, 0.2, errors=2)]
    assert soak.faults(good) == [], "what is there to compare may fail"
    for name in soak.OURS:
        assert soak.faults([*good, row(name, 0.1, 0.1, errors=1)]) == [f"{name}: 1 requests failed (1 status 502)"]
    assert soak.faults([row("deploy")]) == ["deploy: nothing was measured"]
    broken = row("deploy", 0.1)
    broken.faults.append("release x still serves")
    assert soak.faults([broken]) == ["deploy: release x still serves"]


def test_table_and_verdict_hold_against_the_slowest_without_a_change() -> None:
    rows = [row("baseline", 0.1, 0.2), row("deploy", 0.1, 0.3), row("reload", 1.0)]
    lines = soak.table(rows).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == [soak.TITLES[line.name] for line in rows]
    assert " 1.5 " in lines[2] and " 5.0 " in lines[3]
    assert "300 ms, within" in soak.verdict(rows)[1]
    assert "NOT within" in soak.verdict([rows[0], row("rollback", 0.5)])[1]


def test_release_is_marked_where_all_pages_begin(tmp_path: Path) -> None:
    target = soak.mark_release(ROOT / "app", tmp_path / "release", "x-1")
    marked = [path.name for path in target.rglob("*.html") if 'name="soak" content="x-1"' in path.read_text("utf-8")]
    assert marked == ["base.html"]
    (tmp_path / "other/templates").mkdir(parents=True)
    with pytest.raises(soak.SoakError, match="only the bundled application"):
        soak.mark_release(tmp_path / "other", tmp_path / "release2", "x")


def test_busy_machine_is_refused(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(soak.os, "getloadavg", lambda: (99.0, 0, 0))
    monkeypatch.setattr(soak, "QUIET_WAIT", 0)
    monkeypatch.setattr(soak.sys, "argv", ["soak.py", "--skip", "rollback"])
    monkeypatch.setattr(soak, "LOGS", Path("/nonexistent"))
    monkeypatch.setattr(soak.Path, "mkdir", lambda *_, **__: None)
    assert soak.main() == 2
    said = capsys.readouterr()
    assert "99.00" in said.out and "--force" in said.err


def test_playbook_that_is_not_there_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(soak, "PROJECT", tmp_path)
    for skip, wanted in (([], "deploy.yml, playbooks/rollback.yml"), (["rollback"], "playbooks/deploy.yml")):
        options = soak.argparse.Namespace(skip=skip, deploys=2, force=False)
        with pytest.raises(soak.SoakError, match=f"{wanted} is not there"):
            soak.prepare(options)
