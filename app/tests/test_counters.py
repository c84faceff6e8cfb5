"""Views of products: collected in Redis, added in bulk, each once."""

import threading
from unittest import mock

import pytest
import redis
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext

from shop import counters
from shop.models import Product, ViewFlush
from shop.tasks import flush_product_views
from tests.factories import make_product

pytestmark = pytest.mark.django_db


def views(*products: Product) -> list[int]:
    """Return the counts that the database has."""
    by_id = Product.objects.in_bulk([product.pk for product in products])
    return [by_id[product.pk].views for product in products]


def test_views_are_added_by_the_next_flush(client: Client) -> None:
    boat, oar = make_product(views=5), make_product()
    for product in (boat, boat, oar):
        assert client.get(product.get_absolute_url()).status_code == 200
    assert views(boat, oar) == [5, 0]
    flush_product_views()
    assert views(boat, oar) == [7, 1]
    flush_product_views()
    assert views(boat, oar) == [7, 1]


def test_a_flush_is_one_update_whatever_the_number() -> None:
    def queries(products: list[Product]) -> int:
        for product in products:
            counters.count_view(product_id=product.pk)
        with CaptureQueriesContext(connection) as context:
            assert counters.flush() == len(products)
        return len(context)

    assert queries([make_product()]) == queries([make_product() for _ in range(40)])


def test_a_flush_leaves_the_cached_product(client: Client) -> None:
    path = make_product().get_absolute_url()
    client.get(path)
    counters.flush()
    with CaptureQueriesContext(connection) as context:
        client.get(path)
    assert len(context) == 0


def test_a_product_that_is_gone_is_no_fault() -> None:
    product, gone = make_product(), make_product()
    for counted in (product, gone):
        counters.count_view(product_id=counted.pk)
    gone.delete()
    counters.flush()
    assert views(product) == [1]


@pytest.mark.django_db(transaction=True)
def test_a_flush_cut_before_its_commit_is_made_up_for() -> None:
    product = make_product()
    counters.count_view(product_id=product.pk)
    with mock.patch.object(counters, "ADD", "SELECT 1/0, %s, %s"), pytest.raises(Exception, match="division by zero"):
        counters.flush()
    assert (views(product), ViewFlush.objects.count()) == ([0], 0)
    counters.count_view(product_id=product.pk)
    counters.flush()
    assert views(product) == [1]
    counters.flush()
    assert views(product) == [2]


@pytest.mark.django_db(transaction=True)
def test_a_flush_cut_after_its_commit_is_not_counted_again() -> None:
    product = make_product()
    counters.count_view(product_id=product.pk)
    with (
        mock.patch.object(counters, "DROP", "return redis.error_reply('killed here')"),
        pytest.raises(redis.RedisError),
    ):
        counters.flush()
    assert views(product) == [1]
    counters.count_view(product_id=product.pk)
    assert counters.flush() == 0
    assert views(product) == [1]
    assert counters.flush() == 1
    assert views(product) == [2]


@pytest.mark.django_db(transaction=True)
def test_two_flushes_at_once_count_once() -> None:
    products = [make_product() for _ in range(20)]
    for product in products:
        counters.count_view(product_id=product.pk)
    together = threading.Barrier(4)

    def flush() -> None:
        together.wait()
        counters.flush()
        connections.close_all()

    threads = [threading.Thread(target=flush) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert views(*products) == [1] * 20


def test_a_redis_that_is_down_is_no_reason_to_fail(
    client: Client, dead_redis: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    product = make_product()
    monkeypatch.setattr(counters, "_pool", redis.ConnectionPool.from_url(dead_redis))
    assert client.get(product.get_absolute_url()).status_code == 200
    with pytest.raises(redis.RedisError):
        counters.flush()
