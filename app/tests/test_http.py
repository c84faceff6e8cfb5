"""What caches may keep, for every URL of the site, and when a page counts as unchanged."""

import re
from collections.abc import Callable, Iterator
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import AnonymousUser
from django.core.management import call_command
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.urls import URLPattern, URLResolver, get_resolver, reverse
from django.utils import timezone
from pytest_django import Settings

from accounts.digests import unsubscribe_path
from blog.models import Category, Comment, Post
from blog.selectors import POST_DIGEST
from blog.views import COMMENTS_PER_PAGE
from ops.http import CachePolicyMiddleware, _release, content_security_policy, shared
from tests.factories import make_category, make_comments, make_post, make_product, make_user

pytestmark = pytest.mark.django_db

NEVER = {"private", "no-store"}
OWN = {"private", "no-cache"}
PUBLIC = {"public", "s-maxage"}
# What a visitor without a session gets, and what one with a session gets, by the name of the URL.
POLICIES = {
    "blog:home": (PUBLIC, OWN),
    "blog:post_list": (PUBLIC, OWN),
    "blog:post": (PUBLIC, OWN),
    "blog:comment": (NEVER, NEVER),
    "blog:numbers": (PUBLIC, PUBLIC),
    "blog:search": (PUBLIC, OWN),
    "blog:category": (PUBLIC, OWN),
    "blog:tag": (PUBLIC, OWN),
    "blog:author": (PUBLIC, OWN),
    "accounts:register": (NEVER, NEVER),
    "accounts:profile": (NEVER, NEVER),
    "accounts:unsubscribe": (NEVER, NEVER),
    "accounts:login": (NEVER, NEVER),
    "accounts:logout": (NEVER, NEVER),
    "lab:index": (NEVER, NEVER),
    "lab:technique": (NEVER, NEVER),
    "shop:product_list": (PUBLIC, OWN),
    "shop:hot_products": (PUBLIC, PUBLIC),
    "shop:product": (PUBLIC, OWN),
    "healthz": (NEVER, NEVER),
    "readyz": (NEVER, NEVER),
}


def names(patterns: list[URLPattern | URLResolver], prefix: str = "") -> Iterator[str]:
    """Yield the names of all URLs but the admin's, which has one policy for its own."""
    for pattern in patterns:
        if isinstance(pattern, URLPattern):
            yield f"{prefix}{pattern.name}"
        elif pattern.namespace != "admin":
            yield from names(pattern.url_patterns, f"{prefix}{pattern.namespace}:" if pattern.namespace else prefix)


def test_every_url_is_in_the_table() -> None:
    assert set(names(get_resolver().url_patterns)) == set(POLICIES)


def directives(response: HttpResponse) -> set[str]:
    """Return the names in a response's Cache-Control."""
    return {word.strip().partition("=")[0] for word in response["Cache-Control"].split(",")}


@pytest.fixture
def post() -> Post:
    """Return a post that has everything a post can have."""
    post = make_post(category=make_category())
    make_comments(post, 1)
    return post


def address(name: str, post: Post) -> str:
    """Return an address of a URL where there is something."""
    slugs = {
        "blog:post": post.slug,
        "blog:comment": post.slug,
        "blog:category": post.category.slug,
        "blog:tag": post.tags.all()[0].slug,
        "blog:author": post.author.slug,
        "shop:product": make_product().slug,
        "lab:technique": "listing",
        "accounts:unsubscribe": unsubscribe_path(user_id=make_user().pk).split("/")[-2],
    }
    return reverse(name, args=[slugs[name]] if name in slugs else [])


@pytest.mark.parametrize("name", POLICIES)
def test_what_caches_may_keep(client: Client, post: Post, name: str) -> None:
    path = address(name, post)
    ask = client.post if name in ("blog:comment", "accounts:logout") else client.get
    stranger, known = POLICIES[name]
    response = ask(path)
    assert stranger <= directives(response), response["Cache-Control"]
    if stranger == PUBLIC:
        assert not NEVER & directives(response)
        assert not response.cookies
    client.force_login(make_user())
    response = ask(path)
    assert known <= directives(response), response["Cache-Control"]
    assert known is PUBLIC or "public" not in directives(response)
    assert known is PUBLIC or "Cookie" in response.get("Vary", "") or known is NEVER


