"""A Redis that does not answer is left alone for a while, and used again when it is back."""

import contextlib
import socket
import socketserver
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from copy import deepcopy
from urllib.parse import urlsplit

import pytest
from django.conf import settings as django_settings
from django.core.cache import caches
from django.test import Client
from pytest_django import Settings
from redis import ConnectionPool
from redis.exceptions import ConnectionError, ResponseError, TimeoutError

from ops import pausing
from ops.pausing import Pause, PausedError, PausingRedis
from shop import counters
from tests.factories import make_post, make_user


class Clock:
    """A clock that stands until it is told."""

    now = 1000.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    """Return the clock of the pauses, which are not shortened."""
    clock = Clock()
    monkeypatch.setattr(pausing, "clock", clock)
    monkeypatch.setattr(pausing, "JITTER", 0)
    return clock


class Server:
    """Stands for a Redis: counts what it is asked, and fails while it has an error."""

    def __init__(self, error: Exception | None = None) -> None:
        """Answer, or fail so."""
        self.error, self.asked = error, 0

    def __call__(self) -> str:
        """Answer."""
        self.asked += 1
        if self.error:
            raise self.error
        return "answer"


def asks(pause: Pause, server: Server, *, always: bool = False) -> bool:
    """Run a command; say whether the server was asked."""
    before = server.asked
    with contextlib.suppress(ConnectionError, TimeoutError, ResponseError):
        pause.run(server, always=always)
    return server.asked > before


@pytest.mark.parametrize("error", [ConnectionError(), TimeoutError()])
def test_after_a_failure_nobody_asks(clock: Clock, error: Exception) -> None:
    pause, server = Pause(), Server(error)
    with pytest.raises(type(error)):
        pause.run(server)
    with pytest.raises(PausedError):
        pause.run(server)
    assert server.asked == 1


def test_pauses_double_up_to_the_longest(clock: Clock) -> None:
    pause, server = Pause(), Server(ConnectionError())
    for length in (1, 2, 4, 8, 10, 10):
        assert asks(pause, server)
        clock.now += length - 0.01
        assert not asks(pause, server)
        clock.now += 0.01


def test_pauses_are_shortened_at_random(clock: Clock, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pausing, "JITTER", 0.2)
    monkeypatch.setattr(pausing, "random", lambda: 0.5)
    pause, server = Pause(), Server(ConnectionError())
    assert asks(pause, server)
    clock.now += 0.89
    assert not asks(pause, server)
    clock.now += 0.02
    assert asks(pause, server)


@pytest.mark.parametrize("answer", [None, ResponseError()])
def test_one_answer_ends_the_pause_and_its_growth(clock: Clock, answer: Exception | None) -> None:
    pause, server = Pause(), Server(ConnectionError())
    for length in (1, 2):
        asks(pause, server)
        clock.now += length
    server.error = answer
    assert asks(pause, server)
    assert asks(pause, server)
    server.error = ConnectionError()
    assert asks(pause, server)
    clock.now += 1
    assert asks(pause, server)


def test_one_tries_for_all(clock: Clock) -> None:
    pause, server = Pause(), Server(ConnectionError())
    asks(pause, server)
    clock.now += 1
    others = []

    def slow() -> None:
        others.append(asks(pause, server))
        clock.now += 1
        # The one who tries has not come back for the length of the pause.
        others.append(asks(pause, server))

    pause.run(slow)
    assert others == [False, True]


def test_those_who_fail_together_make_one_pause(clock: Clock) -> None:
    pause, together = Pause(), threading.Barrier(20)

    def fail() -> None:
        together.wait(10)
        raise ConnectionError

    def ask() -> None:
        with contextlib.suppress(ConnectionError):
            pause.run(fail)

    with ThreadPoolExecutor(20) as threads:
        for _ in range(20):
            threads.submit(ask)
    clock.now += 1
    assert asks(pause, Server())


def test_deletions_are_always_tried(clock: Clock) -> None:
    pause, server = Pause(), Server(ConnectionError())
    assert asks(pause, server, always=True)
    assert not asks(pause, server)
    assert asks(pause, server, always=True)
    clock.now += 1
    # The second one did not prolong the pause; nor does one while it is over.
    assert asks(pause, server, always=True)
    assert asks(pause, server)
    server.error = None
    assert not asks(pause, server)
    assert asks(pause, server, always=True)
    assert asks(pause, server)


