"""ARA Records Ansible: an application that comes as packages alone."""

from __future__ import annotations

import secrets
from collections.abc import Callable

from conftest import Site
from testinfra.host import Host

testinfra_hosts = ["ansible://site_ara"]


def test_what_is_recorded_is_read_back(site: Site) -> None:
    path = f"/plays/{secrets.token_hex(6)}.yml"
    sent = {"ansible_version": "2.19", "path": path, "status": "completed", "started": "2026-01-01T00:00:00Z"}
    made = site.post("/api/v1/playbooks", json=sent)
    assert made.status_code == 201, made.text[:1000]
    found = site.get("/api/v1/playbooks", params={"path": path}).json()
    assert (found["count"], found["results"][0]["id"]) == (1, made.json()["id"])
    page = site.get("/")
    assert page.status_code == 200 and path in page.text


def test_records_are_in_postgresql(host: Host, site: Site, app: str) -> None:
    count = site.get("/api/v1/playbooks").json()["count"]
    query = "runuser -u postgres -- psql -Atc 'SELECT count(*) FROM playbooks' ara_records"
    assert int(host.check_output(query)) == count
    assert host.run("find /var/lib/%s -name '*.sqlite*' | grep .", app).failed


def test_static_files_come_from_nginx_and_are_not_for_ever(host: Host, site: Site) -> None:
    answer = site.get("/static/css/ara.css")
    assert answer.status_code == 200 and answer.headers["Content-Type"].startswith("text/css")
    assert answer.headers["Cache-Control"] == "public, max-age=3600"
    # The application serves them too, by WhiteNoise: a word of it would be in its headers.
    assert answer.headers["X-Frame-Options"] == "DENY"


def test_management_is_by_its_own_command(manage: Callable[..., str]) -> None:
    assert "[X] 0001_initial" in manage("showmigrations", "api")


def test_settings_that_the_inventory_wrote_are_in_use(host: Host, site: Site) -> None:
    file = host.file("/etc/ara-records/settings.yaml")
    assert "django.db.backends.postgresql" in file.content_string
    assert site.get("/api/", headers={"Host": "localhost"}).status_code == 200


def test_it_has_neither_redis_nor_celery(host: Host) -> None:
    assert not host.package("redis-server").is_installed
    assert host.run("systemctl list-unit-files --no-legend 'ara-records-celery*' | grep .").failed
