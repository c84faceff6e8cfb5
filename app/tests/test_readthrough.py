"""What the read-through cache promises, on a real Redis. Computations wait for events, not for the clock."""

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor, wait
from copy import deepcopy
from pathlib import Path
from typing import Any
from uuid import uuid4

import pytest
from django.core.cache import caches
from django.db import connection, transaction
from django.test import Client
from django.test.utils import CaptureQueriesContext
from pytest_django import DjangoCaptureOnCommitCallbacks, Settings

from blog.models import Author
from blog.selectors import profile_by_slug
from ops import readthrough
from ops.readthrough import MISSING, ReadThroughCache
from shop.models import Product
from shop.selectors import product_by_slug, products
from tests.factories import make_product

APP = Path(__file__).resolve().parent.parent
READERS = 200
PATIENCE = 30  # seconds after which a test fails; none takes as long when things work


@pytest.fixture(autouse=True)
def patient_cache(settings: Settings, fresh_cache: None) -> str:
    """Give the caches of all threads a prefix of this test's own, and the time that 200 of them may take."""
    definition = deepcopy(settings.CACHES)
    prefix = definition["default"]["KEY_PREFIX"] = f"test-{uuid4().hex}"
    definition["default"]["OPTIONS"] |= {"socket_connect_timeout": PATIENCE, "socket_timeout": PATIENCE}
    settings.CACHES = definition
    return prefix


class Computation:
    """A computation that counts its runs, and lasts until it is told to end."""

    def __init__(self, value: Any) -> None:
        self.value, self.runs = value, 0
        self.begun, self.may_end = threading.Event(), threading.Event()

    def __call__(self) -> Any:
        """Run."""
        self.runs += 1
        self.begun.set()
        assert self.may_end.wait(PATIENCE)
        return self.value


@pytest.fixture
def readers() -> Iterator[ThreadPoolExecutor]:
    """Return as many threads as there are readers."""
    with ThreadPoolExecutor(READERS) as pool:
        yield pool


def never() -> Any:
    """Stand for a computation that must not be asked for."""
    raise AssertionError("computed")


def eventually(condition: Callable[[], object]) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def expired(cache: ReadThroughCache, key: str, value: Any) -> None:
    """Store a value whose time is over, but not its hard limit."""
    ttl, cache.ttl = cache.ttl, -1
    assert cache.get(key, lambda: value) == value
    cache.ttl = ttl


def test_a_value_is_computed_once() -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    assert cache.get("gull", lambda: {"oars": 2}) == {"oars": 2}
    assert cache.get("gull", never) == {"oars": 2}
    assert cache.get("tern", lambda: 1) == 1


@pytest.mark.parametrize("value", [None, False, 0, "", "missing", "MISSING", [], (0.0, 0.0, False, None)])
def test_no_value_is_taken_for_a_miss(value: Any) -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    assert cache.get("gull", lambda: value) == value
    assert cache.get("gull", never) == value
    assert cache.get("tern", lambda: MISSING) is MISSING
    assert cache.get("tern", never) is MISSING


def test_an_expired_key_is_recomputed_once_and_nobody_waits(readers: ThreadPoolExecutor) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=PATIENCE)
    expired(cache, "gull", "old")
    compute = Computation("new")
    # Every reader is served before the computation may end, so none can have waited for it.
    answers = [readers.submit(cache.get, "gull", compute) for _ in range(READERS)]
    assert [answer.result(PATIENCE) for answer in answers] == ["old"] * READERS
    assert compute.begun.wait(PATIENCE)
    compute.may_end.set()
    eventually(lambda: cache.get("gull", compute) == "new")
    assert compute.runs == 1


def test_a_cold_key_is_computed_once_and_those_who_wait_are_served(readers: ThreadPoolExecutor) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=10 * PATIENCE)
    compute = Computation("new")
    answers = [readers.submit(cache.get, "gull", compute) for _ in range(READERS)]
    assert compute.begun.wait(PATIENCE)
    assert not wait(answers, timeout=0.2).done
    compute.may_end.set()
    # Long before the lease would end: it is the value that they are served by.
    assert [answer.result(PATIENCE) for answer in answers] == ["new"] * READERS
    assert compute.runs == 1


