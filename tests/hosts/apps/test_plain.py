"""What `django-admin startproject` makes, with one file of settings from the inventory."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable

import requests
from conftest import Site
from testinfra.host import Host

testinfra_hosts = ["ansible://site_plain"]


def test_administrator_logs_in(site: Site, manage: Callable[..., str]) -> None:
    name, password = f"admin{secrets.token_hex(4)}", secrets.token_hex(16)
    code = "from django.contrib.auth.models import User; User.objects.create_superuser"
    manage("shell", "--command", f"{code}('{name}', '', '{password}')")
    with requests.Session() as browser:
        page = browser.get(f"{site.url}/admin/login/", timeout=15)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token, page.text[:500]
        fields = {"csrfmiddlewaretoken": token[1], "username": name, "password": password, "next": "/admin/"}
        home = browser.post(f"{site.url}/admin/login/", data=fields, timeout=15)
    assert home.status_code == 200 and "Site administration" in home.text


def test_page_that_is_not_there_tells_nothing(site: Site) -> None:
    """With DEBUG, as the project has it, there would be the settings and a list of its addresses."""
    answer = site.get("/nothing/")
    assert answer.status_code == 404 and "urlconf" not in answer.text.lower()


def test_static_files_of_the_administration(site: Site) -> None:
    link = re.search(r'href="(/static/admin/css/base[^"]*\.css)"', site.get("/admin/login/").text)
    assert link and link[1] == "/static/admin/css/base.css"
    answer = site.get(link[1])
    assert (answer.status_code, answer.headers["Cache-Control"]) == (200, "public, max-age=3600")


def test_database_is_where_the_settings_say(host: Host) -> None:
    database = host.file("/var/lib/plain/db.sqlite3")
    assert database.user == "plain"
    assert host.run("find /srv/plain/releases -name '*.sqlite3' | grep .").failed


def test_host_has_no_service_that_the_site_does_not_need(host: Host) -> None:
    for package in ("redis-server", "postgresql-15"):
        assert not host.package(package).is_installed


def test_settings_file_belongs_to_the_release(host: Host) -> None:
    file = host.file("/srv/plain/current/src/mysite/production.py")
    assert file.user == "root" and "DEBUG = False" in file.content_string
