"""What the accounts application does, apart from how it is asked to."""

from functools import partial

from django.db import transaction
from django.utils import timezone

from accounts import tasks
from accounts.forms import ProfileForm, RegistrationForm
from accounts.models import User, WelcomeEmail


@transaction.atomic
def register_user(*, form: RegistrationForm) -> User:
    """Create the user of a valid form and promise them a welcome email, both or neither."""
    user = form.save()
    WelcomeEmail.objects.create(user=user, enqueued_at=timezone.now())
    transaction.on_commit(partial(tasks.enqueue_emails, WelcomeEmail, ids=[user.pk]))
    return user


@transaction.atomic
def update_profile(*, form: ProfileForm) -> User:
    """Save what a valid form changed about a user, and about the author that they are, both or neither."""
    user = form.save()
    if form.author and "bio" in form.changed_data:
        form.author.bio = form.cleaned_data["bio"]
        form.author.save(update_fields=["bio"])
    return user
