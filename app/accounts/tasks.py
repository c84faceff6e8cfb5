"""Celery tasks of the accounts application: each fetches by id."""

from datetime import timedelta

from celery import Task, shared_task
from django.conf import settings
from django.db import transaction
from django.db.models import Q
from django.utils import timezone

from accounts import digests, emails
from accounts.models import DigestEmail, OutboxEmail, WelcomeEmail
from ops.enqueue import RETRIED, enqueue

# A message counts as lost when its email is still pending after this: longer than all its retries and
# the broker's visibility timeout together.
LOST_AFTER = timedelta(minutes=30)
# A welcome that could not be sent for this long is no longer one, nor is what was new then.
GIVE_UP_AFTER = timedelta(days=2)
# Of each outbox in a minute: a night's digests enter the queue bit by bit, and other tasks do not wait behind them all.
BATCH = 300


@shared_task(
    # Nobody asks for the result, and without one the sender needs no connection to the result backend.
    ignore_result=True,
    max_retries=5,
    **RETRIED,
)
def send_welcome_email(user_id: int) -> None:
    """Send a user's welcome email, once."""
    emails.send_welcome_email(user_id=user_id)


@shared_task(ignore_result=True, max_retries=5, **RETRIED)
def send_digest_email(digest_id: int) -> None:
    """Send a digest, once."""
    emails.send_digest_email(digest_id=digest_id)


# Which task keeps the promises of which outbox.
SENDERS: dict[type[OutboxEmail], Task] = {WelcomeEmail: send_welcome_email, DigestEmail: send_digest_email}


def enqueue_emails(outbox: type[OutboxEmail], *, ids: list[int]) -> None:
    """Hand the mails of these rows to the broker, and note in the outbox which it did not take."""
    if left := enqueue(SENDERS[outbox], ids, waiting=f"{outbox._meta.verbose_name}(s) stay in the outbox"):
        outbox.objects.filter(pk__in=left).update(enqueued_at=None)


@shared_task(ignore_result=True)
def send_pending_emails() -> None:
    """Enqueue the mails that never reached the broker, or whose message was lost there."""
    for outbox in SENDERS:
        now = timezone.now()
        pending = outbox.objects.filter(
            Q(enqueued_at=None) | Q(enqueued_at__lt=now - LOST_AFTER),
            sent_at=None,
            created_at__gt=now - GIVE_UP_AFTER,
        ).order_by("created_at")
        with transaction.atomic():
            # A locked row is being sent at this moment.
            ids = list(pending.select_for_update(skip_locked=True).values_list("pk", flat=True)[:BATCH])
            outbox.objects.filter(pk__in=ids).update(enqueued_at=now)
        enqueue_emails(outbox, ids=ids)


@shared_task(ignore_result=True, max_retries=5, **RETRIED)
def promise_digests() -> None:
    """Promise tonight's digest to all who want it; the minute's task has it sent."""
    # Without the site's address a mail has no links (ops.W002).
    if settings.SITE_URL:
        digests.promise_digests(day=timezone.localdate())