def on(url: str) -> dict[str, object]:
    """Return the settings of caches on another Redis."""
    definition = deepcopy(django_settings.CACHES)
    definition["default"]["LOCATION"] = url
    return definition


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
def test_a_page_waits_once(
    client: Client,
    request: pytest.FixtureRequest,
    settings: Settings,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    kind: str,
) -> None:
    # A pause does not end while the page is made, however busy the machine is.
    monkeypatch.setattr(pausing, "clock", lambda: 1000.0)
    make_post()
    client.force_login(make_user())
    assert client.get("/").status_code == 200
    settings.CACHES = on(request.getfixturevalue(kind))
    caplog.clear()
    assert client.get("/").status_code == 200
    given_up = [record.getMessage().split(": ")[1] for record in caplog.records if "given up" in record.getMessage()]
    assert len(given_up) >= 4
    assert given_up[0] != "PausedError"
    assert set(given_up[1:]) == {"PausedError"}


class Relay(socketserver.ThreadingTCPServer):
    """Passes on to the tests' Redis while it is told to, and else takes connections and stays silent."""

    daemon_threads = True
    block_on_close = False
    answers = False


class Passage(socketserver.BaseRequestHandler):
    """One connection through the relay."""

    server: Relay

    def handle(self) -> None:
        """Pass on command by command."""
        url = urlsplit(django_settings.CACHE_URL)
        with socket.create_connection((url.hostname, url.port or 6379)) as upstream:
            while data := self.request.recv(65536):
                if self.server.answers:
                    upstream.sendall(data)
                    self.request.sendall(upstream.recv(65536))


@pytest.fixture
def relay() -> Iterator[Relay]:
    """Return a relay that is silent."""
    with Relay(("127.0.0.1", 0), Passage) as relay:
        threading.Thread(target=relay.serve_forever, daemon=True).start()
        yield relay
        relay.shutdown()


def test_a_redis_that_is_back_is_used_again(settings: Settings, relay: Relay, clock: Clock) -> None:
    port = relay.server_address[1]
    url = urlsplit(settings.CACHE_URL)
    credentials = "".join(url.netloc.rpartition("@")[:2])
    settings.CACHES = on(url._replace(netloc=f"{credentials}127.0.0.1:{port}").geturl())
    cache = caches["default"]
    cache.set("boat", 1, 30)
    relay.answers = True
    cache.set("boat", 2, 30)
    assert cache.set_many({"oar": 3}, 30) == ["oar"]
    assert cache.get("boat") is None
    clock.now += 1
    cache.set("boat", 4, 30)
    assert cache.set_many({"oar": 5}, 30) == []
    assert cache.get_many(["boat", "oar"]) == {"boat": 4, "oar": 5}
    # A deletion finds out before the pause is over.
    relay.answers = False
    assert cache.get("boat") is None
    relay.answers = True
    assert cache.get("boat") is None
    assert cache.delete("boat")
    assert cache.get("oar") == 5


def test_pipelines_begin_pauses(settings: Settings, silent_redis: str) -> None:
    settings.CACHES = on(silent_redis)
    assert caches["default"].set_many({"oar": 5}, 30) == ["oar"]
    with pytest.raises(PausedError):
        caches["default"]._cache.get_client().ping()


def test_views_are_not_counted_one_by_one_in_vain(
    monkeypatch: pytest.MonkeyPatch, silent_redis: str, caplog: pytest.LogCaptureFixture
) -> None:
    pool = ConnectionPool.from_url(silent_redis, **django_settings.PAGE_REDIS_OPTIONS)
    monkeypatch.setattr(counters, "_pool", pool)
    monkeypatch.setattr(pausing, "clock", lambda: 1000.0)
    for _ in range(50):
        counters.count_view(product_id=1)
    assert caplog.text.count("PausedError") == 49


def test_each_redis_has_its_own_pause(dead_redis: str) -> None:
    with pytest.raises(ConnectionError):
        PausingRedis.from_url(dead_redis).ping()
    assert PausingRedis.from_url(django_settings.CACHE_URL).ping()
