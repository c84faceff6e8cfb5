"""What the accounts application does, apart from how it is asked to."""

from functools import partial

from django.db import transaction
from django.utils import timezone

from accounts import tasks
from accounts.forms import RegistrationForm
from accounts.models import User, WelcomeEmail


@transaction.atomic
def register_user(*, form: RegistrationForm) -> User:
    """Create the user of a valid form and promise them a welcome email, both or neither."""
    user = form.save()
    WelcomeEmail.objects.create(user=user, enqueued_at=timezone.now())
    transaction.on_commit(partial(tasks.enqueue_welcome_emails, user_ids=[user.pk]))
    return user
