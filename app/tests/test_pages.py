"""The public pages: what they show, whom, and by how many queries."""

from datetime import timedelta
from urllib.parse import urlencode
from uuid import uuid4

import pytest
from django.contrib.staticfiles.storage import staticfiles_storage
from django.core.cache import caches
from django.db import IntegrityError, connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import DjangoAssertNumQueries, DjangoCaptureOnCommitCallbacks

from blog.models import Comment, Post, Tag
from blog.views import COMMENTS_PER_PAGE, POSTS_PER_PAGE
from tests.factories import make_category, make_comments, make_post, make_user

pytestmark = pytest.mark.django_db


def page_texts(client: Client, path: str) -> str:
    """Return the text of a page that has to be there."""
    response = client.get(path)
    assert response.status_code == 200, path
    return response.content.decode()


def test_the_site_is_usable_without_data(client: Client) -> None:
    assert "Nothing is published yet." in page_texts(client, "/")
    assert "Nothing is published here yet." in page_texts(client, "/posts/")


def test_home_shows_the_newest_posts(client: Client) -> None:
    posts = [make_post(published_at=timezone.now() - timedelta(hours=hour)) for hour in range(9)]
    page = page_texts(client, "/")
    assert [post.title in page for post in posts] == [True] * 7 + [False] * 2
    assert posts[0].author.name in page
    assert posts[0].tags.first().name in page


def test_static_files_have_fingerprinted_names(client: Client) -> None:
    assert 'href="/static/site.' in page_texts(client, "/")
    assert 'href="/static/site.css"' not in page_texts(client, "/")


