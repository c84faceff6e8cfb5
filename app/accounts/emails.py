"""The emails that the accounts application sends."""

from email.utils import parseaddr

from django.conf import settings
from django.core.mail import EmailMessage
from django.db import transaction
from django.template.loader import render_to_string
from django.utils import timezone

from accounts.models import User, WelcomeEmail


@transaction.atomic
def send_welcome_email(*, user_id: int) -> bool:
    """Send the welcome email unless it was sent; say whether this call sent it.

    The conditional UPDATE comes first and its transaction encloses the sending. A second delivery of the
    task waits for the row, then finds it sent. When sending fails, or the worker is killed, the
    transaction is rolled back (PostgreSQL does that for a connection that is gone) and the next delivery
    sends. What is left is the moment between the mail server's yes and the COMMIT: a worker killed there
    sends twice, with one Message-ID. The other order, COMMIT first, would lose the mail instead.
    """
    if not WelcomeEmail.objects.filter(user_id=user_id, sent_at=None).update(sent_at=timezone.now()):
        return False
    user = User.objects.get(pk=user_id)
    domain = parseaddr(settings.DEFAULT_FROM_EMAIL)[1].rpartition("@")[2]
    EmailMessage(
        subject=f"Welcome to {settings.SITE_NAME}",
        body=render_to_string("accounts/welcome_email.txt", {"user": user, "site_title": settings.SITE_NAME}),
        to=[user.email],
        headers={"Message-ID": f"<welcome.{user.pk}.{user.date_joined:%Y%m%d%H%M%S}@{domain}>"},
    ).send()
    return True
