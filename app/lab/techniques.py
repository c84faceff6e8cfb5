"""The techniques: each is two functions that give the same answer, first as one writes it, then as one should.

The pages of the lab show the functions as they stand here. Both are given what `prepare` found, which is not measured.
"""

import inspect
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from textwrap import dedent
from typing import Any

from django.conf import settings
from django.contrib.auth.models import AnonymousUser
from django.db import OperationalError as DatabaseError
from django.db.models import Count, Exists, OuterRef, Q, QuerySet
from django.http import HttpRequest
from django.shortcuts import render
from django.template.loader import render_to_string
from django.test import RequestFactory
from django.urls import reverse
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError
from PIL import Image

from accounts.models import User
from blog import pictures, views
from blog.models import EXCERPT_LENGTH, LATEST_COMMENTS, Author, Category, Comment, CommentQuerySet, Post, PostQuerySet
from blog.pagination import Page, encode_cursor, paginate
from blog.selectors import category_counts, count_categories, count_magazine, magazine_in_numbers, popular_tags
from blog.tasks import make_thumbnails
from blog.views import POSTS_PER_PAGE
from lab.measure import BUDGET_SECONDS, CannotMeasure, Comparison, alone, compare
from shop.models import Product
from shop.selectors import product_by_slug
from shop.views import hot_products

# The naive ways read whole tables. This many rows of them are enough to see it, and do not fill the memory.
MOST_ROWS = 10_000


@dataclass(frozen=True)
class Technique:
    """Two ways of doing the same."""

    slug: str
    title: str
    # What is done in the two ways, and what makes the difference.
    lesson: str
    prepare: Callable[[], Any]
    naive: Callable[[Any], Any]
    optimised: Callable[[Any], Any]
    # The functions of the site that do the work of the optimised way.
    parts: tuple[Callable[..., Any], ...] = ()

    @property
    def sources(self) -> dict[str, list[str]]:
        """Return the code of both ways."""
        return {
            "naive": [inspect.getsource(self.naive)],
            "optimised": [dedent(inspect.getsource(function)) for function in (self.optimised, *self.parts)],
        }


def found(rows: QuerySet[Any], what: str) -> Any:
    """Return the first of the rows.

    Raises:
        CannotMeasure: There is none.
    """
    row = rows.first()
    if row is None:
        raise CannotMeasure(f"The site has no {what}. `manage.py seed_demo` makes some.")
    return row


def published() -> QuerySet[Post]:
    """Return the posts that everybody may read, without a limit or an order of their own."""
    return Post.objects.filter(status=Post.Status.PUBLISHED, published_at__lte=timezone.now())


def any_post() -> Post:
    """Return a post that everybody may read."""
    return found(published().order_by("-published_at", "-id"), "published post")


def visitor_at(name: str) -> HttpRequest:
    """Return what somebody asks who is not logged in."""
    # A request has to be for a host that the site answers to.
    hosts = [host.removeprefix(".") for host in settings.ALLOWED_HOSTS if host != "*"]
    request = RequestFactory(SERVER_NAME=(hosts or ["localhost"])[0]).get(reverse(name))
    request.user = AnonymousUser()
    return request


# --- A list of posts --------------------------------------------------------------------------------------


def visitor_of_listing() -> HttpRequest:
    """Return what a visitor of the list of posts asks."""
    any_post()
    return visitor_at("blog:post_list")


def listing_naive(request: HttpRequest) -> bytes:
    """As it is written first."""
    posts = Post.objects.filter(status="published", published_at__lte=timezone.now())[:MOST_ROWS]
    page = Page(rows=[], next_cursor=None, is_first=True)
    # This `if` fetches all posts there are, with their texts, to know whether there is one.
    if posts:
        shown = posts[:POSTS_PER_PAGE]
        for post in shown:
            post.comment_count = len(post.comments.all())
            post.latest_comments = post.comments.all()[:1]
            for comment in post.latest_comments:
                comment.excerpt = comment.body[:EXCERPT_LENGTH]
        # The template then asks for the author, the category, the topics and each reader, one by one.
        more = len(posts) > POSTS_PER_PAGE
        page = Page(shown, encode_cursor(shown[-1], "published_at") if more else None, is_first=True)
    context = {"page": page, "heading": "All stories", "categories": category_counts(), "topics": popular_tags}
    context |= {"kicker": "", "introduction": ""}
    return render(request, "blog/post_list.html", context).content


