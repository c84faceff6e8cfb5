"""The tools for looking into the site: absent by default, and careful with what is nobody's business."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest
from django.conf import settings
from django.contrib.sessions.models import Session
from django.db import connection

from accounts.models import User
from tests.factories import PASSWORD

APP = Path(__file__).resolve().parent.parent
TABLES = ("silk_request", "silk_response", "silk_sqlquery", "silk_profile")
SERVICES = ("CACHE_URL", "CELERY_BROKER_URL", "CELERY_RESULT_BACKEND")


def run(*command: str, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run Python in a process whose settings are made anew from the environment, on the database of the tests."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    complete = {name: os.environ[name] for name in SERVICES} | {
        "DATABASE_URL": database.geturl(),
        "SECRET_KEY": settings.SECRET_KEY,
        "ALLOWED_HOSTS": "testserver",
        "HTTPS": "false",
        "STATIC_ROOT": settings.STATIC_ROOT,
        "MEDIA_ROOT": settings.MEDIA_ROOT,
    }
    return subprocess.run(
        [sys.executable, *command], cwd=APP, env=complete | environment, capture_output=True, text=True
    )


def answer(script: str, **environment: str) -> Any:
    """Return what a script prints at its end, as JSON."""
    result = run("manage.py", "shell", "--no-imports", "--command", f"import json\n{script}", **environment)
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout.splitlines()[-1])


INSTALLED = """
from django.conf import settings
print(json.dumps([name for name in [*settings.INSTALLED_APPS, *settings.MIDDLEWARE] if name.startswith(WORD)]))
"""


def test_there_is_no_toolbar_without_debugging() -> None:
    assert answer(INSTALLED.replace("WORD", "'debug_toolbar'"), DEBUG="false") == []
    script = "from django.test import Client\nprint(Client().get('/__debug__/render_panel/').status_code)"
    assert answer(script, DEBUG="false") == 404


@pytest.mark.django_db(transaction=True)
def test_the_toolbar_is_for_this_machine() -> None:
    script = """
from django.test import Client
from django.urls import reverse
pages = [Client(REMOTE_ADDR=address).get("/accounts/login/") for address in ("127.0.0.1", "192.0.2.1")]
print(json.dumps([reverse("djdt:render_panel"), *("djDebug" in page.content.decode() for page in pages)]))
"""
    # Nothing is collected on a laptop.
    laptop = {"DEBUG": "true", "STATIC_ROOT": ""}
    assert answer(script, **laptop) == ["/__debug__/render_panel/", True, False]
    assert run("manage.py", "check", "--fail-level", "WARNING", **laptop).returncode == 0


def test_nothing_is_recorded_by_default() -> None:
    assert answer(INSTALLED.replace("WORD", "'silk'")) == ["silk"]
    assert answer("from django.test import Client\nprint(Client().get('/silk/').status_code)") == 404


def test_the_sample_is_a_share_of_the_requests() -> None:
    names = ("SILKY_INTERCEPT_PERCENT", "SILKY_MAX_RECORDED_REQUESTS")
    script = f"from django.conf import settings\nprint(json.dumps([getattr(settings, name) for name in {names}]))"
    assert answer(script, SILK_PERCENT="7") == [7, 1000]
    environment = {"SILK_PERCENT": "7", "HTTPS": "true", "SITE_URL": "https://slipway.example"}
    deploy = run("manage.py", "check", "--deploy", "--fail-level", "WARNING", **environment)
    assert deploy.returncode == 0, deploy.stderr


@pytest.mark.parametrize("percent", ["101", "-1", "some", "0.5"])
def test_what_is_no_share(percent: str) -> None:
    assert "SILK_PERCENT must be a whole number from 0 to 100" in run("manage.py", "check", SILK_PERCENT=percent).stderr


def test_recording_needs_its_package() -> None:
    code = "import sys; sys.modules['silk'] = None; import config.settings"
    assert run("-c", code).returncode == 0
    assert "SILK_PERCENT needs the packages of requirements-profile.txt" in run("-c", code, SILK_PERCENT="1").stderr


VISITS = """
from accounts.models import User
from django.test import Client

def log_in(**fields):
    User.objects.create_user(password=PASSWORD, **fields)
    client = Client()
    answers.append(client.post("/accounts/login/", {"username": fields["username"], "password": PASSWORD}).status_code)
    return client

answers = []
stranger = Client().get("/silk/")
reader, editor = log_in(username="reader"), log_in(username="editor", is_staff=True)
reader.get("/", headers={"Authorization": f"Bearer {PASSWORD}"})
reader.post("/accounts/profile/", {"email": "new@example.com"})
reader.get("/healthz")
answers += [reader.get("/silk/").status_code, stranger.status_code, stranger["Location"]]
pages = [editor.get(path) for path in ("/silk/", "/silk/requests/")]
answers += [page.status_code for page in pages] + [page["Cache-Control"] for page in pages]
print(json.dumps([*answers, "/accounts/login/" in pages[1].content.decode()]))
"""


@pytest.mark.django_db(transaction=True)
def test_records_are_for_staff_and_hold_no_secrets() -> None:
    answers = answer(VISITS.replace("PASSWORD", repr(PASSWORD)), SILK_PERCENT="100")
    assert answers[:5] == [302, 302, 403, 302, "/accounts/login/?next=/silk/"]
    assert answers[5:] == [200, 200, "private, no-store", "private, no-store", True]
    with connection.cursor() as cursor:
        cursor.execute("SELECT method, path FROM silk_request ORDER BY start_time")
        recorded = cursor.fetchall()
        cursor.execute("SELECT query FROM silk_sqlquery")
        queries = [query for (query,) in cursor.fetchall()]
        records = ""
        for table in TABLES:
            cursor.execute(f"SELECT record::text FROM {table} record")
            records += "\n".join(row for (row,) in cursor.fetchall())
    assert recorded.count(("POST", "/accounts/login/")) == 2
    assert ("GET", "/") in recorded
    assert ("GET", "/healthz") not in recorded
    assert any('FROM "blog_post"' in query for query in queries)
    sessions = list(Session.objects.values_list("session_key", flat=True))
    hashes = list(User.objects.values_list("password", flat=True))
    assert len(sessions) == len(hashes) == 2
    assert [secret for secret in (PASSWORD, *sessions, *hashes) if secret in records] == []
