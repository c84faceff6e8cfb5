"""``seed_demo`` makes the same data each time, and only once."""

from io import StringIO

import pytest
from django.core.management import CommandError, call_command

from accounts.models import User
from blog.models import Author, Category, Comment, Post, Tag
from shop.models import Product
from tests.factories import make_post

pytestmark = pytest.mark.django_db

SMALL = ["--posts=45", "--authors=3", "--tags=4", "--readers=5", "--comments=60", "--categories=3", "--products=12"]


def seed(*arguments: str) -> str:
    """Run the command and return its last line."""
    output = StringIO()
    call_command("seed_demo", *arguments, stdout=output)
    return output.getvalue().splitlines()[-1]


def counts() -> list[int]:
    """Return the number of rows of each model."""
    return [model.objects.count() for model in (Author, Category, Tag, User, Product, Post, Comment)]


def contents() -> list[object]:
    """Return the data without the ids."""
    return [
        list(Post.objects.order_by("slug").values_list("slug", "title", "body", "status", "published_at")),
        list(Post.objects.order_by("slug").values_list("slug", "category__slug")),
        list(Product.objects.order_by("slug").values_list("slug", "description", "price", "stock", "views")),
        list(Post.tags.through.objects.order_by("post__slug", "tag__slug").values_list("post__slug", "tag__slug")),
        list(Comment.objects.order_by("created_at", "body").values_list("post__slug", "user__username", "body")),
    ]


def test_the_default_size() -> None:
    assert seed() == (
        "seed_demo: created 20 authors, 6 categories, 30 tags, 50 readers, 60 products, 200 posts, 1000 comments"
    )
    assert counts() == [20, 6, 30, 50, 60, 200, 1000]
    assert not Post.objects.filter(category=None).exists()
    statuses = set(Post.objects.values_list("status", flat=True))
    assert statuses == set(Post.Status.values)
    assert not Post.objects.filter(tags=None).exists()


def test_a_second_run_changes_nothing() -> None:
    seed(*SMALL)
    before = contents()
    assert seed(*SMALL) == "seed_demo: nothing to do"
    assert contents() == before


def test_the_data_are_reproducible() -> None:
    seed(*SMALL)
    before = contents()
    for model in (Comment, Post, Author, Category, Tag, User, Product):
        model.objects.all().delete()
    seed(*SMALL)
    assert contents() == before
    seed("--seed=another", *SMALL)
    assert contents() != before


def test_a_larger_size_adds() -> None:
    seed(*SMALL)
    assert seed(*SMALL, "--posts=50", "--comments=70") == "seed_demo: created 5 posts, 10 comments"


def test_older_posts_get_the_category_they_would_have_had() -> None:
    seed(*SMALL)
    before = contents()
    Post.objects.update(category=None)
    own = make_post(slug="not-of-this-command-7")
    assert seed(*SMALL) == "seed_demo: created 45 categories of older posts"
    own.refresh_from_db()
    assert own.category is None
    own.delete()
    assert contents()[1] == before[1]


def test_readers_cannot_log_in() -> None:
    seed(*SMALL)
    assert not any(user.has_usable_password() for user in User.objects.all())


def test_the_administrator(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_ADMIN_PASSWORD", "$first one")
    assert seed(*SMALL, "--admin=skipper").endswith(", superuser skipper")
    skipper = User.objects.get(username="skipper")
    assert skipper.is_superuser
    assert skipper.is_staff
    assert skipper.check_password("$first one")
    assert seed(*SMALL, "--admin=skipper") == "seed_demo: nothing to do"
    assert User.objects.get(username="skipper").password == skipper.password
    monkeypatch.setenv("DEMO_ADMIN_PASSWORD", "the second")
    assert seed(*SMALL, "--admin=skipper") == "seed_demo: created a new password for skipper"
    assert User.objects.get(username="skipper").check_password("the second")


def test_the_administrator_needs_a_password(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEMO_ADMIN_PASSWORD", raising=False)
    with pytest.raises(CommandError, match="DEMO_ADMIN_PASSWORD is required"):
        seed(*SMALL, "--admin=skipper")
    assert counts() == [0] * 7


def test_nobody_is_promoted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DEMO_ADMIN_PASSWORD", "the first one")
    User.objects.create_user("skipper", "skipper@example.com", "their own")
    with pytest.raises(CommandError, match="choose another name"):
        seed(*SMALL, "--admin=skipper")


@pytest.mark.parametrize("size", ["0", "-1", "many"])
def test_a_size_is_a_number(size: str) -> None:
    with pytest.raises(CommandError, match="is not a number of 1 or more"):
        seed(f"--posts={size}")
