"""The environment is read strictly, and the site refuses to start without what it needs."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env import Environment

APP = Path(__file__).resolve().parent.parent
SERVICES = ("DATABASE_URL", "CACHE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")
PASSWORD = "p@ss:w/o%r?d#[]$ ö"
QUOTED = "p%40ss%3Aw%2Fo%25r%3Fd%23%5B%5D%24%20%C3%B6"


def manage(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run manage.py with this environment and no other."""
    return subprocess.run(
        [sys.executable, "manage.py", *arguments], cwd=APP, env=environment, capture_output=True, text=True
    )


@pytest.fixture
def complete() -> dict[str, str]:
    """Return an environment as a deployment has it."""
    return {name: os.environ[name] for name in SERVICES} | {
        "SECRET_KEY": "Vv3kq9wXn2Lr8TzB5yHc7MdJ1sPf6GaE4uRt0QoWiKxNbZ-deployment",
        "ALLOWED_HOSTS": "slipway.example",
        "STATIC_ROOT": "/srv/slipway/static",
        "MEDIA_ROOT": "/srv/slipway/media",
        "SITE_URL": "https://slipway.example",
    }


def test_every_missing_variable_is_named_at_once() -> None:
    result = manage("check")
    assert result.returncode != 0
    for name in ("SECRET_KEY", "ALLOWED_HOSTS", *SERVICES):
        assert f"  - {name} is required" in result.stderr


@pytest.mark.parametrize("name", ["SECRET_KEY", "ALLOWED_HOSTS", "DATABASE_URL"])
def test_a_blank_variable_is_refused(complete: dict[str, str], name: str) -> None:
    result = manage("check", **complete | {name: "  "})
    assert result.returncode != 0
    assert f"{name} is required" in result.stderr
    assert result.stderr.count("\n  - ") == 1


def test_hosts_are_not_required_for_debugging(complete: dict[str, str]) -> None:
    result = manage("check", **complete | {"ALLOWED_HOSTS": "", "DEBUG": "true"})
    assert result.returncode == 0, result.stderr


def test_the_checks_for_deployment_are_clean(complete: dict[str, str]) -> None:
    result = manage("check", "--deploy", "--fail-level", "WARNING", **complete)
    assert result.returncode == 0, result.stderr
    assert "no issues" in result.stdout


def test_every_wrong_value_is_named_at_once_and_none_is_repeated(complete: dict[str, str]) -> None:
    wrong = {
        "HTTPS": "sekret",
        "DEBUG": "sekret",
        "DB_CONN_MAX_AGE": "-1sekret",
        "HSTS_SECONDS": "sekret",
        "LOG_LEVEL": "sekret",
        "DATABASE_URL": "postgresql://u:sekret@host:54x/name",
        "CACHE_URL": "redis://u:sekret@host:6379/one",
        "CELERY_BROKER_URL": "amqp://u:sekret@host//",
        "CELERY_RESULT_BACKEND": "redis://u:sekret@host:99999/1",
        "EMAIL_URL": "pigeon://sekret@host",
        "STATIC_URL": "sekret.example.com/static/",
        "MEDIA_URL": "/sekret",
        "SITE_URL": "https://sekret.example/path",
    }
    result = manage("check", **complete | wrong | {"SECRET_KEY_FILE": "/nonexistent/sekret"})
    assert result.returncode != 0
    for name in wrong:
        assert f"  - {name} must be " in result.stderr
    assert "  - SECRET_KEY_FILE cannot be read: No such file or directory" in result.stderr
    assert "sekret" not in result.stderr


@pytest.mark.parametrize(("prelude", "expected"), [("", "75"), ("import gevent.monkey as m; m.patch_all(); ", "0")])
def test_connections_are_kept_but_not_by_greenlets(complete: dict[str, str], prelude: str, expected: str) -> None:
    code = f"{prelude}from config.settings import DATABASES as d; print(d['default']['CONN_MAX_AGE'])"
    environment = complete | {"DB_CONN_MAX_AGE": "75"}
    result = subprocess.run([sys.executable, "-c", code], cwd=APP, env=environment, capture_output=True, text=True)
    assert result.stdout.strip() == expected, result.stderr


@pytest.fixture
def environment(monkeypatch: pytest.MonkeyPatch) -> Environment:
    """Return a reader of the process environment."""
    return Environment()


def test_a_value_may_stand_in_a_file(environment: Environment, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "key").write_text("from-the-file\n")
    monkeypatch.setenv("SOME_KEY_FILE", str(tmp_path / "key"))
    assert environment.text("SOME_KEY", required=True) == "from-the-file"


