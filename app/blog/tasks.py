"""Celery tasks of the magazine."""

import logging
from datetime import timedelta

from celery import shared_task
from django.db import OperationalError as DatabaseError
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from blog import pictures
from blog.models import Post

logger = logging.getLogger(__name__)

# A picture that still waits after this is enqueued again. Making its versions twice does no harm.
LOST_AFTER = timedelta(minutes=15)
BATCH = 50


@shared_task(
    ignore_result=True,
    autoretry_for=(OSError, DatabaseError),
    max_retries=4,
    retry_backoff=5,
    retry_backoff_max=240,
    retry_jitter=True,
    soft_time_limit=60,
    time_limit=75,
)
def make_thumbnails(post_id: int) -> None:
    """Make the small versions of a post's picture."""
    pictures.make_thumbnails(post_id=post_id)


def enqueue_thumbnails(*, post_ids: list[int]) -> None:
    """Hand pictures to the broker; when it is down, the rows say what waits, and beat tries again."""
    for post_id in post_ids:
        try:
            make_thumbnails.delay(post_id)
        except BrokerError as error:
            logger.warning("Broker down, pictures wait: %s", error)
            return


@shared_task(ignore_result=True)
def enqueue_waiting_thumbnails() -> None:
    """Enqueue the pictures whose message never reached the broker, or was lost there."""
    waiting = Post.objects.filter(thumbnails_made_at=None, updated_at__lt=timezone.now() - LOST_AFTER)
    enqueue_thumbnails(post_ids=list(waiting.exclude(picture="").order_by("pk").values_list("pk", flat=True)[:BATCH]))
