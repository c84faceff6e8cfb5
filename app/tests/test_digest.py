"""The nightly digest: what is in it, who gets it, how often, and how they are rid of it."""

from concurrent.futures import ThreadPoolExecutor
from datetime import date, datetime, time, timedelta
from email import message_from_bytes
from urllib.parse import urlsplit

import pytest
from django.core import mail
from django.core.signing import Signer
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone
from pytest_django import Settings

from accounts import digests, emails, tasks
from accounts.models import DigestEmail, User
from blog.models import Post
from config.celery import app
from tests.factories import make_post, make_user

pytestmark = pytest.mark.django_db

TODAY = date(2026, 3, 12)
DAY = timedelta(days=1)


def at(day: date, hour: int = 0, minute: int = 0) -> datetime:
    """Return a moment of a day."""
    return timezone.make_aware(datetime.combine(day, time(hour, minute)))


def make_story(*, day: date = TODAY - DAY, **fields: object) -> Post:
    """Create a post that was published on a day."""
    return make_post(**{"published_at": at(day, 12)} | fields)


def make_reader(**fields: object) -> User:
    """Create a user who wants the digest."""
    return make_user(**{"wants_digest": True} | fields)


def send_all() -> list[str]:
    """Send what is promised, and return who got something."""
    before = len(mail.outbox)
    for pk in DigestEmail.objects.filter(sent_at=None).order_by("pk").values_list("pk", flat=True):
        tasks.send_digest_email(pk)
    return [message.to[0] for message in mail.outbox[before:]]


def test_those_who_chose_it_get_one_mail_with_what_is_new() -> None:
    story = make_story(title="Tides &\nknots", summary="Both <explained>.")
    draft = make_story(status=Post.Status.DRAFT)
    old, new = make_story(day=TODAY - 2 * DAY), make_story(published_at=at(TODAY))
    reader = make_reader()
    make_user()
    make_reader(email="")
    make_reader(is_active=False)
    digests.promise_digests(day=TODAY)
    assert send_all() == [reader.email]
    (message,) = mail.outbox
    assert message.subject == "New on Slipway: Tides & knots"
    assert f"\nTides &\nknots\nby {story.author.name}\nBoth <explained>.\n" in message.body
    assert f"https://slipway.example/posts/{story.slug}/\n" in message.body
    for other in (draft, old, new):
        assert other.slug not in message.body
    assert message.extra_headers["Message-ID"] == f"<digest.{reader.pk}.20260312000000@slipway.example>"


def test_the_edges_of_a_day() -> None:
    inside = {make_story(published_at=moment).pk for moment in (at(TODAY - DAY), at(TODAY - DAY, 23, 59))}
    for moment in (at(TODAY - 2 * DAY, 23, 59), at(TODAY)):
        make_story(published_at=moment)
    assert {post.pk for post in digests.posts(since=TODAY - DAY, day=TODAY)} == inside


def test_nothing_new_is_no_mail() -> None:
    make_reader()
    make_story(day=TODAY - 2 * DAY)
    make_story(status=Post.Status.ARCHIVED)
    digests.promise_digests(day=TODAY)
    assert not DigestEmail.objects.exists()


def test_however_often_the_night_comes_a_user_gets_one_mail() -> None:
    make_story()
    reader = make_reader()
    for _ in range(3):
        digests.promise_digests(day=TODAY)
    assert send_all() == [reader.email]
    digests.promise_digests(day=TODAY)
    late = make_reader()
    digests.promise_digests(day=TODAY)
    assert send_all() == [late.email]


@pytest.mark.django_db(transaction=True)
def test_two_beats_promise_once_and_two_workers_send_once() -> None:
    make_story()
    readers = {make_reader().pk for _ in range(20)}

    def in_thread(function: object, **arguments: object) -> object:
        try:
            return function(**arguments)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda _: in_thread(digests.promise_digests, day=TODAY), range(4)))
        promised = dict(DigestEmail.objects.values_list("pk", "user_id"))
        assert sorted(promised.values()) == sorted(readers)
        sent = list(pool.map(lambda pk: in_thread(emails.send_digest_email, digest_id=pk), [*promised] * 4))
    assert sum(sent) == len(mail.outbox) == 20


@pytest.mark.parametrize(
    ("last", "since"),
    [(None, TODAY - DAY), (TODAY - DAY, TODAY - DAY), (TODAY - 3 * DAY, TODAY - 3 * DAY), (TODAY - 20 * DAY, None)],
)
def test_a_digest_begins_where_the_last_one_ended(last: date | None, since: date | None) -> None:
    if last:
        DigestEmail.objects.create(user=make_user(), since=last - DAY, day=last)
    reader = make_reader()
    make_story()
    digests.promise_digests(day=TODAY)
    assert reader.digest_emails.get().since == (since or TODAY - digests.LONGEST)


def test_old_promises_go() -> None:
    user = make_user()
    for days in (1, 29, 31):
        DigestEmail.objects.create(user=user, since=TODAY, day=TODAY - days * DAY)
    digests.promise_digests(day=TODAY)
    assert sorted(TODAY - day for day in DigestEmail.objects.values_list("day", flat=True)) == [DAY, 29 * DAY]


