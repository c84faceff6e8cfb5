"""What the pages say, for how long it is kept, and what their lists ask of the database."""

import re
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from importlib import import_module
from io import StringIO
from types import SimpleNamespace
from typing import Any
from unittest import mock

import pytest
from django.conf import settings
from django.core.cache import caches
from django.core.management import call_command
from django.db import connection
from django.template import Context, Template
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from accounts.emails import send_digest_email
from accounts.models import DigestEmail
from blog import selectors
from blog.models import Comment, Post
from ops.readthrough import ReadThroughCache
from shop import counters
from shop.models import Product
from shop.selectors import products
from tests.factories import make_category, make_comments, make_post, make_product, make_user
from tests.test_admin import LISTS
from tests.test_http import POLICIES, PUBLIC, address
from tests.test_pages import page_texts
from tests.test_tools import answer

pytestmark = pytest.mark.django_db

PUBLIC_URLS = [name for name, (stranger, _) in POLICIES.items() if stranger is PUBLIC]


@pytest.fixture
def post() -> Post:
    """Return a post that has everything a post can have."""
    post = make_post(category=make_category())
    make_comments(post, 1)
    return post


@pytest.fixture
def admin() -> Client:
    """Return a client that is logged in as an administrator."""
    client = Client()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    return client


# One address for each page


def canonical(page: str) -> list[str]:
    """Return the addresses that a page names as its own."""
    return re.findall('<link rel="canonical" href="(.*?)">', page)


@pytest.mark.parametrize("name", PUBLIC_URLS)
def test_a_page_names_its_own_address(client: Client, post: Post, name: str) -> None:
    path = address(name, post)
    for asked in (path, f"{path}?utm_source=letter&x=1"):
        assert canonical(page_texts(client, asked)) == [f"https://slipway.example{path}"]


def test_without_a_site_url_the_host_that_was_asked_for_is_named(client: Client, settings: Any) -> None:
    settings.SITE_URL = ""
    assert canonical(page_texts(client, "/accounts/login/")) == ["http://testserver/accounts/login/"]


@pytest.mark.parametrize("path", ["/accounts/login/", "/accounts/register/", "/lab/", "/lab/fields/"])
def test_other_pages_do_so_too(client: Client, path: str) -> None:
    assert canonical(page_texts(client, f"{path}?next=/")) == [f"https://slipway.example{path}"]


def test_parameters_that_make_a_page_another_one_are_kept(client: Client) -> None:
    make_post()
    page = page_texts(client, "/search/?x=1&before=9999999999999999_1&q=length&q=a+boat")
    assert canonical(page) == ["https://slipway.example/search/?q=a+boat&amp;before=9999999999999999_1"]


def test_what_is_not_there_has_no_address(client: Client) -> None:
    assert "canonical" not in client.get("/nowhere/").content.decode()


# What is kept, and for how long


def keys() -> set[str]:
    """Return the keys of this test, without their prefix."""
    cache = caches["default"]
    client, prefix = cache._cache.get_client(), cache.make_key("")
    return {key.decode().removeprefix(prefix) for key in client.scan_iter(f"{prefix}*", count=1000)}


def visit_all(post: Post) -> None:
    """Open every public page, and the first page as a user who has commented."""
    for name in PUBLIC_URLS:
        page_texts(Client(), address(name, post))
    Client().get("/authors/nobody/")
    reader = Client()
    reader.force_login(post.comments.all()[0].user)
    page_texts(reader, "/")


# How long a value counts as fresh at most, and how long it is kept in all, in seconds.
FRESH = {
    "product": (600, 600 + 3600),
    "profile": (600, 600 + 3600),
    "topics": (300, 300 + 3600),
    "categories": (300, 300 + 3600),
    "numbers": (900, 900 + 3600),
}
KEPT = {
    "views.decorators.cache.cache_page": 900,
    "views.decorators.cache.cache_header": 900,
    "template.cache.own-comments": 900,
    "blog:own-comments-generation": 86400,
}


