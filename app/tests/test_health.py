"""The probes, and what guards every request."""

import pytest
from django.test import Client
from pytest_django import DjangoAssertNumQueries, Settings

NEVER_CACHED = "max-age=0, no-cache, no-store, must-revalidate, private"


@pytest.mark.django_db
def test_healthz_touches_nothing(client: Client, django_assert_num_queries: DjangoAssertNumQueries) -> None:
    client.cookies["sessionid"] = "of-somebody"
    with django_assert_num_queries(0):
        response = client.get("/healthz")
    assert (response.status_code, response.content) == (200, b"ok\n")
    assert not response.cookies
    assert "Vary" not in response
    assert response["Cache-Control"] == NEVER_CACHED


def test_healthz_needs_no_service(client: Client, settings: Settings, dead_redis: str) -> None:
    # Without the mark for database access, a query would raise here.
    settings.CACHE_URL = settings.CELERY_BROKER_URL = dead_redis
    assert client.get("/healthz").status_code == 200


@pytest.mark.django_db
def test_readyz_names_each_service(client: Client) -> None:
    response = client.get("/readyz")
    assert response.status_code == 200
    assert response.json() == {
        "status": "ready",
        "checks": {"database": "ok", "cache": "ok", "broker": "ok"},
    }
    assert response["Cache-Control"] == NEVER_CACHED


@pytest.mark.django_db
@pytest.mark.parametrize("kind", ["dead_redis", "silent_redis"])
@pytest.mark.parametrize(("setting", "service"), [("CACHE_URL", "cache"), ("CELERY_BROKER_URL", "broker")])
def test_readyz_fails_without_a_redis(
    client: Client,
    settings: Settings,
    request: pytest.FixtureRequest,
    setting: str,
    service: str,
    kind: str,
) -> None:
    url = request.getfixturevalue(kind).replace("redis://", "redis://slipway:sekret@")
    setattr(settings, setting, url)
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response["Cache-Control"] == NEVER_CACHED
    expected = {"database": "ok", "cache": "ok", "broker": "ok"} | {service: "unavailable"}
    assert response.json() == {"status": "unavailable", "checks": expected}
    assert b"sekret" not in response.content


def test_readyz_fails_without_the_database(client: Client, caplog: pytest.LogCaptureFixture) -> None:
    # pytest-django refuses database access without the mark, as a database that is down would.
    response = client.get("/readyz")
    assert response.status_code == 503
    assert response.json()["checks"] == {"database": "unavailable", "cache": "ok", "broker": "ok"}
    assert "Not ready: database" in caplog.text


@pytest.mark.parametrize("path", ["/healthz", "/readyz", "/", "/accounts/login/"])
def test_a_wrong_host_is_refused(client: Client, path: str) -> None:
    assert client.get(path, headers={"host": "evil.example"}).status_code == 400


@pytest.mark.django_db
def test_plain_http_is_redirected_but_for_the_probes(client: Client, settings: Settings) -> None:
    settings.SECURE_SSL_REDIRECT = True
    settings.SECURE_PROXY_SSL_HEADER = ("HTTP_X_FORWARDED_PROTO", "https")
    assert client.get("/")["Location"] == "https://testserver/"
    assert client.get("/", headers={"x-forwarded-proto": "https"}).status_code == 200
    assert client.get("/healthz").status_code == 200
    assert client.get("/readyz").status_code == 200
