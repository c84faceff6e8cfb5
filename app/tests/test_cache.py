"""The cache backend works on Redis, and a Redis that is down does not break the site."""

from copy import deepcopy

import pytest
from django.conf import settings as django_settings
from django.core.cache import cache
from django.db import transaction
from django.test import Client
from pytest_django import Settings

from ops.cache import FailOpenRedisCache
from tests.factories import make_category, make_post, make_product, make_user


def broken(url: str) -> FailOpenRedisCache:
    """Return a cache on a Redis that is down, with the options of the settings."""
    return FailOpenRedisCache(url, django_settings.CACHES["default"])


def test_values_are_kept_in_redis() -> None:
    cache.set("boat", {"oars": 2}, 30)
    assert cache.get("boat") == {"oars": 2}
    assert 0 < cache._cache.get_client().ttl(cache.make_key("boat")) <= 30
    assert cache.delete("boat")
    assert cache.get("boat") is None


@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
def test_a_redis_that_is_down_is_a_miss(
    request: pytest.FixtureRequest, caplog: pytest.LogCaptureFixture, kind: str
) -> None:
    cache = broken(request.getfixturevalue(kind))
    assert cache.get("key", "default") == "default"
    assert cache.get_or_set("key", lambda: "computed", 30) == "computed"
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
    assert cache.has_key("key") is False
    assert cache.add("key", 1) is cache.touch("key") is cache.delete("key") is False
    cache.set("key", 1)
    cache.delete_many(["a", "b"])
    assert "Cache get given up" in caplog.text


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
def test_pages_answer_without_the_cache(
    client: Client, request: pytest.FixtureRequest, settings: Settings, kind: str
) -> None:
    post, product, user = make_post(category=make_category()), make_product(), make_user()
    definition = deepcopy(settings.CACHES)
    definition["default"]["LOCATION"] = request.getfixturevalue(kind)
    settings.CACHES = definition
    paths = [
        "/", "/posts/", "/search/?q=length", "/shop/", "/shop/hot/", product.get_absolute_url(),
        *(row.get_absolute_url() for row in (post, post.author, post.category, post.tags.first())),
    ]  # fmt: skip
    for path in paths:
        assert client.get(path).status_code == 200, path
    assert client.get("/shop/products/nothing/").status_code == 404
    client.force_login(user)
    assert client.post(f"{post.get_absolute_url()}comments/", {"body": "Still here."}).status_code == 302
    assert "Still here." in client.get("/").content.decode()
    product.name = "Changed"
    with transaction.atomic():
        product.save()
    assert "Changed" in client.get(product.get_absolute_url()).content.decode()