def test_how_long_everything_is_kept(post: Post) -> None:
    began = time.time()
    visit_all(post)
    cache, kinds = caches["default"], set()
    client = cache._cache.get_client()
    for key in keys():
        left = client.pttl(cache.make_key(key)) / 1000
        kind, _, name = key.partition(":entry:")
        if name:
            entry = ReadThroughCache(kind, ttl=0)._slot(name).read()[1]
            assert entry
            fresh, kept = FRESH[kind] if entry.found else (30, 30)
            life, passed = entry.expires - time.time(), time.time() - began
            assert 0.8 * fresh - passed <= life <= fresh, key
            assert life + kept - fresh - 1 <= left <= kept, key
        else:
            kind = next((kind for kind in KEPT if key.startswith(kind)), key)
            assert KEPT[kind] - (time.time() - began) - 1 <= left <= KEPT[kind], key
        kinds.add(kind)
    assert kinds == FRESH.keys() | KEPT.keys(), "each kind of key is in the tables"


def test_what_is_not_there_is_remembered_for_half_a_minute(client: Client) -> None:
    assert client.get("/shop/products/nothing/").status_code == 404
    slot = products._slot("nothing")
    assert 0 < slot.client.pttl(slot.entry) <= 30_000


@pytest.mark.parametrize("name", PUBLIC_URLS)
def test_unknown_parameters_reach_no_cache(client: Client, post: Post, name: str) -> None:
    path = address(name, post)
    first = page_texts(client, path)
    kept = keys()
    with CaptureQueriesContext(connection) as usual:
        assert page_texts(client, path) == first
    for unknown in ("?x=1", "?utm_source=letter", "?page=2", "?x=1&x=2&%00", "?X"):
        with CaptureQueriesContext(connection) as context:
            assert page_texts(client, path + unknown) == first
        assert len(context) == len(usual)
    assert keys() == kept


@pytest.mark.parametrize(
    ("cache", "counted", "ask"),
    [
        (selectors.topics, "count_tags", selectors.popular_tags),
        (selectors.categories, "count_categories", selectors.category_counts),
        (selectors.numbers, "count_magazine", selectors.magazine_in_numbers),
    ],
    ids=["topics", "categories", "numbers"],
)
def test_what_is_costly_to_count_is_served_while_it_is_counted_anew(
    monkeypatch: pytest.MonkeyPatch, cache: ReadThroughCache, counted: str, ask: Callable[[], Any]
) -> None:
    old: Any = {"posts": [], "months": [1]} if counted == "count_magazine" else [{"name": "old"}]
    with monkeypatch.context() as patch:
        patch.setattr(cache, "ttl", -1)  # its time is over when it is stored, but not that of the stale value
        assert cache.get(selectors.ALL, lambda: old) == old
    slot = cache._slot(selectors.ALL)
    assert slot.claim(slot.read()[0], 60), "somebody counts"
    monkeypatch.setattr(selectors, counted, lambda: pytest.fail("counted twice"))
    assert ask() == old
    assert cache.jitter >= 0.1 and cache.stale >= 600 and cache.lease >= 30


def test_pages_that_are_worked_on_are_not_cached() -> None:
    script = (
        "from django.core.cache import cache\nfrom ops.readthrough import ReadThroughCache\n"
        "boats, runs = ReadThroughCache('boat', ttl=600), []\n"
        "for _ in range(2): boats.get('gull', lambda: runs.append(1))\n\n"
        "boats.invalidate('gull')\ncache.set('a', 1)\nprint(json.dumps([len(runs), cache.get('a')]))"
    )
    assert answer(script, DEBUG="true") == [2, None]
    assert answer(script, DEBUG="false") == [1, 1]


# What the pages say


def cells(page: str) -> list[list[list[str]]]:
    """Return the rows of the tables of a page, without the markup."""
    tables = re.findall("<tbody>(.*?)</tbody>", page, re.DOTALL)
    rows = [re.findall("<tr>(.*?)</tr>", table, re.DOTALL) for table in tables]
    return [
        [[re.sub("<[^>]*>", "", cell) for cell in re.findall("<td.*?>(.*?)</td>", row)] for row in table]
        for table in rows
    ]


