"""Celery tasks of the accounts application: each fetches by id."""

from datetime import timedelta

from celery import shared_task
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import emails
from accounts.models import WelcomeEmail
from ops.enqueue import RETRIED, enqueue

# A message counts as lost when its email is still pending after this: longer than all its retries and
# the broker's visibility timeout together.
LOST_AFTER = timedelta(minutes=30)
# A welcome that could not be sent for this long is no longer one.
GIVE_UP_AFTER = timedelta(days=2)
BATCH = 100


@shared_task(
    # Nobody asks for the result, and without one the sender needs no connection to the result backend.
    ignore_result=True,
    max_retries=5,
    **RETRIED,
)
def send_welcome_email(user_id: int) -> None:
    """Send a user's welcome email, once."""
    emails.send_welcome_email(user_id=user_id)


def enqueue_welcome_emails(*, user_ids: list[int]) -> None:
    """Hand the welcome emails of these users to the broker, and note in the outbox which it did not take."""
    if left := enqueue(send_welcome_email, user_ids, waiting="welcome email(s) stay in the outbox"):
        WelcomeEmail.objects.filter(user_id__in=left).update(enqueued_at=None)


@shared_task(ignore_result=True)
def send_pending_welcome_emails() -> None:
    """Enqueue the welcome emails that never reached the broker, or whose message was lost there."""
    now = timezone.now()
    pending = WelcomeEmail.objects.filter(
        Q(enqueued_at=None) | Q(enqueued_at__lt=now - LOST_AFTER),
        sent_at=None,
        created_at__gt=now - GIVE_UP_AFTER,
    ).order_by("created_at")
    with transaction.atomic():
        # A locked row is being sent at this moment.
        user_ids = list(pending.select_for_update(skip_locked=True).values_list("user_id", flat=True)[:BATCH])
        WelcomeEmail.objects.filter(user_id__in=user_ids).update(enqueued_at=now)
    enqueue_welcome_emails(user_ids=user_ids)
