"""Celery tasks of the magazine."""

from datetime import timedelta

from celery import shared_task
from django.utils import timezone

from blog import services
from blog.models import Post
from ops.enqueue import RETRIED, enqueue

# A picture that still waits after this is enqueued again. Making its versions twice does no harm.
LOST_AFTER = timedelta(minutes=15)
BATCH = 50


@shared_task(ignore_result=True, max_retries=4, soft_time_limit=60, time_limit=75, **RETRIED)
def make_thumbnails(post_id: int) -> None:
    """Make the small versions of a post's picture."""
    services.make_thumbnails(post_id=post_id)


def enqueue_thumbnails(*, post_ids: list[int]) -> None:
    """Hand pictures to the broker; those that it did not take are found by the rows without thumbnails."""
    enqueue(make_thumbnails, post_ids, waiting="picture(s) wait")


@shared_task(ignore_result=True)
def enqueue_waiting_thumbnails() -> None:
    """Enqueue the pictures whose message never reached the broker, or was lost there."""
    waiting = Post.objects.waiting_for_thumbnails().filter(updated_at__lt=timezone.now() - LOST_AFTER)
    enqueue_thumbnails(post_ids=list(waiting.order_by("pk").values_list("pk", flat=True)[:BATCH]))