def test_the_magazine_in_numbers(client: Client) -> None:
    june, may = (datetime(2025, month, 3, tzinfo=UTC) for month in (6, 5))
    talked, quiet = make_post(title="Talked about", published_at=june), make_post(title="Quiet", published_at=june)
    silent, draft = make_post(published_at=may), make_post(title="Hidden", status=Post.Status.DRAFT)
    reader = make_user(username="skipper")
    for post, comments in ((talked, 3), (quiet, 1), (draft, 9)):
        for number in range(comments):
            Comment.objects.create(post=post, user=reader, body=str(number))
    stories, authors, readers, months = cells(page_texts(client, "/numbers/"))
    assert stories == [["Talked about " + talked.author.name, "3"], ["Quiet " + quiet.author.name, "1"]]
    assert authors == [[talked.author.name, "3"], [quiet.author.name, "1"]]
    assert readers == [["skipper", "4"]]
    assert months == [["June 2025", "2", "4"], ["May 2025", "1", "0"]]
    assert silent.title not in page_texts(client, "/numbers/")


HIDING: dict[str, Callable[[Post], object]] = {
    "draft, saved": lambda post: (setattr(post, "status", Post.Status.DRAFT), post.save()),
    "archived by the admin's action": lambda post: Post.objects.filter(pk=post.pk).archive(),
    "in the future": lambda post: Post.objects.filter(pk=post.pk).update(
        published_at=timezone.now() + timedelta(days=1)
    ),
    "deleted": lambda post: post.delete(),
}


@pytest.mark.parametrize("hide", HIDING.values(), ids=HIDING)
def test_what_is_hidden_is_gone_at_once(
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks, hide: Callable[[Post], object]
) -> None:
    make_post(title="Another")  # without any post the first page has no comments of the user
    post = make_post(title="Secret harbour", category=make_category())
    reader, visitor = Client(), Client()
    reader.force_login(make_comments(post, 1)[0].user)
    paths = [
        *("/", "/posts/", "/numbers/", "/search/?q=harbour"),
        *(row.get_absolute_url() for row in (post.category, post.author, post.tags.all()[0])),
    ]
    for path in paths:
        for client in (reader, visitor):
            assert "Secret harbour" in page_texts(client, path), path
    with django_capture_on_commit_callbacks(execute=True):
        hide(post)
    for path in paths:
        for client in (reader, visitor):
            assert "Secret harbour" not in page_texts(client, path), path


FORGETTING: dict[str, Callable[[Comment], object]] = {
    "deleted": lambda comment: comment.delete(),
    "deleted by a query": lambda comment: Comment.objects.filter(pk=comment.pk).delete(),
    "changed": lambda comment: (setattr(comment, "body", "Nothing."), comment.save()),
    "changed by a query": lambda comment: Comment.objects.filter(pk=comment.pk).update(body="Nothing."),
}


@pytest.mark.parametrize("change", FORGETTING.values(), ids=FORGETTING)
def test_own_comments_follow_the_comments(
    client: Client,
    django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks,
    change: Callable[[Comment], object],
) -> None:
    comment = make_comments(make_post(), 1)[0]
    client.force_login(comment.user)
    make_post(published_at=timezone.now())
    assert page_texts(client, "/").count("Remark 0") == 2, "of the post, and of the user"
    with django_capture_on_commit_callbacks(execute=True):
        change(comment)
    assert "Remark 0" not in page_texts(client, "/")


def test_a_product(client: Client) -> None:
    boat = make_product(name="A boat", price="1250.50", stock=2, summary="It floats.", description="Of oak.")
    gone = make_product(name="A buoy", stock=0)
    page, other = (page_texts(client, product.get_absolute_url()) for product in (boat, gone))
    for words in ("A boat", "€ 1250.50", "2 in stock", "It floats.", "<p>Of oak.</p>"):
        assert words in page
    assert "Sold out" not in page
    assert "Sold out" in other and "in stock" not in other
    for path in ("/shop/", "/shop/hot/"):
        cards = re.findall('<article class="card">.*?</article>', page_texts(client, path), re.DOTALL)
        assert {(("A buoy" in card), ("sold out" in card)) for card in cards} == {(True, True), (False, False)}, path
        assert all("€ 1250.50" in card for card in cards if "A boat" in card)


