"""Authors, categories, posts, tags and comments."""

from typing import Any, Self

from django.conf import settings
from django.contrib.auth.base_user import AbstractBaseUser
from django.contrib.postgres.indexes import GinIndex
from django.contrib.postgres.search import SearchQuery, SearchVector, SearchVectorField
from django.core.validators import MaxLengthValidator
from django.db import models, transaction
from django.db.models import F, OuterRef, Prefetch, Q, Subquery, Window
from django.db.models.functions import Coalesce, Left, Now, RowNumber
from django.urls import reverse
from django.utils import timezone

from blog import fragments
from blog.pictures import WIDTHS, upload_name, validate_picture, version_name


class Author(models.Model):
    """A writer of the magazine, who may have a user account."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, blank=True, related_name="author"
    )
    name = models.CharField(max_length=100)
    slug = models.SlugField(max_length=100, unique=True)
    bio = models.TextField(blank=True)

    class Meta:
        ordering = ["name", "id"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the author's page."""
        return reverse("blog:author", args=[self.slug])


class Category(models.Model):
    """A section of the magazine: a post is in one at most."""

    name = models.CharField(max_length=50, unique=True)
    slug = models.SlugField(max_length=50, unique=True)
    description = models.CharField(max_length=200, blank=True)

    class Meta:
        ordering = ["name"]
        verbose_name_plural = "categories"

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the category's page."""
        return reverse("blog:category", args=[self.slug])


class Tag(models.Model):
    """A topic."""

    name = models.CharField(max_length=50, unique=True)
    slug = models.SlugField(max_length=50, unique=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name

    def get_absolute_url(self) -> str:
        """Return the address of the topic's page."""
        return reverse("blog:tag", args=[self.slug])


LATEST_COMMENTS = 5
EXCERPT_LENGTH = 120
SEARCHED_TEXT = SearchVector("title", "summary", "body", config="english")


class PostQuerySet(models.QuerySet["Post"]):
    """Which posts there are for whom, and what a page needs of them."""

    def update(self, **values: Any) -> int:
        """Update the rows, and drop on commit what is cached of the posts that users commented on."""
        updated = super().update(**values)
        if not values.keys().isdisjoint(("status", "published_at", "title", "slug")):
            transaction.on_commit(fragments.forget_all, using=self.db)
        return updated

    update.alters_data = True

    def published(self) -> Self:
        """Keep what the public may read: published, and not in the future."""
        return self.filter(status=Post.Status.PUBLISHED, published_at__lte=timezone.now())

    def search(self, words: str) -> Self:
        """Keep the posts that match, in the manner of search engines: "quoted phrase", or, -without."""
        query = SearchQuery(words, config="english", search_type="websearch")
        return self.filter(searched=query)

    def waiting_for_thumbnails(self) -> Self:
        """Keep the posts whose picture has no versions yet, and can have."""
        return self.filter(thumbnails_made_at=None, picture_unusable_since=None).exclude(picture="")

    def archive(self) -> int:
        """Archive by one UPDATE; return the number of posts that were not archived before."""
        return self.exclude(status=Post.Status.ARCHIVED).update(status=Post.Status.ARCHIVED, updated_at=Now())

    def archive_drafts(self) -> int:
        """Archive the drafts by one UPDATE, whatever their number; return it."""
        return self.filter(status=Post.Status.DRAFT).archive()

    def newest_first(self) -> Self:
        """Order by date; the id makes the order total, which keyset pagination needs."""
        return self.order_by("-published_at", "-id")

    def for_cards(self, *, comments: int = 1) -> Self:
        """Fetch what a list shows, in three queries whatever the number of posts, without the long texts.

        Args:
            comments: How many of the latest comments of each post; 0 leaves them out, and the query for them.
        """
        rows = Comment.objects.filter(post=OuterRef("pk")).order_by().values("post")
        related = [Prefetch("tags", queryset=Tag.objects.only("name", "slug"))]
        if comments:
            # The slice holds for each post: Django numbers the comments of a post by a window function.
            latest = Comment.objects.excerpts()[:comments]
            related.append(Prefetch("comments", queryset=latest, to_attr="latest_comments"))
        return (
            self.select_related("author", "category")
            .prefetch_related(*related)
            .defer("body", "author__bio", "author__user", "category__description")
            # Counted for the posts of the page only; a join would count for all before the limit applies.
            .annotate(
                comment_count=Coalesce(
                    Subquery(rows.annotate(count=models.Count("pk")).values("count")),
                    0,
                    output_field=models.IntegerField(),
                )
            )
        )


class PostManager(models.Manager.from_queryset(PostQuerySet)):  # type: ignore[misc]
    """Posts without the column that the search reads: no page shows it."""

    def get_queryset(self) -> PostQuerySet:
        """Leave the column in the database."""
        return super().get_queryset().defer("searched")


class Post(models.Model):
    """An article."""

    class Status(models.TextChoices):
        """Where a post is on its way."""

        DRAFT = "draft", "Draft"
        PUBLISHED = "published", "Published"
        ARCHIVED = "archived", "Archived"

    author = models.ForeignKey(Author, on_delete=models.PROTECT, related_name="posts", db_index=False)
    category = models.ForeignKey(
        Category, on_delete=models.SET_NULL, null=True, blank=True, related_name="posts", db_index=False
    )
    title = models.CharField(max_length=200)
    slug = models.SlugField(max_length=200, unique=True)
    summary = models.CharField(max_length=300, blank=True)
    body = models.TextField()
    picture = models.ImageField(
        upload_to=upload_name,
        validators=[validate_picture],
        width_field="picture_width",
        height_field="picture_height",
        blank=True,
        help_text="JPEG, PNG or WebP, of 1600 pixels' width or more.",
    )
    picture_alt = models.CharField(
        "what the picture shows", max_length=200, blank=True, help_text="For those who do not see it."
    )
    picture_width = models.PositiveIntegerField(null=True, editable=False)
    picture_height = models.PositiveIntegerField(null=True, editable=False)
    thumbnails_made_at = models.DateTimeField(null=True, editable=False)
    picture_unusable_since = models.DateTimeField("picture found damaged or gone", null=True, editable=False)
    status = models.CharField(max_length=10, choices=Status, default=Status.DRAFT)
    published_at = models.DateTimeField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now, editable=False)
    updated_at = models.DateTimeField(auto_now=True)
    tags = models.ManyToManyField(Tag, related_name="posts", blank=True)
    # Kept by a trigger (migration 0006): a search that computed it would do so for each row that it visits.
    searched = models.GeneratedField(expression=SEARCHED_TEXT, output_field=SearchVectorField(), db_persist=True)

    objects = PostManager()

    class Meta:
        ordering = ["-published_at", "-id"]
        constraints = [
            models.CheckConstraint(
                condition=~Q(status="published") | Q(published_at__isnull=False),
                name="blog_post_published_has_date",
                violation_error_message="A published post needs a date of publication.",
            ),
        ]
        indexes = [
            # The public lists read these from the newest on; drafts and archived posts are not in them.
            models.Index(
                F("published_at").desc(),
                F("id").desc(),
                condition=Q(status="published"),
                name="blog_post_newest",
            ),
            models.Index(
                F("author"),
                F("published_at").desc(),
                F("id").desc(),
                condition=Q(status="published"),
                name="blog_post_author_newest",
            ),
            models.Index(
                F("category"),
                F("published_at").desc(),
                F("id").desc(),
                condition=Q(status="published"),
                name="blog_post_category_newest",
            ),
            # The admin's list, which has every status, and its filter.
            models.Index(F("created_at").desc(), F("id").desc(), name="blog_post_created"),
            models.Index(F("status"), F("created_at").desc(), F("id").desc(), name="blog_post_status_created"),
            # The foreign keys on their own, for the admin and for what a deletion has to look up.
            models.Index(fields=["author"], name="blog_post_author"),
            models.Index(fields=["category"], name="blog_post_category"),
            # Small whatever the number of posts: only pictures without thumbnails are in it.
            models.Index(
                fields=["updated_at"],
                condition=Q(thumbnails_made_at=None) & ~Q(picture=""),
                name="blog_post_picture_waits",
            ),
            GinIndex(fields=["searched"], name="blog_post_searched"),
            # Of the release before, which serves while this one is deployed. The next one drops it.
            GinIndex(SEARCHED_TEXT, name="blog_post_search"),
        ]

    def __str__(self) -> str:
        return self.title

    def get_absolute_url(self) -> str:
        """Return the address of the post."""
        return reverse("blog:post", args=[self.slug])

    @property
    def cover(self) -> int:
        """Return the number of the drawing that stands for a picture, the same at every visit."""
        return self.pk % 8

    @property
    def thumbnails(self) -> dict[str, str] | None:
        """Return the addresses of the picture's versions, for `src` and `srcset`; None until they are made."""
        if not self.picture or self.thumbnails_made_at is None:
            return None
        urls = {width: self.picture.storage.url(version_name(self.picture.name, width)) for width in WIDTHS}
        return {"src": urls[WIDTHS[1]], "srcset": ", ".join(f"{url} {width}w" for width, url in urls.items())}


