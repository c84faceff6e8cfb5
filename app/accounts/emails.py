"""The emails that the accounts application sends."""

from collections.abc import Callable
from datetime import date
from email.utils import parseaddr
from typing import Any

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.db.models import QuerySet
from django.template.loader import render_to_string
from django.utils import timezone

from accounts import digests
from accounts.models import DigestEmail, User, WelcomeEmail

POSTS_IN_DIGEST = 20


@transaction.atomic
def _send_once(promise: QuerySet[Any], write: Callable[[Any], EmailMessage | None]) -> bool:
    """Send the mail of an outbox row unless it was sent; say whether this call sent it.

    The conditional UPDATE comes first and its transaction encloses the sending. A second delivery of the
    task waits for the row, then finds it sent. When sending fails, or the worker is killed, the
    transaction is rolled back (PostgreSQL does that for a connection that is gone) and the next delivery
    sends. What is left is the moment between the mail server's yes and the COMMIT: a worker killed there
    sends twice, with one Message-ID. The other order, COMMIT first, would lose the mail instead.

    Args:
        promise: The row.
        write: Makes its mail; None where there is nothing to tell any more, and the promise is done with.
    """
    if not promise.filter(sent_at=None).update(sent_at=timezone.now()):
        return False
    message = write(promise.select_related("user").get())
    if message is None:
        return False
    message.send()
    return True


def send_welcome_email(*, user_id: int) -> bool:
    """Send the welcome email unless it was sent; say whether this call sent it."""
    return _send_once(WelcomeEmail.objects.filter(pk=user_id), _welcome)


def send_digest_email(*, digest_id: int) -> bool:
    """Send a digest unless it was sent; say whether this call sent it."""
    return _send_once(DigestEmail.objects.filter(pk=digest_id), _digest)


def _message_id(kind: str, user: User, of: date) -> str:
    """Return a Message-ID that is the same each time a mail is made."""
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    return f"<{kind}.{user.pk}.{of:%Y%m%d%H%M%S}@{domain}>"


def _welcome(email: WelcomeEmail) -> EmailMessage:
    user = email.user
    return EmailMessage(
        subject=f"Welcome to {settings.SITE_NAME}",
        body=render_to_string("accounts/welcome_email.txt", {"user": user, "site_title": settings.SITE_NAME}),
        to=[user.email],
        headers={"Message-ID": _message_id("welcome", user, user.date_joined)},
    )


def _digest(email: DigestEmail) -> EmailMessage | None:
    user = email.user
    shown = digests.posts(since=email.since, day=email.day).select_related("author")
    shown = shown.only("title", "slug", "summary", "author__name")
    # One more than there is room for tells whether there are more.
    posts = list(shown[: POSTS_IN_DIGEST + 1])
    # Since the promise, users may have changed their minds, and posts may be gone.
    if not posts or not user.wants_digest or not user.is_active:
        return None
    context = {
        "user": user,
        "site_title": settings.SITE_NAME,
        "site_url": settings.SITE_URL,
        "posts": posts[:POSTS_IN_DIGEST],
        "has_more": len(posts) > POSTS_IN_DIGEST,
        "unsubscribe_url": settings.SITE_URL + digests.unsubscribe_path(user_id=user.pk),
    }
    return EmailMessage(
        # On one line, whatever the title has in it: a header with two is refused.
        subject=f"New on {settings.SITE_NAME}: {' '.join(posts[0].title.split())}",
        body=render_to_string("accounts/digest_email.txt", context),
        to=[user.email],
        headers={
            "Message-ID": _message_id("digest", user, email.day),
            # The button of mail programs: they send a POST to the address (RFC 8058).
            "List-Unsubscribe": f"<{context['unsubscribe_url']}>",
            "List-Unsubscribe-Post": "List-Unsubscribe=One-Click",
        },
    )