def test_readers_of_a_failed_computation_try_themselves(readers: ThreadPoolExecutor) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=2 * PATIENCE)
    compute = Computation("new")

    def fail() -> Any:
        compute()
        raise LookupError("no database")

    first = readers.submit(cache.get, "gull", fail)
    assert compute.begun.wait(PATIENCE)
    second = readers.submit(cache.get, "gull", lambda: "second")
    compute.may_end.set()
    with pytest.raises(LookupError):
        first.result(PATIENCE)
    assert second.result(PATIENCE) == "second"


def test_a_recomputation_that_fails_leaves_the_old_value(caplog: pytest.LogCaptureFixture) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=PATIENCE)
    expired(cache, "gull", "old")
    assert cache.get("gull", lambda: 1 / 0) == "old"
    eventually(lambda: "the old value stays" in caplog.text)
    # And the lease is kept: not every reader tries again at once.
    assert [cache.get("gull", never) for _ in range(20)] == ["old"] * 20


HOLDER = """
import django, sys, time
django.setup()
from django.core.cache import caches
from ops.readthrough import ReadThroughCache
caches["default"].key_prefix = sys.argv[1]
def compute():
    print("computing", flush=True)
    time.sleep(600)
ReadThroughCache("boat", ttl=3600, lease=float(sys.argv[2])).get("gull", compute)
"""


def test_a_killed_holder_is_replaced_within_the_life_of_its_lease(patient_cache: str) -> None:
    lease = 4
    cache = ReadThroughCache("boat", ttl=3600, lease=lease)
    environment = os.environ | {"DJANGO_SETTINGS_MODULE": "tests.settings"}
    with subprocess.Popen(
        [sys.executable, "-c", HOLDER, patient_cache, str(lease)],
        cwd=APP,
        env=environment,
        stdout=subprocess.PIPE,
        text=True,
    ) as holder:
        assert holder.stdout
        begun = holder.stdout.readline()
        holder.send_signal(signal.SIGKILL)
    assert begun == "computing\n"
    slot = cache._slot("gull")
    left = slot.client.pttl(slot.lease)
    assert left != -1, "a lease without an end"
    assert left <= lease * 1000
    cache.lease = PATIENCE  # how long this reader would wait; Redis ends the other's lease
    computed_at = []
    assert cache.get("gull", lambda: computed_at.append(time.monotonic()) or "new") == "new"
    assert len(computed_at) == 1
    assert cache.get("gull", never) == "new"


def test_a_wait_has_an_end() -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=0.2)
    slot = cache._slot("gull")
    slot.client.set(slot.lease, "of somebody else", px=PATIENCE * 1000)
    assert cache.get("gull", lambda: "own") == "own"
    assert slot.client.get(slot.lease) == b"of somebody else"
    assert slot.client.get(slot.entry) is None


def test_a_late_writer_does_not_store_over_a_change(readers: ThreadPoolExecutor) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=PATIENCE)
    late = Computation("before the change")
    answer = readers.submit(cache.get, "gull", late)
    assert late.begun.wait(PATIENCE)
    cache.invalidate("gull")
    assert cache.get("gull", lambda: "after the change") == "after the change"
    late.may_end.set()
    assert answer.result(PATIENCE) == "before the change"
    assert cache.get("gull", never) == "after the change"


def test_a_late_writer_does_not_store_after_a_change(readers: ThreadPoolExecutor) -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=PATIENCE)
    expired(cache, "gull", "old")
    late = Computation("before the change")
    assert cache.get("gull", late) == "old"
    assert late.begun.wait(PATIENCE)
    cache.invalidate("gull")
    late.may_end.set()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "refresh-boat"])
    assert cache.get("gull", lambda: "after the change") == "after the change"


def test_who_comes_late_does_not_recompute_what_is_new() -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    expired(cache, "gull", "old")
    slot = cache._slot("gull")
    stamp, _ = slot.read()
    cache.invalidate("gull")
    cache.get("gull", lambda: "new")
    assert slot.claim(stamp, 1) is None
    assert slot.claim(b"", 1) is None


