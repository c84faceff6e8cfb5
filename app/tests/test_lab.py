"""The lab: both ways of each technique give the same answer, nothing that they change stays, and who may measure."""

import json
from collections.abc import Callable
from dataclasses import replace
from io import StringIO
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.db import connection, connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

import lab.measure
from blog.models import Post
from blog.views import POSTS_PER_PAGE
from lab.measure import LOCK, CannotMeasure, compare
from lab.techniques import BY_SLUG, TECHNIQUES, Technique, measure
from tests.factories import make_post, make_user

pytestmark = pytest.mark.django_db

# What is better beside time, with the data below: the figures of the database.
FEWER_QUERIES = {"listing", "n-plus-one", "bulk-update", "exists"} | {
    *("view-cache", "light-view-cache", "fragment-cache", "low-level-cache", "read-through-cache")
}
FEWER_BYTES = {"listing", "n-plus-one", "fields", "bulk-update", "aggregation", "exists", "view-cache"}
# The rows that PostgreSQL reads for the answer; and what no figure of the database shows, with a test of its own.
FEWER_ROWS = {"pagination"}
LESS_WORK = {"task"}


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a comparison take as long as a busy machine needs for it."""
    monkeypatch.setattr(lab.measure, "DEADLINE_SECONDS", 600)
    monkeypatch.setattr(lab.measure, "STATEMENT_SECONDS", 600)


@pytest.fixture
def data() -> None:
    """Make a site with some of everything."""
    call_command("seed_demo", "--posts=60", "--comments=200", "--readers=5", "--products=14", stdout=StringIO())


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("technique", TECHNIQUES, ids=lambda technique: technique.slug)
def test_both_ways_do_the_same_and_one_costs_less(technique: Technique) -> None:
    before = list(Post.objects.order_by("pk").values_list("pk", "status", "updated_at"))
    comparison = measure(technique, budget=0)
    assert list(Post.objects.order_by("pk").values_list("pk", "status", "updated_at")) == before
    naive, optimised = comparison.naive, comparison.optimised
    assert naive.runs == optimised.runs == 3
    assert naive.bytes_answered == optimised.bytes_answered > 0
    assert naive.total_ms > 0
    assert comparison.ratio == naive.total_ms / optimised.total_ms
    if technique.slug in FEWER_QUERIES:
        assert naive.queries > optimised.queries
    if technique.slug in FEWER_BYTES:
        assert naive.bytes_read > optimised.bytes_read
    assert sum(naive.statements.values()) == naive.queries


def test_a_naive_list_has_a_query_for_each_thing(data: None) -> None:
    comparison = measure(BY_SLUG["n-plus-one"], budget=0)
    assert comparison.naive.queries > 4 * 50
    assert comparison.optimised.queries == 3


def test_each_technique_is_better_by_something_that_is_measured() -> None:
    assert set(BY_SLUG) == FEWER_QUERIES | FEWER_BYTES | FEWER_ROWS | LESS_WORK


def rows_read(call: Callable[[], Any]) -> int:
    """Return how many rows PostgreSQL reads from tables and indexes for the queries of a call."""

    def of(plan: dict[str, Any]) -> int:
        own = plan["Actual Rows"] + plan.get("Rows Removed by Filter", 0) if "Relation Name" in plan else 0
        return round(own * plan["Actual Loops"]) + sum(map(of, plan.get("Plans", [])))

    with CaptureQueriesContext(connection) as context:
        call()
    total = 0
    with connection.cursor() as cursor:
        # Of tables this small PostgreSQL would read and sort all.
        for method in ("seqscan", "bitmapscan", "sort"):
            cursor.execute(f"SET LOCAL enable_{method} = off")
        for query in context.captured_queries:
            cursor.execute(f"EXPLAIN (ANALYZE, FORMAT JSON) {query['sql']}")
            total += of(cursor.fetchone()[0][0]["Plan"])
    return total


@pytest.mark.usefixtures("data")
@pytest.mark.parametrize("slug", sorted(FEWER_ROWS))
def test_fewer_rows_are_read(slug: str) -> None:
    technique = BY_SLUG[slug]
    subject = technique.prepare()
    naive, optimised = (rows_read(lambda way=way: way(subject)) for way in (technique.naive, technique.optimised))
    assert optimised <= POSTS_PER_PAGE + 2 < naive / 2


@pytest.mark.usefixtures("data")
def test_one_query_asks_which_authors_have_posts() -> None:
    assert measure(BY_SLUG["exists"], budget=0).optimised.queries == 1


def test_the_task_leaves_the_picture_to_the_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    technique = BY_SLUG["task"]
    file = technique.prepare()
    monkeypatch.setattr("PIL.Image.open", lambda *_: pytest.fail("made while somebody waits"))
    assert technique.optimised(file)
    with pytest.raises(pytest.fail.Exception):
        technique.naive(file)


def test_a_comparison_has_a_deadline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lab.measure, "DEADLINE_SECONDS", 0)
    with pytest.raises(CannotMeasure, match="takes longer than the 0 s"):
        compare(lambda: 1, lambda: sleep(0))
    monkeypatch.setattr(lab.measure, "DEADLINE_SECONDS", 600)
    monkeypatch.setattr(lab.measure, "STATEMENT_SECONDS", 0.2)
    monkeypatch.setitem(
        BY_SLUG, "slow", replace(BY_SLUG["fields"], prepare=lambda: 1, naive=lambda _: sleep(60), optimised=lambda _: 1)
    )
    with pytest.raises(CannotMeasure, match="given up"):
        measure(BY_SLUG["slow"])
    with connection.cursor() as cursor:
        cursor.execute("SHOW statement_timeout")
        assert cursor.fetchone() == ("0",)


def sleep(seconds: int) -> None:
    """Wait in the database."""
    with connection.cursor() as cursor:
        cursor.execute("SELECT pg_sleep(%s)", [seconds])


def test_different_answers_are_not_compared() -> None:
    with pytest.raises(CannotMeasure, match="different answers"):
        compare(lambda: 1, lambda: 2)


def test_what_a_way_changes_is_undone() -> None:
    post = make_post()

    def change() -> int:
        return Post.objects.filter(title=post.title).update(title="Changed")

    assert compare(change, lambda: 1, budget=0).naive.queries == 1
    post.refresh_from_db()
    assert post.title != "Changed"


def test_runs_end_with_the_budget() -> None:
    assert compare(lambda: 1, lambda: 1, runs=5, budget=60).naive.runs == 5
    assert compare(lambda: 1, lambda: 1, runs=5, budget=0).naive.runs == 3


@pytest.mark.django_db(transaction=True)
def test_one_measures_at_a_time(client: Client) -> None:
    make_post()
    other = connections.create_connection("default")
    try:
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_lock(%s)", [LOCK])
        answer = client.post("/lab/fields/")
        assert answer.status_code == 409
        assert "Somebody else measures" in answer.content.decode()
        # Not left to the end of the connection, which the server notices later.
        with other.cursor() as cursor:
            cursor.execute("SELECT pg_advisory_unlock(%s)", [LOCK])
    finally:
        other.close()
    assert client.post("/lab/fields/").status_code == 200
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_locks JOIN pg_database ON pg_database.oid = pg_locks.database "
            "WHERE locktype = 'advisory' AND datname = current_database()"
        )
        assert cursor.fetchone()[0] == 0


def test_without_data_the_reason_is_said(client: Client) -> None:
    answer = client.post("/lab/listing/")
    assert answer.status_code == 409
    assert "The site has no published post." in answer.content.decode()


@pytest.mark.usefixtures("broken_broker")
def test_without_a_broker_the_reason_is_said() -> None:
    with pytest.raises(CannotMeasure, match="broker did not take"):
        measure(BY_SLUG["task"], budget=0)


@pytest.mark.usefixtures("data")
def test_pages(client: Client) -> None:
    index = client.get("/lab/").content.decode()
    for technique in TECHNIQUES:
        path = f"/lab/{technique.slug}/"
        assert f'href="{path}"' in index
        page = client.get(path).content.decode()
        assert f"def {technique.slug.replace('-', '_')}_naive(" in page
        assert f"def {technique.slug.replace('-', '_')}_optimised(" in page
        assert "times as fast" not in page
    page = client.post("/lab/n-plus-one/").content.decode()
    assert "times as fast" in page
    assert "Queries" in page and "-- 1 time\n" in page and "SELECT" in page
    assert "style=" not in page and "<script" not in page


def test_unknown_technique(client: Client) -> None:
    assert client.get("/lab/magic/").status_code == 404


def test_measuring_needs_a_token_against_forgery() -> None:
    assert Client(enforce_csrf_checks=True).post("/lab/fields/").status_code == 403


@pytest.mark.parametrize("method", ["get", "post"])
def test_who_may_enter(client: Client, settings: Settings, method: str) -> None:
    make_post()
    ask = getattr(client, method)

    def statuses() -> list[int]:
        return [ask(path).status_code for path in (["/lab/", "/lab/fields/"] if method == "get" else ["/lab/fields/"])]

    settings.LAB = "OFF"
    client.force_login(make_user(is_staff=True, is_superuser=True))
    assert set(statuses()) == {404}
    settings.LAB = "STAFF"
    assert set(statuses()) == {200}
    client.force_login(make_user())
    assert set(statuses()) == {302}
    client.logout()
    assert set(statuses()) == {302}
    settings.LAB = "PUBLIC"
    assert set(statuses()) == {200}


def test_the_lab_is_linked_where_everybody_may_enter(client: Client, settings: Settings) -> None:
    assert 'href="/lab/"' in client.get("/").content.decode()
    settings.LAB = "STAFF"
    assert 'href="/lab/"' not in client.get("/").content.decode()


# The command


def run(*arguments: str) -> str:
    """Return what the command prints."""
    output = StringIO()
    call_command("lab", "--seconds=0", *arguments, stdout=output)
    return output.getvalue()


@pytest.mark.usefixtures("data")
def test_command_prints_a_table() -> None:
    lines = run("fields", "bulk-update").splitlines()
    assert [line.split(",")[0] for line in lines[1:]] == ["fields", "fields", "bulk-update", "bulk-update"]
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["queries", "database", "total", "read", "answer", "ratio"]


@pytest.mark.usefixtures("data")
def test_command_prints_json() -> None:
    (found,) = json.loads(run("aggregation", "--format=json"))
    assert found["technique"] == "aggregation"
    assert found["naive"]["queries"] == found["optimised"]["queries"] == 1
    assert found["ratio"] == pytest.approx(found["naive"]["total_ms"] / found["optimised"]["total_ms"])
    assert list(found["optimised"]["statements"].values()) == [1]


def test_command_refuses_what_it_does_not_know() -> None:
    with pytest.raises(CommandError, match="no technique magic"):
        run("magic")
    with pytest.raises(CommandError, match="not a number of seconds"):
        run("--seconds=x")


def test_command_fails_when_something_was_not_measured() -> None:
    make_post(published_at=timezone.now())
    with pytest.raises(CommandError, match="bulk-update: The site has no draft"):
        run("fields", "bulk-update")
