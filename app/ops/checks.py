"""System checks: mistakes of configuration that would show only later, under load or after a fault."""

from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register


@register()
def visibility_timeout_outlasts_tasks(**kwargs: Any) -> list[CheckMessage]:
    """Refuse a visibility timeout within which a task may still run: the task would run twice."""
    visibility = settings.CELERY_BROKER_TRANSPORT_OPTIONS["visibility_timeout"]
    longest = settings.CELERY_TASK_TIME_LIMIT
    if visibility > longest:
        return []
    return [
        Error(
            f"The visibility timeout ({visibility} s) does not exceed the tasks' time limit ({longest} s).",
            hint="Tasks would run twice: raise visibility_timeout in CELERY_BROKER_TRANSPORT_OPTIONS.",
            id="ops.E001",
        )
    ]


@register()
def static_root_is_set(**kwargs: Any) -> list[CheckMessage]:
    """Refuse to lack STATIC_ROOT: pages take the names of static files from the manifest there."""
    if settings.DEBUG or settings.STATIC_ROOT:
        return []
    return [Error("STATIC_ROOT is not set.", hint="Set it and run collectstatic.", id="ops.E002")]


@register()
def media_root_is_set(**kwargs: Any) -> list[CheckMessage]:
    """Refuse to lack MEDIA_ROOT: pictures would be written where the process happens to run."""
    if settings.MEDIA_ROOT:
        return []
    return [Error("MEDIA_ROOT is not set.", hint="Name the folder of uploaded pictures.", id="ops.E003")]


@register()
def static_files_and_media_are_apart(**kwargs: Any) -> list[CheckMessage]:
    """Refuse addresses of which one is inside the other: the server would look for pictures among static files."""
    static, media = settings.STATIC_URL, settings.MEDIA_URL
    if not static.startswith(media) and not media.startswith(static):
        return []
    return [
        Error(
            f"Static files ({static}) and media ({media}) are not served at addresses of their own.",
            hint="Set STATIC_URL and MEDIA_URL so that neither begins with the other, as /static/ and /media/ do.",
            id="ops.E004",
        )
    ]


@register(deploy=True)
def site_url_is_set(**kwargs: Any) -> list[CheckMessage]:
    """Warn of a missing SITE_URL: the digest has links, and is not sent without it."""
    if settings.SITE_URL:
        return []
    return [
        Warning(
            "SITE_URL is not set: nobody gets the nightly digest.",
            hint="Set it to the address of the site, like https://example.org.",
            id="ops.W002",
        )
    ]


@register(Tags.security, deploy=True)
def broker_and_cache_are_apart(**kwargs: Any) -> list[CheckMessage]:
    """Warn of one Redis for both: the one that evicts keys for the cache evicts queues as well."""
    urls = map(urlsplit, (settings.CELERY_BROKER_URL, settings.CACHE_URL))
    broker, cache = ((url.hostname, url.port or 6379) for url in urls)
    if broker != cache:
        return []
    return [
        Warning(
            "The Celery broker and the cache are the same Redis instance.",
            hint="Give the broker an instance of its own with maxmemory-policy noeviction.",
            id="ops.W001",
        )
    ]
