"""Celery tasks of the shop."""

from datetime import timedelta

from celery import shared_task
from django.db import OperationalError as DatabaseError
from django.utils import timezone
from redis.exceptions import RedisError

from shop import counters
from shop.models import ViewFlush

# Only a batch that is still in Redis needs its row.
FLUSHES_KEPT = timedelta(days=7)


@shared_task(
    ignore_result=True,
    autoretry_for=(RedisError, DatabaseError),
    # The next minute brings the next flush.
    max_retries=2,
    retry_backoff=5,
    retry_jitter=True,
)
def flush_product_views() -> None:
    """Add the views that were collected in Redis to the products."""
    counters.flush()
    ViewFlush.objects.filter(flushed_at__lt=timezone.now() - FLUSHES_KEPT).delete()
