"""The probes: /healthz says that the process answers, /readyz that it can work."""

import logging
from collections.abc import Callable

import redis
from django.conf import settings
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from redis.backoff import NoBackoff
from redis.retry import Retry

logger = logging.getLogger(__name__)


def _query_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("SELECT 1")


def _ping_redis(url: str) -> None:
    # A connection of its own, without retries: the answer is about now.
    retry = Retry(NoBackoff(), retries=0)
    with redis.Redis.from_url(url, socket_connect_timeout=1, socket_timeout=1, retry=retry) as client:
        client.ping()


CHECKS: dict[str, Callable[[], None]] = {
    "database": _query_database,
    "cache": lambda: _ping_redis(settings.CACHE_URL),
    "broker": lambda: _ping_redis(settings.CELERY_BROKER_URL),
}


def _is_available(name: str, check: Callable[[], None]) -> bool:
    try:
        check()
    # Whatever went wrong, the answer is "unavailable"; drivers raise more than their documented errors.
    except Exception as error:
        # The kind of error only: a driver's message may repeat what it was told to connect with.
        logger.warning("Not ready: %s (%s)", name, type(error).__name__)
        return False
    return True


@never_cache
@require_safe
def healthz(request: HttpRequest) -> HttpResponse:
    """Answer without touching session, database or cache."""
    return HttpResponse("ok\n", content_type="text/plain")


@never_cache
@require_safe
def readyz(request: HttpRequest) -> JsonResponse:
    """Name each service that the site needs and whether it can be used: 200, or 503 if one cannot."""
    available = {name: _is_available(name, check) for name, check in CHECKS.items()}
    ready = all(available.values())
    body = {
        "status": "ready" if ready else "unavailable",
        "checks": {name: "ok" if up else "unavailable" for name, up in available.items()},
    }
    return JsonResponse(body, status=200 if ready else 503)