def test_a_card_and_a_post_say_what_they_are_about(client: Client) -> None:
    post = make_post(
        title="The mill",
        body="It turns.",
        category=make_category(name="Ports"),
        published_at=datetime(2025, 6, 3, 9, 30, tzinfo=UTC),
    )
    comments = make_comments(post, 3)
    own, topic = post.get_absolute_url(), post.tags.all()[0].name
    for path in ("/", "/posts/", post.category.get_absolute_url(), "/search/?q=mill", own):
        page = page_texts(client, path)
        for words in ("The mill", "In short.", post.author.name, ">Ports</a>", "3 June 2025", topic):
            assert words in page, (path, words)
        assert ("3 comments" in page) == (path != own), path
        assert comments[0].body in page
        assert (comments[1].body in page) == (path in ("/", own)), path
        assert ("It turns." in page) == (path == own), path
    for heading, path in (("All stories", "/posts/"), ("Ports", post.category.get_absolute_url())):
        assert f"<h1>{heading}</h1>" in page_texts(client, path)
    assert '">Ports <span class="topics__count">1<' in page_texts(client, "/posts/")
    assert f'">{topic} <span class="topics__count">1<' in page_texts(client, "/")


def test_a_card_shows_one_comment_and_fetches_no_more(client: Client) -> None:
    posts = [make_post() for _ in range(3)]
    for post in posts:
        make_comments(post, 9)
    for path, shown in (("/posts/", [1, 1, 1]), ("/", [5, 1, 1])):
        page = client.get(path)
        rows = page.context["page"].rows if path == "/posts/" else [page.context["lead"], *page.context["posts"]]
        assert [len(post.latest_comments) for post in rows] == shown
        assert [post.latest_comments[0].pk for post in rows] == [post.comments.all()[0].pk for post in posts]


# Views


def test_only_who_looks_at_a_page_counts(client: Client) -> None:
    product = make_product()
    path = product.get_absolute_url()
    assert client.head(path).status_code == 200
    assert client.get(path, headers={"Sec-Purpose": "prefetch;prerender"}).status_code == 200
    assert counters.flush() == 0
    assert client.get(path).status_code == 200
    counters.flush()
    product.refresh_from_db()
    assert product.views == 1


def look_at(product: Product, times: int) -> None:
    """Count views of a product and add them."""
    for _ in range(times):
        counters.count_view(product_id=product.pk)
    counters.flush()


def test_what_is_hot_cools_down(monkeypatch: pytest.MonkeyPatch) -> None:
    seldom = make_product(views=1_000_000)
    old, new = make_product(), make_product()
    look_at(old, 40)
    look_at(new, 10)
    assert list(Product.objects.hottest_first()) == [old, new, seldom]
    # Three weeks later an eighth of the views before is left: 5 and 1.25.
    later = counters.AGE.replace("now()", "(now() + interval '21 days')")
    monkeypatch.setattr(counters, "ADD", counters.ADD.replace(counters.AGE, later))
    look_at(new, 3)
    assert list(Product.objects.hottest_first()) == [old, new, seldom]
    look_at(new, 1)
    assert list(Product.objects.hottest_first()) == [new, old, seldom]
    years = counters.AGE.replace("now()", "(now() + interval '90 years')")
    monkeypatch.setattr(counters, "ADD", counters.ADD.replace(later, years))
    look_at(old, 1)
    assert list(Product.objects.hottest_first()) == [old, new, seldom]


# What lists ask of the database


LONG = re.compile(r'"(password|body|bio|description|searched)"')
# Who is logged in: the hash is part of what a session is checked by. What the page of an author says of them. The row
# whose changes are listed.
EXCEPT = re.compile(
    r'FROM "accounts_user" WHERE "accounts_user"\."id" = \d+ LIMIT 21$|FROM "django_session"'
    r'|FROM "blog_author" WHERE "blog_author"\."slug" = |FROM "blog_post" WHERE "blog_post"\."id" = \d+ LIMIT 21$'
)
CUT = re.compile(r'LEFT\("blog_comment"\."body", \d+\)')


def long_columns(queries: list[dict[str, str]]) -> list[str]:
    """Return the queries that fetch long texts or hashes of passwords, but for what the database cuts off."""
    found = [query["sql"] for query in queries if not EXCEPT.search(query["sql"])]
    return [sql for sql in found if LONG.search(CUT.sub("", sql.partition(" FROM ")[0]))]