def listing_optimised(request: HttpRequest) -> bytes:
    """As the site does it."""
    return views.post_list(request).content


# --- One query a row --------------------------------------------------------------------------------------


def n_plus_one_naive(_: Post) -> list[Any]:
    """Ask for each post's author, topics and comments, and for each comment's reader."""
    return [
        (
            post.title,
            post.author.name,
            post.category and post.category.name,
            [tag.name for tag in post.tags.all()],
            [
                (comment.user.username, comment.body[:EXCERPT_LENGTH])
                for comment in post.comments.all()[:LATEST_COMMENTS]
            ],
        )
        for post in published().order_by("-published_at", "-id")[:100]
    ]


def n_plus_one_optimised(_: Post) -> list[Any]:
    """Fetch authors and categories by a join, topics and the latest five comments by one query each."""
    return [
        (
            post.title,
            post.author.name,
            post.category and post.category.name,
            [tag.name for tag in post.tags.all()],
            [(comment.user.username, comment.excerpt) for comment in post.latest_comments],
        )
        for post in published().for_cards(comments=LATEST_COMMENTS).order_by("-published_at", "-id")[:100]
    ]


# --- Columns ----------------------------------------------------------------------------------------------


def fields_naive(_: Post) -> list[Any]:
    """Fetch the texts as well, of which nothing is shown."""
    return [(post.title, post.published_at) for post in published().order_by("-published_at", "-id")[:1000]]


def fields_optimised(_: Post) -> list[Any]:
    """Fetch what is shown."""
    posts = published().only("title", "published_at").order_by("-published_at", "-id")[:1000]
    return [(post.title, post.published_at) for post in posts]


# --- Changes of many rows ---------------------------------------------------------------------------------


def some_drafts() -> list[int]:
    """Return the ids of the drafts, two hundred at most."""
    found(Post.objects.filter(status=Post.Status.DRAFT), "draft")
    return list(Post.objects.filter(status=Post.Status.DRAFT).order_by("pk").values_list("pk", flat=True)[:200])


def bulk_update_naive(ids: list[int]) -> int:
    """Fetch, change and save each draft."""
    archived = 0
    for post in Post.objects.filter(pk__in=ids, status=Post.Status.DRAFT):
        post.status = Post.Status.ARCHIVED
        post.save()
        archived += 1
    return archived


def bulk_update_optimised(ids: list[int]) -> int:
    """Archive the drafts by one UPDATE, as the admin's action does."""
    return Post.objects.filter(pk__in=ids).archive_drafts()


# --- Numbers ----------------------------------------------------------------------------------------------


def aggregation_naive(_: Post) -> list[Any]:
    """Count in Python, which has to fetch what is counted."""
    posts = published()[:MOST_ROWS]
    counts: dict[str, int] = {}
    for post in posts.select_related("category"):
        if post.category:
            counts[post.category.name] = counts.get(post.category.name, 0) + 1
    return sorted(counts.items())


def aggregation_optimised(_: Post) -> list[Any]:
    """Let the database count."""
    posts = Q(posts__in=published()[:MOST_ROWS])
    categories = Category.objects.annotate(count=Count("posts", filter=posts)).filter(count__gt=0)
    return list(categories.order_by("name").values_list("name", "count"))


def exists_naive(_: Post) -> list[Any]:
    """Ask which authors have posts, by counting these."""
    return [author.name for author in Author.objects.order_by("name", "id") if len(author.posts.all()) > 0]


def exists_optimised(_: Post) -> list[Any]:
    """Let the database ask for each author whether there is one, in one query."""
    authors = Author.objects.filter(Exists(Post.objects.filter(author=OuterRef("pk"))))
    return [author.name for author in authors.only("name").order_by("name", "id")]


# --- Far down a list --------------------------------------------------------------------------------------


def last_of_many() -> tuple[int, str]:
    """Return how many posts stand before a page near the end of the list, and the cursor of that page."""
    any_post()
    before = max(published().count() - 2 * POSTS_PER_PAGE, 1)
    rows = published().order_by("-published_at", "-id")[before - 1 : before]
    return before, encode_cursor(found(rows, "published post"), "published_at")