@pytest.mark.parametrize("name", [name for name, (stranger, _) in POLICIES.items() if stranger is PUBLIC])
def test_what_is_public_is_the_same_for_all_without_a_session(post: Post, name: str) -> None:
    path = address(name, post)
    answers = [Client(headers=headers).get(path) for headers in ({}, {"Cookie": "theme=dark", "User-Agent": "other"})]
    assert answers[0].content == answers[1].content
    assert {"public"} <= directives(answers[0]) & directives(answers[1])


def test_a_waiting_message_makes_a_page_private(client: Client, post: Post) -> None:
    client.cookies["messages"] = "nonsense"
    assert "private" in directives(client.get("/"))


def test_what_does_not_exist_is_kept_for_a_moment(client: Client) -> None:
    assert client.get("/nowhere/")["Cache-Control"] == "public, max-age=10"
    client.force_login(make_user())
    assert directives(client.get("/nowhere/")) == NEVER


def test_the_admin_is_never_kept(client: Client) -> None:
    assert directives(client.get("/admin/login/")) >= NEVER
    client.force_login(make_user(is_staff=True, is_superuser=True))
    assert directives(client.get("/admin/blog/post/")) >= NEVER


def answer(make: Callable[[], HttpResponse], **request: Any) -> HttpResponse:
    """Return what the middleware makes of the answer of a shared view."""
    view = shared(browser=60, cdn=60)(lambda request: make())
    asked: HttpRequest = RequestFactory().get("/", **request)
    asked.user = AnonymousUser()
    return CachePolicyMiddleware(view)(asked)


def test_pages_that_are_worked_on_are_not_kept(settings: Settings) -> None:
    settings.DEBUG = True
    assert directives(answer(HttpResponse)) == NEVER


def test_an_answer_with_a_cookie_is_not_public() -> None:
    def make() -> HttpResponse:
        response = HttpResponse("Yours")
        response.set_cookie("basket", "1")
        return response

    assert directives(answer(HttpResponse)) >= PUBLIC
    assert directives(answer(make)) == NEVER


@pytest.mark.parametrize("status", [302, 400, 403, 422, 500, 503])
def test_what_went_wrong_is_not_kept(status: int) -> None:
    assert directives(answer(lambda: HttpResponse(status=status))) == NEVER


# The same page again


def change_author(post: Post) -> None:
    post.author.name = "Somebody Else"
    post.author.save()


def change_category(post: Post) -> None:
    Category.objects.update(name="Ports")


def change_tag(post: Post) -> None:
    post.tags.filter(pk=post.tags.all()[0].pk).update(name="Knots")


def add_tag(post: Post) -> None:
    post.tags.create(name="Keels", slug="keels")


def add_comment(post: Post) -> None:
    make_comments(post, 1)


def change_comment(post: Post) -> None:
    post.comments.update(body="What was meant is this.")


def remove_comment(post: Post) -> None:
    post.comments.all().delete()


def rename_commenter(post: Post) -> None:
    user = post.comments.get().user
    user.username = "renamed"
    user.save()


def change_body(post: Post) -> None:
    # Not by save(): updated_at stays as it is.
    Post.objects.update(body="A new text.")


def change_summary(post: Post) -> None:
    Post.objects.update(summary="In other words.")


def change_picture(post: Post) -> None:
    # Of the picture's versions, the page shows the names.
    size = {"picture_width": 1600, "picture_height": 900}
    Post.objects.update(picture="posts/boat.jpg", thumbnails_made_at=timezone.now(), **size)


def move_comment(post: Post) -> None:
    post.comments.update(created_at=timezone.now() - timedelta(days=400))


CHANGES = [
    *(change_summary, change_picture, move_comment),
    *(change_author, change_category, change_tag, add_tag),
    *(add_comment, change_comment, remove_comment, rename_commenter, change_body),
]


def test_an_unchanged_post_is_not_sent_again(client: Client, post: Post) -> None:
    first = client.get(post.get_absolute_url())
    assert first["ETag"].startswith('W/"')
    for ask in (client.get, client.head):
        with CaptureQueriesContext(connection) as context:
            again = ask(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]})
        assert (again.status_code, again.content) == (304, b"")
        assert len(context) == 1
        assert [again[name] for name in ("ETag", "Cache-Control", "Vary")] == [
            first[name] for name in ("ETag", "Cache-Control", "Vary")
        ]


@pytest.mark.parametrize("change", CHANGES)
def test_a_changed_post_is_sent_again(client: Client, post: Post, change: Callable[[Post], None]) -> None:
    first = client.get(post.get_absolute_url())
    change(post)
    again = client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 200
    assert again["ETag"] != first["ETag"]
    assert again.content != first.content