def site_lists(post: Post) -> list[str]:
    """Return the addresses of the site's lists."""
    return [
        *("/", "/posts/", "/shop/", "/shop/hot/", "/numbers/", "/search/?q=length", "/search/?q=remark"),
        *(row.get_absolute_url() for row in (post.author, post.tags.all()[0])),
    ]


def admin_lists(post: Post) -> list[str]:
    """Return the addresses of the admin's lists: rows, what search fields offer, changes of a row, recent actions."""
    choices = [
        *(("blog", "post", "author"), ("blog", "post", "category"), ("blog", "post", "tags")),
        *(("blog", "author", "user"), ("blog", "comment", "post"), ("blog", "comment", "user")),
    ]
    return [
        *(reverse(f"admin:{model}_changelist") for model in LISTS),
        *(
            f"{reverse('admin:autocomplete')}?term=&app_label={label}&model_name={model}&field_name={field}"
            for label, model, field in choices
        ),
        reverse("admin:blog_post_history", args=[post.pk]),
        reverse("admin:index"),
    ]


def test_lists_fetch_no_long_texts_and_no_passwords(admin: Client, post: Post) -> None:
    # Actions for the history of a post, and for the first page of the admin.
    form = {"slug": post.slug, "title": "New", "body": "b", "author": post.author_id, "status": "draft"}
    form |= {"tags": [post.tags.all()[0].pk], "published_at_0": "", "published_at_1": ""}
    assert admin.post(reverse("admin:blog_post_change", args=[post.pk]), form).status_code == 302
    Post.objects.update(status=Post.Status.PUBLISHED, published_at=timezone.now())
    make_product()
    post.author.user = post.comments.all()[0].user
    post.author.save()
    today = timezone.localdate()
    DigestEmail.objects.create(user=post.author.user, since=today, day=today)
    for path in [*site_lists(post), *admin_lists(post)]:
        caches["default"].key_prefix += "x"
        with CaptureQueriesContext(connection) as context:
            assert admin.get(path).status_code == 200, path
        assert not (found := long_columns(context.captured_queries)), (path, *found)


def test_the_digest_fetches_no_long_texts(post: Post) -> None:
    tomorrow = timezone.localdate() + timedelta(days=1)
    digest = DigestEmail.objects.create(
        user=make_user(wants_digest=True), since=tomorrow - timedelta(days=9), day=tomorrow
    )
    with CaptureQueriesContext(connection) as context:
        assert send_digest_email(digest_id=digest.pk)
    assert not [query["sql"] for query in context if '"blog_post"."body"' in query["sql"] or '"bio"' in query["sql"]]


@pytest.mark.parametrize(
    "sql", ['SELECT "accounts_user"."password" FROM "accounts_user" LIMIT 9', 'SELECT "blog_comment"."body" FROM x']
)
def test_long_columns_are_found(sql: str) -> None:
    assert long_columns([{"sql": sql}]) == [sql]


# Which index finds the rows of a list, already in its order.
INDEXES = {
    "/": "blog_post_newest",
    "/posts/": "blog_post_newest",
    "/posts/?before=9999999999999999_1": "blog_post_newest",
    "author": "blog_post_author_newest",
    "category": "blog_post_category_newest",
    "/shop/": "shop_product_newest",
    "/shop/hot/": "shop_product_popular",
    "/admin/blog/post/": "blog_post_created",
    "/admin/blog/post/?status__exact=draft": "blog_post_status_created",
    "/admin/blog/comment/": "blog_comment_newest",
    "/admin/shop/product/": "shop_product_created",
}


