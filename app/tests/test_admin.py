"""The admin works for every model, and its lists cost no query per row."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone

from accounts.models import DigestEmail, WelcomeEmail
from blog.models import Post
from tests.factories import make_category, make_comments, make_post, make_product, make_user

pytestmark = pytest.mark.django_db

LISTS = {
    "blog_post": 6,
    "blog_author": 4,
    "blog_tag": 4,
    "blog_category": 4,
    "shop_product": 4,
    "blog_comment": 6,
    "accounts_user": 7,
    "accounts_welcomeemail": 4,
    "accounts_digestemail": 4,
}


@pytest.fixture
def admin(client: Client) -> Client:
    """Return a client that is logged in as an administrator."""
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


def make_rows(number: int) -> None:
    """Create rows of every model."""
    for _ in range(number):
        post = make_post(category=make_category())
        post.author.user = make_comments(post, 1)[0].user
        post.author.save()
        WelcomeEmail.objects.create(user=post.author.user)
        today = timezone.localdate()
        DigestEmail.objects.create(user=post.author.user, since=today, day=today)
        make_product()


@pytest.mark.parametrize(("model", "expected"), LISTS.items())
def test_lists_do_not_query_each_row(admin: Client, model: str, expected: int) -> None:
    path = reverse(f"admin:{model}_changelist")
    counts = []
    for number in (2, 20):
        make_rows(number)
        with CaptureQueriesContext(connection) as context:
            response = admin.get(path)
        assert response.status_code == 200
        assert len(response.context["cl"].result_list) >= number
        counts.append(len(context))
    assert counts == [expected, expected]


@pytest.mark.parametrize("model", LISTS)
def test_pages_open(admin: Client, model: str) -> None:
    make_rows(1)
    row = make_post() if model == "blog_post" else None
    assert admin.get(reverse(f"admin:{model}_changelist"), {"q": "a"}).status_code == 200
    add = admin.get(reverse(f"admin:{model}_add")).status_code
    assert add == (403 if model in ("accounts_welcomeemail", "accounts_digestemail") else 200)
    if row:
        assert admin.get(reverse("admin:blog_post_change", args=[row.pk])).status_code == 200


def test_posts_are_published_in_one_update(admin: Client) -> None:
    dated = make_post(status=Post.Status.DRAFT)
    undated = [make_post(status=Post.Status.DRAFT, published_at=None) for _ in range(5)]
    form = {"action": "publish", "_selected_action": [post.pk for post in [dated, *undated]]}
    with CaptureQueriesContext(connection) as context:
        admin.post(reverse("admin:blog_post_changelist"), form)
    assert sum(query["sql"].startswith('UPDATE "blog_post"') for query in context) == 1
    assert Post.objects.published().count() == 6
    assert Post.objects.get(pk=dated.pk).published_at == dated.published_at


def test_posts_are_archived(admin: Client) -> None:
    post = make_post(published_at=timezone.now())
    form = {"action": "archive", "_selected_action": [post.pk]}
    admin.post(reverse("admin:blog_post_changelist"), form)
    post.refresh_from_db()
    assert post.status == Post.Status.ARCHIVED


def test_a_published_post_without_a_date_is_explained(admin: Client) -> None:
    post = make_post()
    form = {
        "title": "t", "slug": "t", "body": "b", "author": post.author_id, "status": "published",
        "tags": [post.tags.first().pk], "published_at_0": "", "published_at_1": "",
    }  # fmt: skip
    response = admin.post(reverse("admin:blog_post_add"), form)
    assert "A published post needs a date of publication." in response.content.decode()


def test_no_one_else_gets_in(client: Client) -> None:
    client.force_login(make_user())
    assert client.get(reverse("admin:blog_post_changelist")).status_code == 302


def test_drafts_are_archived_in_one_update(admin: Client) -> None:
    drafts = [make_post(status=Post.Status.DRAFT) for _ in range(5)]
    published = make_post()
    form = {"action": "archive_drafts", "_selected_action": [post.pk for post in [*drafts, published]]}
    with CaptureQueriesContext(connection) as context:
        admin.post(reverse("admin:blog_post_changelist"), form)
    assert sum(query["sql"].startswith('UPDATE "blog_post"') for query in context) == 1
    assert Post.objects.filter(status=Post.Status.ARCHIVED).count() == 5
    assert list(Post.objects.published()) == [published]
