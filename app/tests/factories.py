"""Rows for tests."""

from datetime import timedelta
from itertools import count
from typing import Any

from django.utils import timezone

from accounts.models import User
from blog.models import Author, Category, Comment, Post, Tag
from shop.models import Product

PASSWORD = "harbour-light-77"  # noqa: S105 -- of users that live as long as a test
numbers = count(1)


def make_user(**fields: Any) -> User:
    """Create a user with the known password."""
    number = next(numbers)
    defaults = {"username": f"user{number}", "email": f"user{number}@example.com", "password": PASSWORD}
    return User.objects.create_user(**defaults | fields)


def make_post(**fields: Any) -> Post:
    """Create a published post with an author and two tags, a minute older than the one before."""
    number = next(numbers)
    author = fields.pop("author", None) or Author.objects.create(name=f"Author {number}", slug=f"a-{number}")
    tags = fields.pop("tags", None)
    defaults = {
        "title": f"Post {number}",
        "slug": f"post-{number}",
        "summary": "In short.",
        "body": "At length.",
        "status": Post.Status.PUBLISHED,
        "published_at": timezone.now() - timedelta(minutes=number),
    }
    post = Post.objects.create(author=author, **defaults | fields)
    if tags is None:
        tags = [Tag.objects.create(name=f"Tag {number}.{i}", slug=f"tag-{number}-{i}") for i in range(2)]
    post.tags.set(tags)
    return post


def make_comments(post: Post, number: int) -> list[Comment]:
    """Create comments by as many users."""
    return [
        Comment.objects.create(
            post=post,
            user=make_user(),
            body=f"Remark {i}",
            created_at=timezone.now() - timedelta(minutes=i),
        )
        for i in range(number)
    ]


def make_category(**fields: Any) -> Category:
    """Create a category."""
    number = next(numbers)
    return Category.objects.create(**{"name": f"Category {number}", "slug": f"category-{number}"} | fields)


def make_product(**fields: Any) -> Product:
    """Create a product on sale, a minute older than the one before."""
    number = next(numbers)
    defaults = {
        "name": f"Product {number}",
        "slug": f"product-{number}",
        "summary": "In short.",
        "description": "At length.",
        "price": "12.50",
        "stock": 3,
        "created_at": timezone.now() - timedelta(minutes=number),
    }
    return Product.objects.create(**defaults | fields)
