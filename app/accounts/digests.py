"""The nightly digest: what is in it, who is promised one, and how they are rid of it."""

from datetime import date, datetime, time, timedelta

from django.core.signing import BadSignature, Signer
from django.db.models import Max
from django.urls import reverse
from django.utils import timezone

from accounts.models import DigestEmail, User
from blog.models import Post, PostQuerySet

# Nights that were missed are made up for by the next digest, as far back as this.
LONGEST = timedelta(days=7)
# Promises tell which was the last digest, and are looked at when somebody asks for their mail.
KEPT = timedelta(days=30)

# Without a time: the link in an old mail has to work as well.
_signer = Signer(salt="accounts.digest")


def posts(*, since: date, day: date) -> PostQuerySet:
    """Return what was published from the beginning of one day to that of another, the newest first.

    Whole days: every mail of a night tells the same, whenever it is sent, and nothing falls between two nights.
    """
    begin, end = (timezone.make_aware(datetime.combine(moment, time.min)) for moment in (since, day))
    return Post.objects.published().filter(published_at__gte=begin, published_at__lt=end).newest_first()


def promise_digests(*, day: date) -> None:
    """Promise everybody who wants it a digest of what was published before this day, if anything was.

    Again on the same day it adds nothing but promises to those who want a digest since.
    """
    last = DigestEmail.objects.filter(day__lt=day).aggregate(last=Max("day"))["last"] or day - timedelta(days=1)
    since = max(last, day - LONGEST)
    if posts(since=since, day=day).exists():
        readers = User.objects.filter(wants_digest=True, is_active=True).exclude(email="").values_list("pk", flat=True)
        DigestEmail.objects.bulk_create(
            [DigestEmail(user_id=user_id, since=since, day=day) for user_id in readers], ignore_conflicts=True
        )
    DigestEmail.objects.filter(day__lt=day - KEPT).delete()


def unsubscribe_path(*, user_id: int) -> str:
    """Return the path of a page at which this user, and nobody else, ends the digest without logging in."""
    return reverse("accounts:unsubscribe", args=[_signer.sign(user_id)])


def subscriber(*, token: str) -> User | None:
    """Return the user whom a link to unsubscribe was made for, or None where it was not made here."""
    try:
        return User.objects.filter(pk=_signer.unsign(token)).first()
    except BadSignature:
        return None