def test_lifetimes_are_spread_over_the_window() -> None:
    cache = ReadThroughCache("boat", ttl=1000, stale=500, jitter=0.2)
    lifetimes = [cache.lifetime() for _ in range(10_000)]
    assert 800 < min(lifetimes) < 801
    assert 999 < max(lifetimes) <= 1000
    # Ten equal parts of the window: 1,000 each, with a standard deviation of 30.
    parts = [sum(800 + 20 * part < life <= 820 + 20 * part for life in lifetimes) for part in range(10)]
    assert all(800 < size < 1200 for size in parts), parts
    # And what Redis is told is that lifetime with the hard limit.
    for number in range(200):
        cache.get(str(number), lambda: 1)
    slots = [cache._slot(str(number)) for number in range(200)]
    kept = [slot.client.pttl(slot.entry) / 1000 for slot in slots]
    assert all(1200 < seconds <= 1500 for seconds in kept)
    assert max(kept) - min(kept) > 100


def test_ten_thousand_keys_written_at_once_do_not_expire_at_once() -> None:
    # So long that the time which it takes to write them is nothing beside it.
    cache = ReadThroughCache("boat", ttl=1_000_000, stale=0, jitter=0.2)
    slot = cache._slot("0")
    for number in range(10_000):
        cache.get(str(number), lambda: 1)
    with slot.client.pipeline(transaction=False) as pipeline:
        for number in range(10_000):
            pipeline.pttl(cache._slot(str(number)).entry)
        left = [milliseconds / 1000 for milliseconds in pipeline.execute()]
    assert all(0 < seconds <= 1_000_000 for seconds in left)
    parts = [sum(80 + 2 * part < seconds / 10_000 <= 82 + 2 * part for seconds in left) for part in range(10)]
    assert all(700 < size < 1300 for size in parts), parts


def test_a_miss_has_a_short_life_and_no_stale_one() -> None:
    cache = ReadThroughCache("boat", ttl=1000, missing_ttl=30)
    cache.get("gull", lambda: MISSING)
    slot = cache._slot("gull")
    assert 0 < slot.client.pttl(slot.entry) <= 30_000


