"""Fixtures: static files collected once, a fresh corner of the cache for each test, brokers that are down."""

import logging
import shutil
import socket
from collections.abc import Callable, Iterator
from uuid import uuid4

import pytest
import redis
from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command

from config.celery import app
from ops.pausing import pause_of
from shop import counters


@pytest.fixture(scope="session", autouse=True)
def static_files() -> Iterator[None]:
    """Collect the static files, as a deployment does: the pages name them by the manifest."""
    call_command("collectstatic", interactive=False, verbosity=0)
    yield
    shutil.rmtree(settings.STATIC_ROOT)


@pytest.fixture(scope="session", autouse=True)
def media_folder() -> Iterator[None]:
    """Remove the folder of uploads at the end."""
    yield
    shutil.rmtree(settings.MEDIA_ROOT)


# Django's templates and those of the tools ask for what is not there, on purpose.
TEMPLATES_OF_OTHERS = ("admin/", "debug_toolbar/", "django/", "registration/", "silk/")


class Misses(logging.Handler):
    """The names that templates of this project asked for and did not get: Django renders nothing in their place."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.found: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Note a miss. The name of the template is that of the page, also for what it includes or extends."""
        if "resolving variable" in record.msg and record.exc_info:
            name, template = record.args
            if not str(template).startswith(TEMPLATES_OF_OTHERS):
                self.found.append(f"{template}: {name}, in {record.exc_info[1].params[0]}")


@pytest.fixture(autouse=True)
def template_misses(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """Fail the test when a template asked for something that is not there."""
    logger, misses = logging.getLogger("django.template"), Misses()
    monkeypatch.setattr(logger, "propagate", False)
    monkeypatch.setattr(logger, "level", logging.DEBUG)
    logger._cache.clear()
    logger.addHandler(misses)
    yield misses.found
    logger.removeHandler(misses)
    logger._cache.clear()
    if misses.found:
        pytest.fail("\n".join(["templates asked for what is not there:", *sorted(set(misses.found))]), pytrace=False)


# Seconds that a Redis may take to answer on a busy machine. Tests of one that does not work have the time-outs of the
# site.
PATIENCE = {"socket_connect_timeout": 30, "socket_timeout": 30}


@pytest.fixture(autouse=True)
def fresh_cache(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test keys of its own; nothing of the Redis in use is flushed."""
    backend = caches["default"]
    monkeypatch.setattr(backend, "key_prefix", f"test-{uuid4().hex}")
    if not backend._cache._pool_options.items() >= PATIENCE.items():
        backend._cache._pool_options.update(PATIENCE)
        backend._cache._pools.clear()


@pytest.fixture(autouse=True)
def no_pauses() -> None:
    """Forget what was learned of each Redis: the next test may have another one at the same address."""
    pause_of.cache_clear()


@pytest.fixture(scope="session")
def patient_counters() -> Iterator[redis.ConnectionPool]:
    """Return connections to the Redis of the counters."""
    options = settings.PAGE_REDIS_OPTIONS | PATIENCE
    pool = redis.ConnectionPool.from_url(settings.CELERY_RESULT_BACKEND, decode_responses=True, **options)
    yield pool
    pool.disconnect()


@pytest.fixture(autouse=True)
def fresh_counters(monkeypatch: pytest.MonkeyPatch, patient_counters: redis.ConnectionPool) -> Iterator[None]:
    """Give each test counters of its own."""
    key = f"test-views-{uuid4().hex}"
    monkeypatch.setattr(counters, "KEY", key)
    monkeypatch.setattr(counters, "_pool", patient_counters)
    yield
    with redis.Redis.from_url(settings.CELERY_RESULT_BACKEND) as client:
        client.delete(key, f"{key}:batch")


@pytest.fixture(scope="session", autouse=True)
def clean_broker() -> Iterator[None]:
    """Remove the keys of this run's queue at the end."""
    yield
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        for key in client.scan_iter(f"*{settings.CELERY_TASK_DEFAULT_QUEUE}*"):
            client.delete(key)


@pytest.fixture
def dead_redis() -> str:
    """Return the URL of a Redis that refuses connections."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return f"redis://127.0.0.1:{probe.getsockname()[1]}/0"


@pytest.fixture
def silent_redis() -> Iterator[str]:
    """Return the URL of a Redis that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield f"redis://127.0.0.1:{listener.getsockname()[1]}/0"


@pytest.fixture
def use_broker(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str], None]]:
    """Return a function that gives Celery another broker, for this test and the processes that it starts."""
    with monkeypatch.context() as patch:

        def use(url: str) -> None:
            # Celery reads this variable before its settings. After a fork it opens its connections anew.
            patch.setenv("CELERY_BROKER_URL", url)
            app._after_fork()

        yield use
    app._after_fork()


@pytest.fixture(params=["dead_redis", "silent_redis"])
def broken_broker(request: pytest.FixtureRequest, use_broker: Callable[[str], None]) -> None:
    """Make Celery's broker one that refuses, then one that does not answer."""
    use_broker(request.getfixturevalue(request.param))
