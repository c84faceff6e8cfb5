"""The admin's pages of the magazine, free of one query per row."""

from typing import Any

from django.contrib import admin
from django.db.models import Count, QuerySet
from django.db.models.functions import Coalesce, Left, Now
from django.http import HttpRequest

from blog.models import Author, Category, Comment, Post, Tag
from ops.admin import LeanAdmin


@admin.register(Author)
class AuthorAdmin(LeanAdmin):
    """Authors."""

    list_display = ["name", "slug", "user"]
    list_select_related = ["user"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}
    autocomplete_fields = ["user"]
    list_only = ["name", "slug", "user__username"]


@admin.register(Category)
class CategoryAdmin(LeanAdmin):
    """Sections of the magazine, with the number of posts in each, counted by the query of the list."""

    list_display = ["name", "slug", "posts"]
    list_only = ["name", "slug"]
    # Django forgets that of the model where rows are counted.
    ordering = ["name"]
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Category]:
        """Add the number of posts."""
        return super().get_queryset(request).annotate(post_count=Count("posts"))

    @admin.display(ordering="post_count")
    def posts(self, category: Category) -> int:
        """Return the number of posts, of every status."""
        return category.post_count


@admin.register(Tag)
class TagAdmin(LeanAdmin):
    """Topics."""

    list_display = ["name", "slug"]
    list_only = list_display
    search_fields = ["name"]
    prepopulated_fields = {"slug": ["name"]}


class CategoryFilter(admin.RelatedFieldListFilter):
    """Django's filter, for which only the names of the categories are fetched."""

    def field_choices(self, field: Any, request: HttpRequest, model_admin: admin.ModelAdmin) -> list[tuple[int, str]]:
        """Return what there is to choose."""
        return list(Category.objects.values_list("pk", "name"))


@admin.register(Post)
class PostAdmin(LeanAdmin):
    """Posts. The list fetches authors by a join and tags by one query."""

    list_display = ["title", "author", "category", "status", "published_at", "topics"]
    list_filter = ["status", ("category", CategoryFilter)]
    list_select_related = ["author", "category"]
    search_fields = ["title"]
    ordering = ["-created_at", "-id"]
    prepopulated_fields = {"slug": ["title"]}
    autocomplete_fields = ["author", "category", "tags"]
    readonly_fields = ["picture_unusable_since", "created_at", "updated_at"]
    actions = ["publish", "archive", "archive_drafts"]
    list_only = ["title", "status", "published_at", "author__name", "category__name"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Post]:
        """Fetch the topics of all posts at once."""
        return super().get_queryset(request).prefetch_related("tags")

    @admin.display(description="topics")
    def topics(self, post: Post) -> str:
        """Return the names of the post's tags."""
        return ", ".join(tag.name for tag in post.tags.all())

    @admin.action(description="Publish the selected posts", permissions=["change"])
    def publish(self, request: HttpRequest, posts: QuerySet[Post]) -> None:
        """Publish in one UPDATE; a post that has a date keeps it."""
        changed = posts.update(
            status=Post.Status.PUBLISHED, published_at=Coalesce("published_at", Now()), updated_at=Now()
        )
        self.message_user(request, f"{changed} published.")

    @admin.action(description="Archive the selected posts", permissions=["change"])
    def archive(self, request: HttpRequest, posts: QuerySet[Post]) -> None:
        """Archive in one UPDATE."""
        self.message_user(request, f"{posts.archive()} archived.")

    @admin.action(description="Archive the drafts among the selected posts", permissions=["change"])
    def archive_drafts(self, request: HttpRequest, posts: QuerySet[Post]) -> None:
        """Archive in one UPDATE, and leave alone what is published: also of all posts, when all are selected."""
        self.message_user(request, f"{posts.archive_drafts()} drafts archived.")


@admin.register(Comment)
class CommentAdmin(LeanAdmin):
    """Comments."""

    list_display = ["excerpt", "user", "post", "created_at"]
    list_select_related = ["user", "post"]
    search_fields = ["body", "user__username"]
    autocomplete_fields = ["post", "user"]
    date_hierarchy = "created_at"
    list_only = ["user__username", "post__title", "created_at"]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Comment]:
        """Add the beginning of each comment."""
        return super().get_queryset(request).annotate(beginning=Left("body", 80))

    @admin.display(description="comment")
    def excerpt(self, comment: Comment) -> str:
        """Return the beginning of the comment."""
        return comment.beginning
