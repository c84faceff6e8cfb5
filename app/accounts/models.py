"""The user, and the outbox row of the welcome email."""

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models.functions import Lower


class User(AbstractUser):
    """A user of the site. The project's own class from the start: it cannot be put in later."""

    class Meta(AbstractUser.Meta):
        constraints = [
            models.UniqueConstraint(
                Lower("email"),
                condition=~models.Q(email=""),
                name="accounts_user_email_unique",
                violation_error_message="A user with that email address already exists.",
            ),
        ]


class WelcomeEmail(models.Model):
    """The promise to welcome a user, written in the transaction that registers them (an outbox row).

    It outlives a broker that is down or loses a message: beat enqueues what is still pending. It is a row
    of its own so that its lock, held while the mail is sent, never makes a login wait.
    """

    user = models.OneToOneField(User, on_delete=models.CASCADE, primary_key=True, related_name="welcome_email")
    created_at = models.DateTimeField(auto_now_add=True)
    enqueued_at = models.DateTimeField(null=True, blank=True)
    sent_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        indexes = [
            # Small whatever the number of users: only what is pending is in it.
            models.Index(fields=["created_at"], condition=models.Q(sent_at=None), name="accounts_welcome_pending"),
        ]

    def __str__(self) -> str:
        return f"welcome email for user {self.user_id}"
