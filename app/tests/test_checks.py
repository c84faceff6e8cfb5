"""The project's own system checks find what they are for."""

import pytest
from django.core.checks import run_checks
from django.core.management import call_command
from pytest_django import Settings


def ids(*, deploy: bool = False) -> set[str]:
    """Return the ids of the project's own messages."""
    messages = run_checks(include_deployment_checks=deploy)
    return {message.id for message in messages if message.id.startswith("ops.")}


def test_the_settings_pass(settings: Settings) -> None:
    settings.CACHE_URL = "redis://cache.example:6380/0"
    assert ids(deploy=True) == set()


@pytest.mark.parametrize("timeout", [300, 60])
def test_a_visibility_timeout_within_the_time_limit(settings: Settings, timeout: int) -> None:
    settings.CELERY_BROKER_TRANSPORT_OPTIONS = {"visibility_timeout": timeout}
    assert ids() == {"ops.E001"}


def test_no_static_root(settings: Settings) -> None:
    settings.STATIC_ROOT = None
    assert ids() == {"ops.E002"}


def test_one_redis_for_broker_and_cache(settings: Settings) -> None:
    settings.CELERY_BROKER_URL = "redis://a:b@redis.example/1"
    settings.CACHE_URL = "redis://c:d@redis.example:6379/0"
    assert ids() == set()
    assert ids(deploy=True) == {"ops.W001"}


def test_no_site_url(settings: Settings) -> None:
    settings.CACHE_URL = "redis://cache.example:6380/0"
    settings.SITE_URL = ""
    assert ids() == set()
    assert ids(deploy=True) == {"ops.W002"}


@pytest.mark.django_db
def test_the_migrations_are_complete() -> None:
    # It exits, and so fails, when a change of the models has no migration.
    call_command("makemigrations", check=True, dry_run=True, verbosity=0)


def test_pictures_need_a_folder(settings: Settings) -> None:
    settings.MEDIA_ROOT = ""
    assert ids() == {"ops.E003"}


@pytest.mark.parametrize(
    ("static", "media"),
    [("/files/", "/files/"), ("/files/", "/files/media/"), ("https://cdn.example/files/", "https://cdn.example/")],
)
def test_static_files_and_media_in_one_another(settings: Settings, static: str, media: str) -> None:
    settings.STATIC_URL, settings.MEDIA_URL = static, media
    assert ids() == {"ops.E004"}


def test_static_files_on_a_cdn(settings: Settings) -> None:
    settings.STATIC_URL, settings.MEDIA_URL = "https://cdn.example/files/", "/files/"
    assert ids() == set()