def pagination_naive(place: tuple[int, str]) -> list[Any]:
    """Count the rows before the page: PostgreSQL reads them and throws them away."""
    posts = published().only("title").order_by("-published_at", "-id")
    return [post.title for post in posts[place[0] : place[0] + POSTS_PER_PAGE]]


def pagination_optimised(place: tuple[int, str]) -> list[Any]:
    """Begin at the key of the row before the page, which the index finds."""
    posts = published().only("title", "published_at")
    return [post.title for post in paginate(posts, field="published_at", cursor=place[1], size=POSTS_PER_PAGE).rows]


# --- Caches -----------------------------------------------------------------------------------------------


def visitor_of_numbers() -> HttpRequest:
    """Return what a visitor of the page of numbers asks."""
    any_post()
    return visitor_at("blog:numbers")


def view_cache_naive(request: HttpRequest) -> bytes:
    """Count everything for each visitor."""
    return render(request, "blog/numbers.html", count_magazine()).content


def view_cache_optimised(request: HttpRequest) -> bytes:
    """Keep what was counted for a quarter of an hour, as the site does."""
    return views.numbers(request).content


def visitor_of_hot_products() -> HttpRequest:
    """Return what a visitor of the hot products asks."""
    found(Product.objects.on_sale(), "product")
    return visitor_at("shop:hot_products")


def light_view_cache_naive(request: HttpRequest) -> bytes:
    """Make the page of one cheap query for each visitor."""
    return inspect.unwrap(hot_products)(request).content


def light_view_cache_optimised(request: HttpRequest) -> bytes:
    """Keep the whole answer, as the site does, by `cache_page`."""
    return hot_products(request).content


def commenting_user() -> User:
    """Return somebody who has commented."""
    return found(Comment.objects.select_related("user").order_by("-created_at", "-id"), "comment").user


def fragment_cache_naive(user: User) -> str:
    """Fetch and render a reader's own comments on each visit."""
    comments = Comment.objects.written_by(user)[:5]
    return render_to_string("includes/own_comments.html", {"own_comments": comments}).strip()


def fragment_cache_optimised(user: User) -> str:
    """Keep them for this reader: the query is not made unless the fragment has to be."""
    comments = Comment.objects.written_by(user)[:5]
    return render_to_string("lab/own_comments.html", {"user": user, "own_comments": comments}).strip()


def some_product() -> str:
    """Return the name in the address of a product."""
    return found(Product.objects.on_sale(), "product").slug


def read_through_cache_naive(slug: str) -> Any:
    """Fetch a product on each visit."""
    return Product.objects.on_sale().filter(slug=slug).get().name


def read_through_cache_optimised(slug: str) -> Any:
    """Read it through the cache."""
    product = product_by_slug(slug)
    return product and product["name"]


def low_level_cache_naive(_: Post) -> list[Any]:
    """Count the posts of each category for each visitor."""
    return count_categories()


def low_level_cache_optimised(_: Post) -> list[Any]:
    """Count them every five minutes."""
    return category_counts()


# --- Work that can wait -----------------------------------------------------------------------------------


def upload() -> bytes:
    """Return a picture as somebody uploads it."""
    file = BytesIO()
    Image.effect_noise((2400, 1600), 40).convert("RGB").save(file, "JPEG", quality=85)
    return file.getvalue()


def task_naive(file: bytes) -> str:
    """Make the small versions of a picture while its author waits for the answer."""
    with Image.open(BytesIO(file)) as picture:
        for width in pictures.WIDTHS:
            version = picture.copy()
            version.thumbnail((width, width * 2), Image.Resampling.LANCZOS)
            version.save(BytesIO(), "WEBP", quality=pictures.QUALITY)
    return "Your story is saved."


def task_optimised(file: bytes) -> str:
    """Hand it to a worker: here for a post that does not exist, so that nothing comes of it."""
    make_thumbnails.delay(0)
    return "Your story is saved."