def test_what_is_not_wanted_any_more_is_not_sent() -> None:
    story = make_story()
    left, closed, stays = make_reader(), make_reader(), make_reader()
    digests.promise_digests(day=TODAY)
    User.objects.filter(pk=left.pk).update(wants_digest=False)
    User.objects.filter(pk=closed.pk).update(is_active=False)
    assert send_all() == [stays.email]
    assert not DigestEmail.objects.filter(sent_at=None).exists(), "tried again for ever"
    DigestEmail.objects.update(sent_at=None)
    Post.objects.filter(pk=story.pk).archive()
    assert send_all() == []


def test_a_mail_has_room_for_so_many() -> None:
    author = make_story().author
    for number in range(emails.POSTS_IN_DIGEST - 1):
        make_story(author=author, title=f"Story {number}")
    make_reader()
    digests.promise_digests(day=TODAY)
    send_all()
    assert "There is more" not in mail.outbox[0].body
    make_story(author=author)
    DigestEmail.objects.update(sent_at=None)
    send_all()
    assert mail.outbox[1].body.count("https://slipway.example/posts/") == emails.POSTS_IN_DIGEST + 1
    assert "There is more: https://slipway.example/posts/\n" in mail.outbox[1].body


@pytest.mark.parametrize("number", [1, 15])
def test_queries(number: int) -> None:
    for _ in range(number):
        make_story()
        make_reader()
    with CaptureQueriesContext(connection) as promising:
        digests.promise_digests(day=TODAY)
    # The last digest, whether there is news, the readers, one INSERT, the old rows.
    assert sum(not query["sql"].startswith(("SAVEPOINT", "RELEASE")) for query in promising) == 5
    digest = DigestEmail.objects.first()
    with CaptureQueriesContext(connection) as sending:
        tasks.send_digest_email(digest.pk)
    # The mark, the row with its user, the posts with their authors.
    assert sum(not query["sql"].startswith(("SAVEPOINT", "RELEASE")) for query in sending) == 3


def test_the_night_is_planned_and_its_mails_go_through_the_outbox(monkeypatch: pytest.MonkeyPatch) -> None:
    app.loader.import_default_modules()
    planned = {entry["task"] for entry in app.conf.beat_schedule.values()}
    assert {"accounts.tasks.promise_digests", "accounts.tasks.send_pending_emails"} <= planned <= set(app.tasks)
    sent: list[int] = []
    monkeypatch.setattr(tasks.send_digest_email, "delay", sent.append)
    make_story(day=timezone.localdate() - DAY)
    make_reader()
    tasks.promise_digests()
    assert sent == []
    tasks.send_pending_emails()
    tasks.send_pending_emails()
    assert sent == [DigestEmail.objects.get().pk]


def test_without_the_address_of_the_site_there_is_no_digest(settings: Settings) -> None:
    settings.SITE_URL = ""
    make_story(day=timezone.localdate() - DAY)
    make_reader()
    tasks.promise_digests()
    assert not DigestEmail.objects.exists()


def test_users_choose_it_in_their_profile(client: Client) -> None:
    user = make_user()
    client.force_login(user)
    assert 'name="wants_digest"' in client.get("/accounts/profile/").content.decode()
    for form, wanted in (({"wants_digest": "on"}, True), ({}, False)):
        client.post("/accounts/profile/", {"email": user.email, **form})
        user.refresh_from_db()
        assert user.wants_digest is wanted


def test_one_click_ends_it_without_login_or_form() -> None:
    make_story()
    reader, other = make_reader(), make_reader()
    digests.promise_digests(day=TODAY)
    send_all()
    # As it is sent: a long header may be folded.
    message = message_from_bytes(mail.outbox[0].message().as_bytes())
    assert message["List-Unsubscribe-Post"] == "List-Unsubscribe=One-Click"
    link = message["List-Unsubscribe"].strip()
    assert link.startswith("<https://slipway.example/accounts/unsubscribe/") and link.endswith(">")
    assert link[1:-1] in mail.outbox[0].body
    path = urlsplit(link[1:-1]).path
    client = Client(enforce_csrf_checks=True)
    page = client.get(path)
    assert page.status_code == 200 and '<form class="form" method="post">' in page.content.decode()
    assert client.head(path).status_code == 200
    assert client.put(path).status_code == 405
    reader.refresh_from_db()
    assert reader.wants_digest, "a link that was only followed did it"
    for _ in range(2):
        assert client.post(path, {"List-Unsubscribe": "One-Click"}).status_code == 200
    assert list(User.objects.filter(wants_digest=True)) == [other]


def test_a_forged_link_is_not_found_and_changes_nothing(client: Client) -> None:
    reader, other = make_reader(), make_reader()
    path = digests.unsubscribe_path(user_id=reader.pk)
    forged = [
        path[:-2] + ("A" if path[-2] != "A" else "B") + "/",
        path.replace(f"/{reader.pk}:", f"/{other.pk}:"),
        f"/accounts/unsubscribe/{reader.pk}/",
        f"/accounts/unsubscribe/{Signer().sign(reader.pk)}/",
        f"/accounts/unsubscribe/{Signer(salt='accounts.digest', key='another').sign(reader.pk)}/",
        digests.unsubscribe_path(user_id=0),
    ]
    for wrong in forged:
        assert client.get(wrong).status_code == 404
        assert client.post(wrong).status_code == 404
    assert User.objects.filter(wants_digest=True).count() == 2
    assert client.post(path).status_code == 200
