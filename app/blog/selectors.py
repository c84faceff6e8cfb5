"""Queries that more than one page needs."""

from typing import Any

from django.core.cache import cache
from django.db.models import Count, Q
from django.utils import timezone

from blog.models import Author, Category, Post, Tag
from ops.readthrough import MISSING, ReadThroughCache

profiles = ReadThroughCache("profile", ttl=600)
profiles.drop_on_change(Author, "slug")


def profile_by_slug(slug: str) -> dict[str, Any] | None:
    """Return what the page of an author says about them, or None where there is no such author."""

    def load() -> Any:
        return Author.objects.filter(slug=slug).values("pk", "name", "bio").first() or MISSING

    profile = profiles.get(slug, load)
    return None if profile is MISSING else profile


POPULAR_TAGS_KEY = "blog:popular-tags"
POPULAR_TAGS_TIMEOUT = 300


def popular_tags(limit: int = 14) -> list[dict[str, str | int]]:
    """Return the topics with the most published posts.

    Counting reads the whole table of tagged posts, on every page that shows topics: so the answer is kept
    in the cache, and may be five minutes old.
    """

    def count() -> list[dict[str, str | int]]:
        published = Q(posts__status=Post.Status.PUBLISHED, posts__published_at__lte=timezone.now())
        return list(
            Tag.objects.annotate(post_count=Count("posts", filter=published))
            .filter(post_count__gt=0)
            .order_by("-post_count", "name")
            .values("name", "slug", "post_count")[:limit]
        )

    return cache.get_or_set(POPULAR_TAGS_KEY, count, POPULAR_TAGS_TIMEOUT)


CATEGORY_COUNTS_KEY = "blog:category-counts"
CATEGORY_COUNTS_TIMEOUT = 300


def category_counts() -> list[dict[str, str | int]]:
    """Return the categories that have published posts, with their number, which may be five minutes old."""

    def count() -> list[dict[str, str | int]]:
        published = Q(posts__status=Post.Status.PUBLISHED, posts__published_at__lte=timezone.now())
        return list(
            Category.objects.annotate(post_count=Count("posts", filter=published))
            .filter(post_count__gt=0)
            .order_by("name")
            .values("name", "slug", "post_count")
        )

    return cache.get_or_set(CATEGORY_COUNTS_KEY, count, CATEGORY_COUNTS_TIMEOUT)