TECHNIQUES = [
    Technique(
        "listing",
        "The list of posts",
        "The page /posts/ as it is, and as it is written first. Three mistakes together: an “if” on a queryset, which "
        "fetches every post there is; all columns, with the long texts; and a query for each thing that a post has. "
        "The two pages are the same to the byte.",
        visitor_of_listing,
        listing_naive,
        listing_optimised,
        (views.post_list, views._post_list, PostQuerySet.for_cards, CommentQuerySet.excerpts),
    ),
    Technique(
        "n-plus-one",
        "One query a row",
        "A hundred posts with their authors, categories, topics and latest comments. Each row asks for what belongs to "
        "it, or select_related, prefetch_related and a sliced Prefetch ask for all of it at once.",
        any_post,
        n_plus_one_naive,
        n_plus_one_optimised,
        (PostQuerySet.for_cards, CommentQuerySet.excerpts),
    ),
    Technique(
        "fields",
        "Only the columns that are shown",
        "The titles and dates of a thousand posts, with and without their texts, by only().",
        any_post,
        fields_naive,
        fields_optimised,
    ),
    Technique(
        "bulk-update",
        "Many rows, one UPDATE",
        "Up to two hundred drafts are archived, one by one or by QuerySet.update(). Nothing of it is kept. In one "
        "transaction, as here, saving one by one looks better than it is: elsewhere each save is a COMMIT.",
        some_drafts,
        bulk_update_naive,
        bulk_update_optimised,
        (PostQuerySet.archive_drafts, PostQuerySet.archive),
    ),
    Technique(
        "aggregation",
        "Counting where the rows are",
        "The number of posts in each category, counted in Python or by annotate(Count()).",
        any_post,
        aggregation_naive,
        aggregation_optimised,
    ),
    Technique(
        "exists",
        "Asking whether there is one",
        "Which authors have posts: len() fetches all posts of each, by a query for each; Exists() stops at the first, "
        "within the query for the authors.",
        any_post,
        exists_naive,
        exists_optimised,
    ),
    Technique(
        "pagination",
        "Far down a list",
        "A page near the end of the list, by OFFSET and by the key of the row before it.",
        last_of_many,
        pagination_naive,
        pagination_optimised,
        (paginate,),
    ),
    Technique(
        "view-cache",
        "A costly page from the cache",
        "The page /numbers/, for which all posts and comments are counted: for each visitor, or once in fifteen "
        "minutes. One query remains, which asks what is still public. The figures of a cache are those of a hit.",
        visitor_of_numbers,
        view_cache_naive,
        view_cache_optimised,
        (views.numbers, magazine_in_numbers, count_magazine),
    ),
    Technique(
        "light-view-cache",
        "A whole page from the cache",
        "The page /shop/hot/, kept by cache_page for fifteen minutes. It needs one quick query: a cache gains what it "
        "saves, and here that is little.",
        visitor_of_hot_products,
        light_view_cache_naive,
        light_view_cache_optimised,
        (hot_products,),
    ),
    Technique(
        "fragment-cache",
        "A part of a page from the cache",
        "A reader's own comments on the first page, kept for each reader by the template tag “cache”.",
        commenting_user,
        fragment_cache_naive,
        fragment_cache_optimised,
    ),
    Technique(
        "low-level-cache",
        "A value from the cache",
        "The categories with their numbers of posts, counted for each visitor or every five minutes.",
        any_post,
        low_level_cache_naive,
        low_level_cache_optimised,
        (category_counts, count_categories),
    ),
    Technique(
        "read-through-cache",
        "A row from the cache",
        "A product by its address, which an index finds at once: Redis answers hardly faster than PostgreSQL. What the "
        "cache does here is to spare the database a busy product, and names that do not exist.",
        some_product,
        read_through_cache_naive,
        read_through_cache_optimised,
        (product_by_slug,),
    ),
    Technique(
        "task",
        "Work off the request",
        "An uploaded picture is made into its small versions before the answer, or by a worker after it. The work is "
        "the same; nobody waits for it.",
        upload,
        task_naive,
        task_optimised,
    ),
]
BY_SLUG = {technique.slug: technique for technique in TECHNIQUES}


def measure(technique: Technique, *, budget: float = BUDGET_SECONDS) -> Comparison:
    """Measure a technique on the site's data.

    Args:
        technique: Which one.
        budget: Seconds after which no further run begins.

    Raises:
        CannotMeasure: With the reason, for whoever asked.
    """
    try:
        with alone():
            subject = technique.prepare()
        return compare(lambda: technique.naive(subject), lambda: technique.optimised(subject), budget=budget)
    except BrokerError as error:
        raise CannotMeasure(f"The broker did not take the task: {error}") from error
    except DatabaseError as error:
        raise CannotMeasure(f"A query was given up: {error}") from error