def test_the_page_for_what_broke_needs_no_manifest(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(*args: object, **options: object) -> str:
        raise ValueError("Missing staticfiles manifest entry")

    monkeypatch.setattr(staticfiles_storage, "url", missing)
    client.raise_request_exception = False
    response = client.get("/")
    assert response.status_code == 500
    assert "The fault is ours" in response.content.decode()
    assert 'href="/static/site.css"' in response.content.decode()


@pytest.mark.parametrize("path", ["/", "/posts/", "/accounts/login/", "/accounts/register/", "post"])
def test_pages_suit_a_strict_content_security_policy(client: Client, path: str) -> None:
    page = page_texts(client, make_post().get_absolute_url() if path == "post" else path)
    assert "<script" not in page
    assert "<style" not in page
    assert " style=" not in page


@pytest.mark.parametrize(
    "hidden",
    [
        {"status": Post.Status.DRAFT},
        {"status": Post.Status.ARCHIVED},
        {"published_at": timezone.now() + timedelta(days=365)},
    ],
    ids=["draft", "archived", "future"],
)
def test_what_is_not_public_is_nowhere(client: Client, hidden: dict[str, object]) -> None:
    post = make_post(category=make_category(), **hidden)
    assert client.get(post.get_absolute_url()).status_code == 404
    client.force_login(make_user())
    comment = client.post(f"{post.get_absolute_url()}comments/", {"body": "Me first"})
    assert comment.status_code == 404
    tag = post.tags.first()
    assert post.title not in page_texts(client, post.category.get_absolute_url())
    assert post.category.get_absolute_url() not in page_texts(client, "/posts/"), "a category without public posts"
    for path in ("/", "/posts/", tag.get_absolute_url(), post.author.get_absolute_url()):
        assert post.title not in page_texts(client, path)
    assert f"{tag.get_absolute_url()}" not in page_texts(client, "/"), "a topic without public posts"


def test_a_published_post_has_a_date() -> None:
    with pytest.raises(IntegrityError):
        make_post(published_at=None)


@pytest.mark.parametrize("path", ["/posts/none/", "/topics/none/", "/authors/none/", "/none"])
def test_what_is_not_there_is_404(client: Client, path: str) -> None:
    response = client.get(path)
    assert response.status_code == 404
    assert "There is nothing here" in response.content.decode()


def test_lists_by_topic_and_author(client: Client) -> None:
    rope = Tag.objects.create(name="Rope", slug="rope")
    post, other = make_post(tags=[rope]), make_post()
    for path in ("/topics/rope/", post.author.get_absolute_url()):
        page = page_texts(client, path)
        assert post.title in page
        assert other.title not in page


def test_older_pages_show_every_post_once(client: Client) -> None:
    moment = timezone.now() - timedelta(days=1)
    # Pairs with equal dates, so that only the id tells them apart, across the ends of pages too.
    total = 2 * POSTS_PER_PAGE + 5
    for number in range(total):
        make_post(published_at=moment - timedelta(minutes=number // 2), tags=[])
    expected = list(Post.objects.newest_first().values_list("pk", flat=True))
    path, shown, pages = "/posts/", [], 0
    while path:
        response = client.get(path)
        page = response.context["page"]
        shown += [post.pk for post in page.rows]
        path = f"/posts/?before={page.next_cursor}" if page.next_cursor else ""
        pages += 1
    assert (shown, pages) == (expected, 3)


@pytest.mark.parametrize("cursor", ["", "x", "1", "1_2_3", "1_-2", "1_0", f"{10**30}_1", f"1_{2**63}", "1_x", "\x00"])
def test_a_made_up_cursor_is_404(client: Client, cursor: str) -> None:
    assert client.get("/posts/", {"before": cursor}).status_code == 404


def test_text_of_users_is_escaped(client: Client) -> None:
    post = make_post(title="<b>bold</b>", body="<script>alert(1)</script>")
    Comment.objects.create(post=post, user=make_user(), body="<img src=x>")
    page = page_texts(client, post.get_absolute_url())
    assert "&lt;b&gt;bold" in page
    assert "<script>alert" not in page
    assert "<img src=x>" not in page


def test_comments_newest_first_and_in_pages(client: Client) -> None:
    post = make_post()
    comments = make_comments(post, COMMENTS_PER_PAGE + 1)
    response = client.get(post.get_absolute_url())
    assert [comment.pk for comment in response.context["comments"].rows] == [c.pk for c in comments[:-1]]
    older = client.get(post.get_absolute_url(), {"before": response.context["comments"].next_cursor})
    assert [comment.pk for comment in older.context["comments"].rows] == [comments[-1].pk]


def test_a_user_comments(client: Client) -> None:
    post, user = make_post(), make_user()
    client.force_login(user)
    response = client.post(f"{post.get_absolute_url()}comments/", {"body": "Fair winds."}, follow=True)
    assert response.redirect_chain == [(f"{post.get_absolute_url()}#comments", 302)]
    assert "Fair winds." in response.content.decode()
    assert Comment.objects.get().user == user


@pytest.mark.parametrize("body", ["", "   ", "x" * 5001])
def test_an_unfit_comment_is_refused_with_the_reason(client: Client, body: str) -> None:
    post = make_post()
    client.force_login(make_user())
    response = client.post(f"{post.get_absolute_url()}comments/", {"body": body})
    assert response.status_code == 422
    assert 'role="alert"' in response.content.decode()
    assert not Comment.objects.exists()


def test_an_anonymous_comment_is_refused(client: Client) -> None:
    post = make_post()
    response = client.post(f"{post.get_absolute_url()}comments/", {"body": "Nobody was here"})
    assert response.status_code == 302
    assert response["Location"].startswith("/accounts/login/?next=")
    assert not Comment.objects.exists()


def test_a_comment_needs_a_token_against_forgery() -> None:
    client = Client(enforce_csrf_checks=True)
    post = make_post()
    client.force_login(make_user())
    assert client.post(f"{post.get_absolute_url()}comments/", {"body": "Forged"}).status_code == 403
    assert not Comment.objects.exists()


def test_a_post_has_one_address(client: Client) -> None:
    post = make_post()
    page = page_texts(client, f"{post.get_absolute_url()}?utm_source=letter")
    assert f'<link rel="canonical" href="https://slipway.example{post.get_absolute_url()}">' in page
    assert f'<meta property="og:title" content="{post.title}">' in page


def test_visitors_get_no_cookie(client: Client) -> None:
    for path in ("/", "/posts/", make_post().get_absolute_url()):
        response = client.get(path)
        assert not response.cookies, path
        # The menu depends on who is logged in.
        assert "Cookie" in response["Vary"]


def queries(client: Client, path: str) -> int:
    """Return the number of queries of a page of which nothing is in the cache."""
    caches["default"].key_prefix = f"test-{uuid4().hex}"
    with CaptureQueriesContext(connection) as context:
        page_texts(client, path)
    return len(context)


@pytest.mark.parametrize(
    ("name", "visitor", "user"),
    # Posts, their tags, their latest comments, topics, the categories of the list; a login costs two, and the
    # user's own comments on the first page.
    [
        ("home", 4, 7),
        ("list", 5, 7),
        ("category", 5, 7),
        ("tag", 5, 7),
        ("author", 5, 7),
        ("post", 4, 5),
        ("search", 3, 5),
    ],
)
def test_queries_do_not_grow_with_the_data(client: Client, name: str, visitor: int, user: int) -> None:
    rope = Tag.objects.create(name="Rope", slug="rope")
    section = make_category()
    post = make_post(category=section, tags=[rope], published_at=timezone.now())
    paths = {
        "home": "/",
        "list": "/posts/",
        "category": section.get_absolute_url(),
        "search": "/search/?q=length",
        "tag": rope.get_absolute_url(),
        "author": post.author.get_absolute_url(),
        "post": post.get_absolute_url(),
    }
    make_comments(post, 1)
    few = queries(client, paths[name])
    for _ in range(30):
        make_post(author=post.author, category=section, tags=[rope, *make_post().tags.all()])
    make_comments(post, 30)
    assert (few, queries(client, paths[name])) == (visitor, visitor)
    client.force_login(make_user())
    assert queries(client, paths[name]) == user


def test_topics_are_counted_once_in_a_while(client: Client) -> None:
    make_post()
    first = queries(client, "/")
    with CaptureQueriesContext(connection) as context:
        page_texts(client, "/")
    assert len(context) == first - 1


def test_lists_leave_the_long_texts_in_the_database(client: Client) -> None:
    make_post()
    with CaptureQueriesContext(connection) as context:
        page_texts(client, "/posts/")
    assert not any('"blog_post"."body"' in query["sql"] for query in context)


def test_a_list_has_the_latest_five_comments_of_each_post(django_assert_num_queries: DjangoAssertNumQueries) -> None:
    talked_about = [make_post() for _ in range(3)]
    comments = {post.pk: make_comments(post, number) for post, number in zip(talked_about, (2, 5, 9), strict=True)}
    with django_assert_num_queries(3) as context:
        posts = list(Post.objects.for_cards(comments=5))
        shown = {post.pk: [(c.pk, c.excerpt, c.user.username) for c in post.latest_comments] for post in posts}
    assert shown == {
        pk: [(c.pk, c.body, c.user.username) for c in newest_first[:5]] for pk, newest_first in comments.items()
    }
    assert [post.comment_count for post in posts] == [2, 5, 9]
    # No more than what is shown leaves the database: not nine comments, no addresses, no passwords.
    assert "ROW_NUMBER() OVER (PARTITION BY" in context.captured_queries[2]["sql"]
    assert "password" not in context.captured_queries[2]["sql"]


def test_search(client: Client) -> None:
    tide = make_post(title="The tide mill", body="We mended the wheels in winter.")
    lamp = make_post(title="A lantern", body="The wheel of light.")
    make_post(title="A secret wheel", status=Post.Status.DRAFT)

    def found(words: str) -> list[Post]:
        response = client.get("/search/", {"q": words})
        assert response.status_code == 200
        return response.context["page"].rows

    assert found("wheel") == [tide, lamp], "newest first, words by their stems, the public posts only"
    assert found("mill or lantern") == [tide, lamp]
    assert found("wheel -winter") == [lamp]
    assert found('"wheel of light"') == [lamp]
    assert found("submarine") == []


@pytest.mark.parametrize("words", ["", "   ", "\x00", "x" * 201])
def test_nothing_to_search_for(client: Client, words: str) -> None:
    make_post()
    response = client.get("/search/", {"q": words})
    assert response.status_code == 200
    assert response.context["page"] is None


@pytest.mark.parametrize("words", ["' OR 1=1 --", '"', "!!", "a & | b", "<script>alert(1)</script>", "\\"])
def test_any_text_may_be_searched_for(client: Client, words: str) -> None:
    make_post()
    page = page_texts(client, f"/search/?{urlencode({'q': words})}")
    assert "No story has these words." in page
    assert "<script" not in page


def test_search_in_pages(client: Client) -> None:
    posts = [make_post() for _ in range(POSTS_PER_PAGE + 1)]
    page = client.get("/search/", {"q": "length"}).context["page"]
    older = client.get("/search/", {"q": "length", "before": page.next_cursor}).context["page"]
    assert page.rows + older.rows == posts


def test_the_search_can_use_its_index() -> None:
    make_post()
    with connection.cursor() as cursor:
        # Of a table this small PostgreSQL would read all.
        cursor.execute("SET LOCAL enable_seqscan = off")
    assert "blog_post_search" in Post.objects.search("wheel").order_by().explain()


def test_own_comments_are_a_fragment_of_each_user(
    client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks
) -> None:
    post, other = make_post(), Client()
    mine, theirs = make_user(), make_user()
    client.force_login(mine)
    other.force_login(theirs)
    make_post(published_at=timezone.now())  # whose comments are on the page anyway, and has none
    Comment.objects.create(post=post, user=mine, body="Mine is first.", created_at=timezone.now() - timedelta(days=9))
    make_comments(post, 5)  # so that the card of the post shows another

    with CaptureQueriesContext(connection) as context:
        assert "Mine is first." in page_texts(client, "/")
    assert any(f'"user_id" = {mine.pk}' in query["sql"] for query in context)
    assert "Mine is first." not in page_texts(other, "/")
    with CaptureQueriesContext(connection) as context:
        page_texts(client, "/")
    assert not any(f'"user_id" = {mine.pk}' in query["sql"] for query in context), "the fragment is cached"
    with django_capture_on_commit_callbacks(execute=True):
        client.post(f"{post.get_absolute_url()}comments/", {"body": "Mine is second."})
    assert page_texts(client, "/").count("Mine is second.") == 2, "in the fragment, and below the post"