@pytest.mark.parametrize(("path", "index"), INDEXES.items())
def test_lists_are_read_from_an_index(admin: Client, post: Post, path: str, index: str) -> None:
    make_product()
    asked = {"author": post.author.get_absolute_url(), "category": post.category.get_absolute_url()}.get(path, path)
    table = "_".join(index.split("_")[:2])
    with CaptureQueriesContext(connection) as context:
        assert admin.get(asked).status_code == 200
    lists = [query["sql"] for query in context if f'FROM "{table}"' in query["sql"] and "ORDER BY" in query["sql"]]
    plans = []
    with connection.cursor() as cursor:
        # Of tables this small PostgreSQL would read and sort all.
        for method in ("seqscan", "bitmapscan", "sort", "hashjoin", "mergejoin"):
            cursor.execute(f"SET LOCAL enable_{method} = off")
        for sql in lists:
            cursor.execute(f"EXPLAIN {sql}")
            plans.append("\n".join(line for (line,) in cursor.fetchall()))
    found = [plan for plan in plans if f"using {index} " in plan]
    assert found, plans
    assert "Sort" not in found[0].partition("SubPlan")[0], found[0]


def test_a_search_computes_no_text(client: Client, post: Post) -> None:
    with CaptureQueriesContext(connection) as context:
        assert post.title in page_texts(client, "/search/?q=length")
    assert not [query["sql"] for query in context if "to_tsvector" in query["sql"]]


SEARCHED = (
    "SELECT searched = to_tsvector('english', title || ' ' || summary || ' ' || body) FROM blog_post WHERE id = %s"
)


def test_what_is_searched_follows_the_text(client: Client, post: Post) -> None:
    def is_true() -> bool:
        with connection.cursor() as cursor:
            cursor.execute(SEARCHED, [post.pk])
            return cursor.fetchone()[0]

    assert is_true()
    for change in ({"title": "A capstan"}, {"summary": "Of a windlass."}, {"body": "And a bollard."}):
        Post.objects.filter(pk=post.pk).update(**change)
        assert is_true()
    post = Post.objects.get(pk=post.pk)
    post.title = "A sextant"
    post.save()
    assert is_true()
    for words, found in (("sextant windlass bollard", True), ("capstan", False), ("length", False)):
        assert ("A sextant" in page_texts(client, f"/search/?q={words}")) == found, words


def test_posts_that_were_there_before_are_filled_in() -> None:
    posts = [make_post(tags=[]) for _ in range(5)]
    migration = import_module("blog.migrations.0008_fill_searched")
    with connection.cursor() as cursor:
        cursor.execute("UPDATE blog_post SET searched = NULL")  # the trigger is for the texts
    assert not Post.objects.search("length").exists()
    with mock.patch.object(migration, "BATCH", 2):
        migration.fill(None, SimpleNamespace(connection=connection))
    assert set(Post.objects.search("length")) == set(posts)


def test_a_refused_comment_costs_what_the_page_costs(client: Client, post: Post) -> None:
    client.force_login(make_user())
    with CaptureQueriesContext(connection) as page:
        page_texts(client, post.get_absolute_url())
    with CaptureQueriesContext(connection) as refused:
        assert client.post(f"{post.get_absolute_url()}comments/", {"body": ""}).status_code == 422
    assert len(refused) == len(page)


# The rest


def test_seeded_posts_are_in_the_order_of_the_site(admin: Client) -> None:
    for posts in (30, 45):
        call_command("seed_demo", f"--posts={posts}", "--comments=1", "--products=1", stdout=StringIO())
    listed = admin.get("/admin/blog/post/").context["cl"].result_list
    assert [post.pk for post in listed] == list(Post.objects.newest_first().values_list("pk", flat=True))


def test_every_colour_is_defined() -> None:
    sheets = "".join(path.read_text() for path in sorted((settings.BASE_DIR / "static").glob("*.css")))
    assert set(re.findall(r"var\(--([\w-]+)", sheets)) <= set(re.findall(r"--([\w-]+):", sheets))


def test_no_script_reads_the_token(client: Client) -> None:
    cookie = client.get("/accounts/login/").cookies["csrftoken"]
    assert cookie["httponly"] and cookie["samesite"] == "Lax"


def test_what_a_template_asks_for_in_vain_fails_the_test(template_misses: list[str]) -> None:
    Template("{{ boat.oars }}{% if sails %}{% endif %}", name="blog/boat.html").render(Context({"boat": {}}))
    assert [miss.partition(",")[0] for miss in template_misses] == ["blog/boat.html: oars", "blog/boat.html: sails"]
    template_misses.clear()