class CommentQuerySet(models.QuerySet["Comment"]):
    """What a page needs of comments."""

    def update(self, **values: Any) -> int:
        """Update the rows, and drop on commit what is cached of users' comments."""
        updated = super().update(**values)
        transaction.on_commit(fragments.forget_all, using=self.db)
        return updated

    update.alters_data = True

    def latest_comments(self, number: int, *, of: int) -> Self:
        """Fetch the beginnings of so many comments of the post `of`, and of the latest one of each other post."""
        place = Window(RowNumber(), partition_by="post_id", order_by=[F("created_at").desc(), F("id").desc()])
        return self.excerpts().annotate(place=place).filter(Q(place=1) | Q(post=of, place__lte=number))

    def excerpts(self) -> Self:
        """Fetch the beginnings of comments and the names of their users, the latest first."""
        return (
            self.select_related("user")
            .only("created_at", "post_id", "user__username")
            .annotate(excerpt=Left("body", EXCERPT_LENGTH))
            .order_by("-created_at", "-id")
        )

    def written_by(self, user: AbstractBaseUser) -> Self:
        """Fetch the beginnings of a user's comments on public posts, and the names of these posts."""
        public = Q(post__status=Post.Status.PUBLISHED, post__published_at__lte=timezone.now())
        return (
            self.filter(public, user=user)
            .select_related("post")
            .only("created_at", "post__title", "post__slug")
            .annotate(excerpt=Left("body", EXCERPT_LENGTH))
            .order_by("-created_at", "-id")
        )


class Comment(models.Model):
    """What a user says about a post."""

    post = models.ForeignKey(Post, on_delete=models.CASCADE, related_name="comments", db_index=False)
    user = models.ForeignKey(settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="comments")
    body = models.TextField(validators=[MaxLengthValidator(5000)])
    created_at = models.DateTimeField(default=timezone.now)

    objects = CommentQuerySet.as_manager()

    class Meta:
        ordering = ["-created_at", "-id"]
        indexes = [
            models.Index(F("post"), F("created_at").desc(), F("id").desc(), name="blog_comment_post_newest"),
            models.Index(F("created_at").desc(), F("id").desc(), name="blog_comment_newest"),
        ]

    def __str__(self) -> str:
        return f"comment {self.pk}"