def test_a_change_below_the_page_is_none(client: Client, post: Post) -> None:
    make_comments(post, COMMENTS_PER_PAGE + 2)
    first = client.get(post.get_absolute_url())
    oldest = post.comments.earliest("created_at")
    post.comments.filter(pk=oldest.pk).update(body="Far below.")
    assert client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]}).status_code == 304
    older = first.context["comments"].next_cursor
    below = client.get(post.get_absolute_url(), {"before": older})
    assert "Far below." in below.content.decode()
    oldest.delete()
    again = client.get(post.get_absolute_url(), {"before": older}, headers={"If-None-Match": below["ETag"]})
    assert again.status_code == 200


def test_that_there_are_older_comments_is_a_change(client: Client, post: Post) -> None:
    make_comments(post, COMMENTS_PER_PAGE - 1)
    first = client.get(post.get_absolute_url())
    assert first.context["comments"].next_cursor is None
    moved = make_comments(post, 1)[0]
    Comment.objects.filter(pk=moved.pk).update(created_at=timezone.now() - timedelta(days=400))
    again = client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]})
    assert again.status_code == 200
    assert again.context["comments"].next_cursor


def test_what_is_not_published_has_no_validator(client: Client, post: Post) -> None:
    first = client.get(post.get_absolute_url())
    for hidden in ({"status": Post.Status.DRAFT}, {"published_at": timezone.now() + timedelta(days=1)}):
        Post.objects.update(status=Post.Status.PUBLISHED, published_at=post.published_at)
        assert client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]}).status_code == 304
        Post.objects.update(**hidden)
        gone = client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]})
        assert gone.status_code == 404
        assert "ETag" not in gone


def test_the_validator_reads_few_comments() -> None:
    call_command("seed_demo", "--posts=100", "--comments=5000", "--products=1", stdout=StringIO())
    values = {"slug": Post.objects.published()[0].slug, "moment": "infinity", "pk": 2**63 - 1, "comments": 21}
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE")
        cursor.execute(f"EXPLAIN {POST_DIGEST}", values)
        plan = "\n".join(line for (line,) in cursor.fetchall())
    assert "blog_comment_post_newest" in plan
    assert "Seq Scan on blog_comment" not in plan


def test_another_page_of_comments_has_another_validator(client: Client, post: Post) -> None:
    newest = client.get(post.get_absolute_url())
    older = client.get(post.get_absolute_url(), {"before": "1_1"}, headers={"If-None-Match": newest["ETag"]})
    assert older.status_code == 200


def test_a_new_release_sends_its_pages(client: Client, post: Post, monkeypatch: pytest.MonkeyPatch) -> None:
    first = client.get(post.get_absolute_url())
    monkeypatch.setattr("ops.http._release", lambda: b"another")
    assert client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]}).status_code == 200


@pytest.mark.parametrize("name", ["STATIC_URL", "MEDIA_URL"])
def test_pages_with_other_addresses_of_files_are_others(settings: Settings, name: str) -> None:
    here = _release.__wrapped__()
    assert _release.__wrapped__() == here
    setattr(settings, name, "https://cdn.example.com/files/")
    assert _release.__wrapped__() != here


def test_those_who_are_logged_in_get_their_own_page(client: Client, post: Post) -> None:
    first = client.get(post.get_absolute_url())
    client.force_login(make_user())
    own = client.get(post.get_absolute_url(), headers={"If-None-Match": first["ETag"]})
    assert own.status_code == 200
    assert "ETag" not in own


@pytest.mark.parametrize("path", ["/", "/posts/", "/accounts/login/", "/admin/login/", "/no-such-page", "/healthz"])
def test_every_page_says_what_it_may_load(client: Client, path: str) -> None:
    answer = client.get(path)
    policy = answer.headers["Content-Security-Policy"]
    assert "frame-ancestors 'none'" in policy and "unsafe" not in policy
    assert answer.headers["Cross-Origin-Resource-Policy"] == "same-origin"
    assert "camera=()" in answer.headers["Permissions-Policy"]
    # What the policy would not let run is not there.
    assert not re.search(rb"<style|\sstyle=|\son[a-z]+=|<script(?![^>]*\ssrc=)", answer.content)


def test_policy_knows_where_files_are(settings: Settings) -> None:
    settings.STATIC_URL = "https://cdn.example.com/static/"
    content_security_policy.cache_clear()
    try:
        assert "style-src 'self' https://cdn.example.com;" in content_security_policy()
    finally:
        content_security_policy.cache_clear()
