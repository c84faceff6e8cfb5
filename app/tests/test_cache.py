"""The cache backend works on Redis, and a Redis that is down does not break the site."""

import time

import pytest
from django.conf import settings
from django.core.cache import cache
from django.test import Client

from ops.cache import FailOpenRedisCache
from tests.factories import make_post


def broken(url: str) -> FailOpenRedisCache:
    """Return a cache on a Redis that is down, with the options of the settings."""
    return FailOpenRedisCache(url, settings.CACHES["default"])


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
    began = time.monotonic()
    assert cache.get("key", "default") == "default"
    assert time.monotonic() - began < 0.5
    assert cache.get_or_set("key", lambda: "computed", 30) == "computed"
    assert cache.get_many(["a", "b"]) == {}
    assert cache.set_many({"a": 1, "b": 2}) == ["a", "b"]
    assert cache.has_key("key") is False
    assert cache.add("key", 1) is cache.touch("key") is cache.delete("key") is False
    cache.set("key", 1)
    cache.delete_many(["a", "b"])
    assert "Cache get given up" in caplog.text


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
def test_pages_answer_without_the_cache(
    client: Client, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    post = make_post()
    monkeypatch.setattr("blog.selectors.cache", broken(request.getfixturevalue(kind)))
    for path in ("/", "/posts/", post.get_absolute_url(), post.author.get_absolute_url()):
        assert client.get(path).status_code == 200
