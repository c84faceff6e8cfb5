"""The lab on a deployed site: measured over HTTP and from the shell, and nothing changed by it."""

from __future__ import annotations

import json
import re
from collections.abc import Callable

import pytest
from conftest import Site

testinfra_hosts = ["ansible://edge"]
pytestmark = [pytest.mark.usefixtures("articles"), pytest.mark.runs_on("edge", first=True)]


@pytest.fixture(scope="module")
def figures(manage: Callable[..., str]) -> dict[str, dict[str, dict[str, float]]]:
    """Return the figures of all techniques, of one run each."""
    output = manage("lab", "--format", "json", "--seconds", "0")
    return {found["technique"]: found for found in json.loads(output[output.index("[") :])}


def test_every_technique_can_be_measured(site: Site, figures: dict[str, dict[str, dict[str, float]]]) -> None:
    shown = set(re.findall(r'href="/lab/([a-z-]+)/"', site.get("/lab/").text))
    assert shown == set(figures) and "listing" in shown
    for technique, found in figures.items():
        assert found["naive"]["bytes_answered"] == found["optimised"]["bytes_answered"] > 0, technique
        assert min(found["naive"]["total_ms"], found["optimised"]["total_ms"]) > 0, technique


def test_a_cached_page_asks_the_database_nothing(figures: dict[str, dict[str, dict[str, float]]]) -> None:
    page = figures["light-view-cache"]
    assert page["naive"]["queries"] > page["optimised"]["queries"] == 0
    # What was counted comes from the cache; one query asks which posts are still public.
    counted = figures["view-cache"]
    assert counted["naive"]["queries"] > counted["optimised"]["queries"] == 1


def test_a_visitor_measures(site: Site, manage: Callable[..., str]) -> None:
    count = "from blog.models import Post; print(Post.objects.filter(status='draft').count())"
    drafts = manage("shell", "-v0", "-c", count)
    answer = site.post_form("/lab/bulk-update/", {})
    assert answer.status_code == 200 and "times as fast" in answer.text
    assert int(drafts) > 0 and manage("shell", "-v0", "-c", count) == drafts
    assert "no-store" in answer.headers["Cache-Control"]


def test_a_technique_that_does_not_exist(site: Site) -> None:
    assert site.get("/lab/magic/").status_code == 404
