"""The user, and the outboxes of the welcome email and of the nightly digest."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower


class User(AbstractUser):
    """A user of the site. The project's own class from the start: it cannot be put in later."""

    # The database knows the default too: the release before this one still registers users while this one starts.
    wants_digest = models.BooleanField("Send me each night what is new", default=False, db_default=False)

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="accounts_user_email_unique",
                violation_error_message="A user with that email address already exists.",
            ),
        ]


class OutboxEmail(models.Model):
    """The promise of a mail to a user (an outbox row).

    It outlives a broker that is down or loses a message: beat enqueues what is still pending. It is a row
    of its own so that its lock, held while the mail is sent, never makes a login wait.
    """

    created_at = models.DateTimeField(auto_now_add=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True
        indexes = [
            # Small whatever the number of users: only what is pending is in it.
            models.Index(
                fields=["created_at"], condition=models.Q(sent_at=None), name="%(app_label)s_%(class)s_pending"
            ),
        ]

    def __str__(self) -> str:
        return f"{self._meta.verbose_name} for user {self.user_id}"


class WelcomeEmail(OutboxEmail):
    """The promise to welcome a user, written in the transaction that registers them."""

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="welcome_email")


class DigestEmail(OutboxEmail):
    """The promise to tell a user what was published before a day: from the day of the last digest to its own."""

    user = models.ForeignKey(User, on_delete=models.CASCADE, related_name="digest_emails")
    since = models.DateField()
    day = models.DateField()

    class Meta(OutboxEmail.Meta):
        constraints = [
            # What makes it one mail a night, however often the night's task runs.
            models.UniqueConstraint(fields=["day", "user"], name="accounts_digestemail_once_a_day"),
        ]