def test_a_dollar_sign_is_just_a_character(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_KEY", "$PATH")
    assert environment.text("SOME_KEY") == "$PATH"


@pytest.mark.parametrize(("value", "expected"), [("True", True), ("1", True), ("off", False), ("", True)])
def test_flags(environment: Environment, monkeypatch: pytest.MonkeyPatch, value: str, expected: bool) -> None:
    monkeypatch.setenv("SOME_FLAG", value)
    assert environment.flag("SOME_FLAG", default=True) is expected
    assert not environment.faults


@pytest.mark.parametrize(
    "url", ["sqlite:///tmp/db", "postgresql://u:p@host:5432", "postgresql://u:p/w@host/name", "nonsense"]
)
def test_what_is_no_database(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_DATABASE", url)
    assert environment.database("SOME_DATABASE") == {}
    assert environment.faults == [
        "SOME_DATABASE must be postgresql://user:password@host:port/name, with the password percent-encoded"
    ]


@pytest.mark.parametrize("url", ["redis://host", "redis:///1", "redis://host:6379/", "redis://u:p/w@host/1"])
def test_what_is_no_redis(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_REDIS", url)
    assert environment.redis("SOME_REDIS") == ""
    assert len(environment.faults) == 1


ADDRESSES = ["/static/", "/a/b/", "https://cdn.example.com/static/", "http://cdn.example.com/"]
NO_ADDRESSES = [
    *("/", "static/", "/static", "https://cdn.example.com/static", "cdn.example.com/static/"),
    *("//cdn.example/static/", "https:///static/", "ftp://cdn.example/static/", "https://cdn.example/static/?v=1/"),
]


@pytest.mark.parametrize("url", ADDRESSES)
def test_addresses_of_files(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_URL", url)
    assert environment.folder_url("SOME_URL", default="/media/") == url
    assert not environment.faults


@pytest.mark.parametrize("url", NO_ADDRESSES)
def test_what_is_no_address_of_files(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_URL", url)
    assert environment.folder_url("SOME_URL", default="/media/") == "/media/"
    assert environment.faults == [
        "SOME_URL must be a path such as /media/ or a URL such as https://cdn.example.com/media/, ending with a slash"
    ]


def test_pages_name_static_files_on_a_cdn(complete: dict[str, str], tmp_path: Path) -> None:
    environment = complete | {"STATIC_ROOT": str(tmp_path), "STATIC_URL": "https://cdn.example.com/static/"}
    for arguments in (["check", "--deploy", "--fail-level", "WARNING"], ["collectstatic", "--noinput"]):
        result = manage(*arguments, **environment)
        assert result.returncode == 0, result.stderr
    # The page of a missing page needs no database.
    code = (
        "from django.test import Client; "
        "print(Client(headers={'Host': 'slipway.example'}).get('/nowhere/', secure=True).content.decode())"
    )
    page = manage("shell", "--no-imports", "--command", code, **environment)
    names = re.findall(r'="https://cdn\.example\.com/static/(site\.[0-9a-f]{12}\.css)"', page.stdout)
    assert names, page.stderr
    assert (tmp_path / names[0]).is_file()
    assert "/static/site.css" not in page.stdout


@pytest.mark.parametrize("url", ["https://example.org", "http://127.0.0.1:8080", ""])
def test_addresses_of_a_site(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_SITE", url)
    assert (environment.origin("SOME_SITE"), environment.faults) == (url, [])


@pytest.mark.parametrize(
    "url",
    [
        *("example.org", "ftp://example.org", "https://", "https://example.org/", "https://example.org/path"),
        *("https://u:p@example.org", "https://example.org:99999", "https://example.org?a", "https://example.org#a"),
    ],
)
def test_what_is_no_address_of_a_site(environment: Environment, monkeypatch: pytest.MonkeyPatch, url: str) -> None:
    monkeypatch.setenv("SOME_SITE", url)
    assert environment.origin("SOME_SITE") == ""
    assert environment.faults == ["SOME_SITE must be like https://example.org, without a path"]


def test_a_password_may_hold_any_character(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_DATABASE", f"postgresql://slipway:{QUOTED}@db:5432/slipway")
    monkeypatch.setenv("SOME_MAIL", f"smtp+tls://slipway:{QUOTED}@mail:587")
    assert environment.database("SOME_DATABASE")["PASSWORD"] == PASSWORD
    mail = environment.email("SOME_MAIL", default="smtp://localhost:25")
    assert (mail["EMAIL_HOST_PASSWORD"], mail["EMAIL_USE_TLS"]) == (PASSWORD, True)


def test_a_folder_for_mail_is_absolute(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_MAIL", "filemail:///var/lib/slipway/mail")
    config = environment.email("SOME_MAIL", default="smtp://localhost:25")
    assert config["EMAIL_FILE_PATH"] == "/var/lib/slipway/mail"


def test_faults_are_collected(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SOME_FLAG", "perhaps")
    environment.flag("SOME_FLAG", default=False)
    environment.text("SOME_MISSING_KEY", required=True)
    with pytest.raises(ImproperlyConfigured, match="(?s)SOME_FLAG.*SOME_MISSING_KEY"):
        environment.refuse_faults()
