"""Django's Redis cache backend, made to fail open."""

import logging
from collections.abc import Callable
from typing import Any

from django.core.cache.backends.redis import RedisCache, RedisCacheClient
from redis.exceptions import RedisError

from ops.pausing import PausingRedis

logger = logging.getLogger(__name__)


class PausingRedisCacheClient(RedisCacheClient):
    """Django's use of a Redis client, here of one that does not ask a silent Redis again and again."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take what Django's takes."""
        super().__init__(*args, **kwargs)
        self._client = PausingRedis


class FailOpenRedisCache(RedisCache):
    """A Redis that cannot be reached makes the site slower, it does not break it.

    A read is answered as a miss, a write or a deletion is given up, each with a warning in the log. What a
    lost deletion should have removed stays until its time is over, so cache nothing without a timeout.
    """

    def __init__(self, server: str, params: dict[str, Any]) -> None:
        """Take the address and the options of the settings."""
        super().__init__(server, params)
        self._class = PausingRedisCacheClient

    def _attempt(self, fallback: Any, operation: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        try:
            return operation(*args, **kwargs)
        except RedisError as error:
            logger.warning("Cache %s given up: %s", operation.__name__, type(error).__name__)
            return fallback

    def add(self, *args: Any, **kwargs: Any) -> bool:
        """Store unless present."""
        return self._attempt(False, super().add, *args, **kwargs)

    def get(self, key: str, default: Any = None, version: int | None = None) -> Any:
        """Fetch."""
        return self._attempt(default, super().get, key, default, version)

    def set(self, *args: Any, **kwargs: Any) -> None:
        """Store."""
        self._attempt(None, super().set, *args, **kwargs)

    def touch(self, *args: Any, **kwargs: Any) -> bool:
        """Prolong."""
        return self._attempt(False, super().touch, *args, **kwargs)

    def delete(self, *args: Any, **kwargs: Any) -> bool:
        """Remove."""
        return self._attempt(False, super().delete, *args, **kwargs)

    def get_many(self, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """Fetch several."""
        return self._attempt({}, super().get_many, *args, **kwargs)

    def has_key(self, *args: Any, **kwargs: Any) -> bool:
        """Say whether the key is present."""
        return self._attempt(False, super().has_key, *args, **kwargs)

    def set_many(self, data: dict[str, Any], *args: Any, **kwargs: Any) -> list[str]:
        """Store several and return the keys that were not stored."""
        return self._attempt(list(data), super().set_many, data, *args, **kwargs)

    def delete_many(self, *args: Any, **kwargs: Any) -> None:
        """Remove several."""
        self._attempt(None, super().delete_many, *args, **kwargs)
