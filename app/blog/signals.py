"""What follows a change of a post, its picture or a comment, whoever makes it."""

from functools import partial
from typing import Any

from django.db import transaction
from django.db.models.signals import post_delete, post_save, pre_save
from django.dispatch import receiver

from blog import fragments, services, tasks
from blog.models import Comment, Post


@receiver(pre_save, sender=Post)
def notice_new_picture(instance: Post, raw: bool, using: str, **kwargs: Any) -> None:
    """Remember the picture that is replaced, and that the new one has no versions yet."""
    if raw or "picture" in instance.get_deferred_fields():
        return
    before = Post.objects.using(using).filter(pk=instance.pk).values_list("picture", flat=True).first() or ""
    instance.picture_before = before
    # An upload has its final name only when it is stored, which happens after this.
    if not instance.picture or not instance.picture._committed or instance.picture.name != before:
        instance.thumbnails_made_at = instance.picture_unusable_since = None


@receiver(post_save, sender=Post)
def handle_new_picture(instance: Post, raw: bool, using: str, **kwargs: Any) -> None:
    """On commit, have the new picture's versions made, and the old one's files removed."""
    before = instance.__dict__.pop("picture_before", None)
    if raw or before is None or before == instance.picture.name:
        return
    if instance.picture:
        transaction.on_commit(partial(tasks.enqueue_thumbnails, post_ids=[instance.pk]), using=using)
    if before:
        transaction.on_commit(partial(services.remove_picture_files, before), using=using)


@receiver(post_delete, sender=Post)
def remove_picture(instance: Post, using: str, **kwargs: Any) -> None:
    """Remove the files of a post that is gone, on commit."""
    if instance.picture:
        transaction.on_commit(partial(services.remove_picture_files, instance.picture.name), using=using)


@receiver([post_save, post_delete], sender=Post)
def forget_comments_on_posts(using: str, **kwargs: Any) -> None:
    """On commit, drop what is cached of users' comments: the post may have another title, or not be public any more."""
    transaction.on_commit(fragments.forget_all, using=using)


@receiver([post_save, post_delete], sender=Comment)
def forget_comments_of_user(instance: Comment, using: str, **kwargs: Any) -> None:
    """On commit, drop what is cached of the comments of the user."""
    transaction.on_commit(partial(fragments.forget, instance.user_id), using=using)