def test_early_recomputation_follows_the_paper(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = ReadThroughCache("boat", ttl=3600)

    def share_due(left: float, cost: float) -> float:
        entry = readthrough.Entry(1000 + left, cost, True, None)
        return sum(cache._is_due(entry) for _ in range(5000)) / 5000

    monkeypatch.setattr(readthrough.time, "time", lambda: 1000.0)
    assert share_due(left=0, cost=0.2) == 1
    # P(due) = exp(-left / (beta * cost)); five standard deviations are 0.035 at most.
    assert share_due(left=0.2, cost=0.2) == pytest.approx(0.368, abs=0.035)
    assert share_due(left=0.4, cost=0.2) == pytest.approx(0.135, abs=0.035)
    assert share_due(left=0.4, cost=0.4) == pytest.approx(0.368, abs=0.035)
    assert share_due(left=60, cost=0.2) == 0
    cache.beta = 2
    assert share_due(left=0.4, cost=0.2) == pytest.approx(0.368, abs=0.035)


def test_the_cost_is_measured() -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    cache.get("gull", lambda: time.sleep(0.1))
    entry = cache._slot("gull").read()[1]
    assert entry
    assert 0.1 <= entry.cost < PATIENCE


def test_recomputations_in_the_background_are_few() -> None:
    cache = ReadThroughCache("boat", ttl=3600, lease=PATIENCE)
    compute = Computation("new")
    for number in range(20):
        expired(cache, str(number), "old")
    assert [cache.get(str(number), compute) for number in range(20)] == ["old"] * 20
    assert len([t for t in threading.enumerate() if t.name == "refresh-boat"]) == 4
    compute.may_end.set()
    eventually(lambda: not [t for t in threading.enumerate() if t.name == "refresh-boat"])
    eventually(lambda: cache.get("19", lambda: "new") == "new")


def test_what_cannot_be_read_is_computed(caplog: pytest.LogCaptureFixture) -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    slot = cache._slot("gull")
    for damage in (b"x" * 40, b"short", b"x" * 16):
        slot.client.set(slot.entry, damage)
        assert cache.get("gull", lambda: "new") == "new"
        assert cache.get("gull", never) == "new"
    assert "cannot be read" in caplog.text


@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
def test_without_redis_values_are_computed(
    settings: Settings, request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    without_redis(settings, request.getfixturevalue(kind))
    cache = ReadThroughCache("boat", ttl=3600)
    assert cache.get("gull", lambda: "own") == "own"
    assert cache.get("gull", lambda: MISSING) is MISSING
    with pytest.raises(ZeroDivisionError):
        cache.get("gull", lambda: 1 / 0)
    cache.invalidate("gull")
    assert "Cache of boat given up" in caplog.text
    assert "Invalidation of gull given up" in caplog.text


def test_redis_lost_in_the_middle(settings: Settings, dead_redis: str, caplog: pytest.LogCaptureFixture) -> None:
    cache = ReadThroughCache("boat", ttl=3600)
    working = cache._slot("gull")
    without_redis(settings, dead_redis)
    broken = working._replace(client=cache._slot("gull").client)
    assert cache._compute(broken, b"token", lambda: "own") == "own"
    with pytest.raises(ZeroDivisionError):
        cache._compute(broken, b"token", lambda: 1 / 0)
    assert "not stored" in caplog.text
    assert "not returned" in caplog.text


def without_redis(settings: Settings, url: str) -> None:
    """Let the cache be at an address where no Redis answers, with the site's own time-outs."""
    definition = deepcopy(settings.CACHES)
    definition["default"]["LOCATION"] = url
    definition["default"]["OPTIONS"] |= {"socket_connect_timeout": 0.3, "socket_timeout": 0.3}
    settings.CACHES = definition


@pytest.mark.django_db
def test_a_thousand_products_that_do_not_exist_cost_one_query_each_and_then_none(
    client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A busy machine may take longer for the first round than the half minute for which an absence is known.
    monkeypatch.setattr(products, "missing_ttl", 3600)
    slugs = [f"nothing-{number}" for number in range(1000)]
    for expected in (1000, 0):
        with CaptureQueriesContext(connection) as context:
            assert {product_by_slug(slug) for slug in slugs} == {None}
            assert client.get(f"/shop/products/{slugs[0]}/").status_code == 404
        assert len(context) == expected


@pytest.mark.django_db
def test_a_change_is_seen_after_its_commit_and_not_before(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
) -> None:
    product = make_product(name="Old")
    assert product_by_slug(product.slug)["name"] == "Old"
    product.name = "New"
    with django_capture_on_commit_callbacks(execute=True):
        product.save()
        assert products.get(product.slug, never)["name"] == "Old"
    assert product_by_slug(product.slug)["name"] == "New"


@pytest.mark.django_db(transaction=True)
def test_changes_drop_what_is_cached() -> None:
    product = make_product(slug="gull")
    assert product_by_slug("gull")
    assert product_by_slug("tern") is None
    product.slug = "tern"
    product.save()
    assert product_by_slug("gull") is None
    assert product_by_slug("tern")
    product.delete()
    assert product_by_slug("tern") is None
    author = Author.objects.create(name="Ada", slug="ada", bio="Old.")
    assert profile_by_slug("ada")["bio"] == "Old."
    author.bio = "New."
    author.save(update_fields=["bio"])
    assert profile_by_slug("ada")["bio"] == "New."


@pytest.mark.django_db(transaction=True)
def test_a_change_rolled_back_drops_nothing() -> None:
    product = make_product(name="Old")
    product_by_slug(product.slug)
    with transaction.atomic():
        product.name = "New"
        product.save()
        transaction.set_rollback(True)
    assert products.get(product.slug, never)["name"] == "Old"


@pytest.mark.django_db(transaction=True)
def test_a_background_recomputation_reads_the_database_and_closes_its_connection() -> None:
    make_product(name="Old", slug="gull")
    expired(products, "gull", {"name": "Old"})
    Product.objects.update(name="New")  # sends no signal
    assert product_by_slug("gull")["name"] == "Old"
    # Were a connection left open, the test database could not be dropped.
    eventually(lambda: product_by_slug("gull")["name"] == "New")


@pytest.mark.django_db
def test_the_prefix_is_the_one_of_django(patient_cache: str) -> None:
    slot = products._slot("gull")
    assert slot.entry == f"{patient_cache}:1:product:entry:gull"
    assert caches["default"].key_prefix == patient_cache
