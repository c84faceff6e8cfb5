"""The site as visitors and editors use it."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import APP, Site
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]
pytestmark = pytest.mark.usefixtures("articles")


def test_front_page_shows_posts_of_the_database(database_host: Host, site: Site) -> None:
    title = database_host.check_output(
        "runuser -u postgres -- psql -d %s -Atc %s",
        APP,
        "SELECT title FROM blog_post WHERE status = 'published' ORDER BY published_at DESC, id DESC LIMIT 1",
    )
    assert title and title in site.get("/").text.replace("&#x27;", "'").replace("&amp;", "&")


def test_post_page_with_its_comments(site: Site) -> None:
    path = re.search(r'href="(/posts/[^"/]+/)"', site.get("/posts/").text)
    assert path
    page = site.get(path[1])
    assert page.status_code == 200 and "<article" in page.text


def test_unchanged_post_is_not_sent_again(site: Site) -> None:
    path = re.search(r'href="(/posts/[^"/]+/)"', site.get("/posts/").text)
    assert path
    page = site.get(path[1])
    again = site.get(path[1], headers={"If-None-Match": page.headers["ETag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert again.headers["ETag"] == page.headers["ETag"]
    assert site.get(path[1], headers={"If-None-Match": 'W/"another"'}).status_code == 200


def test_unknown_post_is_not_found(site: Site) -> None:
    assert site.get("/posts/no-such-post/").status_code == 404


def test_seeding_twice_adds_nothing(manage: Callable[..., str]) -> None:
    assert manage("seed_demo", "--admin", "admin").splitlines()[-1].startswith("seed_demo: nothing to do")


def test_editor_logs_in(site: Site, inventory: dict[str, str]) -> None:
    fields = {"username": "admin", "password": inventory["vault_demo_admin_password"], "next": "/admin/"}
    answer = site.post_form("/admin/login/", fields)
    assert answer.status_code == 200 and "Log out" in answer.text


def test_editor_with_a_wrong_password_does_not(site: Site) -> None:
    answer = site.post_form("/admin/login/", {"username": "admin", "password": "wrong", "next": "/admin/"})
    assert not answer.history and "Log out" not in answer.text
