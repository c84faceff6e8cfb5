"""``manage.py seed_demo``: reproducible demo data, and on request an administrator to look at it with."""

from argparse import ArgumentParser, ArgumentTypeError
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import islice
from random import Random
from typing import Any

from django.contrib.auth.hashers import make_password
from django.core.management.base import BaseCommand, CommandError
from django.db import connection, transaction
from django.db.models import Model
from django.utils.text import slugify

from accounts.models import User
from blog import demo_text, selectors
from blog.models import Author, Category, Comment, Post, Tag
from config.env import Environment
from shop.models import Product

BATCH = 2000
NEWEST = datetime(2025, 12, 1, 7, tzinfo=UTC)
# Marks the users that this command made; the domain is reserved and receives no mail.
READERS_DOMAIN = "readers.example"


def count_argument(value: str) -> int:
    """Return a number given on the command line, which is at least 1."""
    if not value.isdecimal() or int(value) < 1:
        raise ArgumentTypeError(f"{value!r} is not a number of 1 or more")
    return int(value)


class Command(BaseCommand):
    """Fill the site with demo data.

    Every row is a function of the seed and its own number, and only missing rows are created: the same
    command twice changes nothing, and a larger size adds to what is there. All of it is one transaction.
    """

    help = "Create reproducible demo data, and an administrator if asked to. A second run changes nothing."

    def add_arguments(self, parser: ArgumentParser) -> None:
        """Define the sizes, the seed and the administrator."""
        sizes = {
            "posts": 200, "authors": 20, "categories": 6, "tags": 30, "readers": 50, "comments": 1000, "products": 60,
        }  # fmt: skip
        for name, size in sizes.items():
            parser.add_argument(
                f"--{name}", type=count_argument, default=size, help=f"number of {name} (default {size})"
            )
        parser.add_argument("--seed", default="slipway", help="start of the random numbers (default slipway)")
        parser.add_argument(
            "--admin",
            metavar="NAME",
            help="also make this superuser, with the password in the variable DEMO_ADMIN_PASSWORD",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        """Create what is missing and say in the last line what that was."""
        self.seed = options["seed"]
        with transaction.atomic():
            done = self.create_data(options)
            if options["admin"]:
                done += self.create_administrator(options["admin"])
        # Counted before there was anything to count, perhaps.
        for counted in (selectors.topics, selectors.categories, selectors.numbers):
            counted.invalidate(selectors.ALL)
        self.stdout.write(f"seed_demo: created {', '.join(done)}" if done else "seed_demo: nothing to do")

    def create_data(self, options: dict[str, Any]) -> list[str]:
        """Create the missing rows; return what was created, in words."""
        created = {
            "authors": self.create(Author, map(self.author, range(options["authors"]))),
            "categories": self.create(Category, map(self.category, range(options["categories"]))),
            "tags": self.create(Tag, map(self.tag, range(options["tags"]))),
            "readers": self.create(User, map(self.reader, range(options["readers"]))),
            "products": self.create(Product, map(self.product, range(options["products"]))),
        }
        created["posts"] = self.create_posts(options)
        created["comments"] = self.create_comments(options)
        created["categories of older posts"] = self.file_posts(options)
        if any(created.values()):
            with connection.cursor() as cursor:
                # Tables that grew at once have no statistics yet, and plans made without them are slow.
                for model in (Author, Category, Tag, User, Product, Post, Post.tags.through, Comment):
                    cursor.execute(f"ANALYZE {connection.ops.quote_name(model._meta.db_table)}")
        return [f"{count} {name}" for name, count in created.items() if count]

    def progress(self, what: str, done: int, of: int) -> None:
        """Draw a bar on a terminal, and nothing elsewhere: a log needs none."""
        if not self.stderr.isatty():
            return
        filled = 30 * done // of
        self.stderr.write(f"\r{what:>9} [{'#' * filled}{'.' * (30 - filled)}] {done:,} of {of:,}", ending="")
        if done >= of:
            self.stderr.write("")

    def random(self, kind: str, number: int) -> Random:
        """Return a generator of random numbers that belongs to one row."""
        return Random(f"{self.seed}:{kind}:{number}")  # noqa: S311 -- repeatable is what it must be

    @staticmethod
    def create(model: type[Model], rows: Iterable[Model]) -> int:
        """Insert the rows, leave out those whose unique key exists, and return the number of new ones."""
        before = model.objects.count()
        rows = iter(rows)
        while batch := list(islice(rows, BATCH)):
            model.objects.bulk_create(batch, ignore_conflicts=True)
        return model.objects.count() - before

    @staticmethod
    def person(number: int) -> str:
        """Return a name that no other number has."""
        first, last = demo_text.FIRST_NAMES, demo_text.LAST_NAMES
        turn, place = divmod(number, len(first) * len(last))
        name = f"{first[place % len(first)]} {last[(place + place // len(first)) % len(last)]}"
        return name if turn == 0 else f"{name} {turn + 1}"

    def author(self, number: int) -> Author:
        """Return an author."""
        name = self.person(number)
        topic = self.random("author", number).choice(demo_text.TOPICS).lower()
        bio = f"{name.split()[0]} writes about {topic}, and would rather be on the water."
        return Author(name=name, slug=slugify(name), bio=bio)

    @staticmethod
    def tag(number: int) -> Tag:
        """Return a tag."""
        turn, place = divmod(number, len(demo_text.TOPICS))
        name = demo_text.TOPICS[place] if turn == 0 else f"{demo_text.TOPICS[place]} {turn + 1}"
        return Tag(name=name, slug=slugify(name))

    @staticmethod
    def category(number: int) -> Category:
        """Return a category."""
        turn, place = divmod(number, len(demo_text.CATEGORIES))
        name, description = list(demo_text.CATEGORIES.items())[place]
        name = name if turn == 0 else f"{name} {turn + 1}"
        return Category(name=name, slug=slugify(name), description=description)

    def product(self, number: int) -> Product:
        """Return a product, the newest for number 0; of twenty, one is sold out and one is not on sale."""
        random = self.random("product", number)
        turn, place = divmod(number, len(demo_text.GOODS))
        name = demo_text.GOODS[place] if turn == 0 else f"{demo_text.GOODS[place]} No. {turn + 1}"
        return Product(
            name=name,
            slug=slugify(name),
            summary=random.choice(demo_text.GOODS_SUMMARIES),
            description=demo_text.description(random),
            price=Decimal(random.randrange(450, 24000, 50)) / 100,
            stock=0 if number % 20 == 7 else random.randint(1, 80),
            is_active=number % 20 != 13,
            # A few are looked at a great deal, most are not.
            views=int(random.paretovariate(1.1) * 20),
            created_at=NEWEST - timedelta(hours=9 * number),
        )

    def reader(self, number: int) -> User:
        """Return a user who comments but cannot log in."""
        name = slugify(self.person(number + 7)).replace("-", "_")
        return User(username=name, email=f"{name}@{READERS_DOMAIN}", password=make_password(None))

    def post(self, number: int, authors: list[int], categories: list[int]) -> Post:
        """Return a post, the newest for number 0; of forty, three are drafts and one is archived."""
        random = self.random("post", number)
        title, body = demo_text.title_and_body(random)
        status = {
            5: Post.Status.DRAFT,
            17: Post.Status.ARCHIVED,
            23: Post.Status.DRAFT,
            31: Post.Status.DRAFT,
        }
        post = Post(
            author_id=random.choice(authors),
            category_id=self.category_of(number, categories),
            title=title,
            slug=f"{slugify(title)}-{number + 1}",
            summary=random.choice(demo_text.SUMMARIES),
            body=body,
            status=status.get(number % 40, Post.Status.PUBLISHED),
            published_at=NEWEST - timedelta(hours=3 * number, minutes=random.randrange(180)),
        )
        # The admin's list is in this order, which is then that of the site.
        post.created_at = post.published_at - timedelta(days=1)
        return post

    def category_of(self, number: int, categories: list[int]) -> int:
        """Return the category of a post."""
        return self.random("category", number).choice(categories)

    @staticmethod
    def category_ids() -> list[int]:
        """Return the categories, in the order in which they were made."""
        return list(Category.objects.order_by("pk").values_list("pk", flat=True))

    def file_posts(self, options: dict[str, Any]) -> int:
        """Give a category to those posts of this command that an older release made without one."""
        posts = Post.objects.filter(category=None).values_list("pk", "slug")
        # The number at the end of a slug is not proof enough: the post might be somebody's own.
        numbers = {pk: slug.rpartition("-")[2] for pk, slug in posts.iterator(BATCH)}
        mine = [
            (pk, int(number) - 1)
            for pk, number in numbers.items()
            if number.isdecimal() and 0 < int(number) <= options["posts"]
        ]
        if not mine:
            return 0
        slugs = {number: self.post(number, [0], [0]).slug for _, number in mine}
        categories, filed = self.category_ids(), 0
        for start in range(0, len(mine), BATCH):
            batch = Post.objects.in_bulk([pk for pk, _ in mine[start : start + BATCH]])
            changed = []
            for pk, number in mine[start : start + BATCH]:
                if batch[pk].slug == slugs[number]:
                    batch[pk].category_id = self.category_of(number, categories)
                    changed.append(batch[pk])
            filed += Post.objects.bulk_update(changed, ["category"], batch_size=BATCH)
        return filed

    def create_posts(self, options: dict[str, Any]) -> int:
        """Create the missing posts with their tags."""
        authors = list(Author.objects.order_by("pk").values_list("pk", flat=True))
        tags = list(Tag.objects.order_by("pk").values_list("pk", flat=True))
        present = set(Post.objects.values_list("slug", flat=True).iterator(BATCH))
        categories = self.category_ids()
        rows = (self.post(number, authors, categories) for number in range(options["posts"]))
        rows = (post for post in rows if post.slug not in present)
        created, missing = 0, options["posts"] - len(present)
        while batch := list(islice(rows, BATCH)):
            posts = Post.objects.bulk_create(batch)
            created += len(posts)
            self.progress("posts", created, max(missing, created))
            tagged = Post.tags.through
            tagged.objects.bulk_create(
                (tagged(post_id=post.pk, tag_id=tag) for post in posts for tag in self.tags_of(post, tags)),
                batch_size=BATCH,
            )
        return created

    def tags_of(self, post: Post, tags: list[int]) -> list[int]:
        """Return one to three tags for a post; the first ones are the most popular."""
        random = self.random("tags", int(post.slug.rpartition("-")[2]))
        popularity = range(len(tags), 0, -1)
        return sorted(set(random.choices(tags, weights=popularity, k=random.randint(1, 3))))

    def create_comments(self, options: dict[str, Any]) -> int:
        """Create comments on published posts up to the number asked for."""
        mine = {"user__email__endswith": f"@{READERS_DOMAIN}"}
        missing = range(Comment.objects.filter(**mine).count(), options["comments"])
        if not missing:
            return 0
        posts = list(Post.objects.published().newest_first().values_list("pk", "published_at"))
        readers = User.objects.filter(email__endswith=f"@{READERS_DOMAIN}").order_by("pk")
        readers = list(readers.values_list("pk", flat=True))
        rows = (self.comment(number, posts, readers) for number in missing)
        created = 0
        while batch := list(islice(rows, BATCH)):
            created += len(Comment.objects.bulk_create(batch))
            self.progress("comments", created, len(missing))
        return len(missing)

    def comment(self, number: int, posts: list[tuple[int, datetime]], readers: list[int]) -> Comment:
        """Return a comment."""
        random = self.random("comment", number)
        post, published_at = random.choice(posts)
        return Comment(
            post_id=post,
            user_id=random.choice(readers),
            body=demo_text.remark(random),
            created_at=published_at + timedelta(minutes=random.randrange(5, 60 * 24 * 14)),
        )

    @staticmethod
    def create_administrator(name: str) -> list[str]:
        """Make a superuser with the password of the environment; return what was done, in words."""
        env = Environment()
        password = env.text("DEMO_ADMIN_PASSWORD", required=True)
        if env.faults:
            raise CommandError(env.faults[0])
        user = User.objects.filter(username=name).first()
        if user is None:
            User.objects.create_superuser(name, f"{name}@admin.example", password)
            return [f"superuser {name}"]
        if not user.is_superuser:
            raise CommandError(f"There is a user {name} already who is no superuser: choose another name.")
        if user.check_password(password):
            return []
        user.set_password(password)
        user.save(update_fields=["password"])
        return [f"a new password for {name}"]
