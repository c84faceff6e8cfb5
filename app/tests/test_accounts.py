"""Registration, login, and the outbox of welcome emails without a worker."""

import time
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta

import pytest
import redis
from django.conf import settings as django_settings
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone
from pytest_django import DjangoCaptureOnCommitCallbacks

from accounts import emails, tasks, views
from accounts.models import User, WelcomeEmail
from blog.models import Author
from tests.factories import PASSWORD, make_user

FORM = {"username": "ada", "email": "ada@example.com", "password1": PASSWORD, "password2": PASSWORD}


def queued() -> int:
    """Return the number of messages in this run's queue."""
    with redis.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        return client.llen(django_settings.CELERY_TASK_DEFAULT_QUEUE)


@pytest.fixture(autouse=True)
def empty_queue() -> None:
    """Start with an empty queue."""
    with redis.Redis.from_url(django_settings.CELERY_BROKER_URL) as client:
        client.delete(django_settings.CELERY_TASK_DEFAULT_QUEUE)


@pytest.mark.django_db
def test_registration(client: Client, django_capture_on_commit_callbacks: DjangoCaptureOnCommitCallbacks) -> None:
    with django_capture_on_commit_callbacks(execute=True) as callbacks:
        response = client.post("/accounts/register/", FORM)
        assert queued() == 0, "enqueued before the commit"
    assert (response.status_code, response["Location"], len(callbacks)) == (302, "/", 1)
    assert queued() == 1
    user = User.objects.get(username="ada")
    assert user.email == "ada@example.com"
    assert user.check_password(PASSWORD)
    assert user.welcome_email.enqueued_at
    assert user.welcome_email.sent_at is None
    assert client.session["_auth_user_id"] == str(user.pk)
    assert client.get("/accounts/register/").status_code == 302


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"username": "Carys"}, "A user with that username already exists."),
        ({"email": "Carys@Example.com"}, "A user with that email address already exists."),
        ({"email": ""}, "This field is required."),
        ({"email": "no address"}, "Enter a valid email address."),
        ({"password2": "another-one-entirely"}, "The two password fields didn"),
        ({"password1": "12345", "password2": "12345"}, "This password is too short."),
    ],
)
def test_a_registration_that_is_refused(client: Client, change: dict[str, str], message: str) -> None:
    make_user(username="carys", email="carys@example.com")
    response = client.post("/accounts/register/", FORM | change)
    assert response.status_code == 200
    assert message in response.content.decode()
    assert User.objects.count() == 1
    assert not WelcomeEmail.objects.exists()
    assert queued() == 0


@pytest.mark.django_db
def test_a_registration_that_loses_a_race(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    register_user = views.register_user

    def overtaken(*, form: object) -> User:
        make_user(username="someone", email="ada@example.com")
        return register_user(form=form)

    monkeypatch.setattr(views, "register_user", overtaken)
    response = client.post("/accounts/register/", FORM)
    assert response.status_code == 200
    assert "A user with that email address already exists." in response.content.decode()
    assert not User.objects.filter(username="ada").exists()


@pytest.mark.django_db
def test_login_and_logout(client: Client) -> None:
    user = make_user()
    assert "Log in" in client.get("/").content.decode()
    wrong = client.post("/accounts/login/", {"username": user.username, "password": "wrong"})
    assert wrong.status_code == 200
    assert 'role="alert"' in wrong.content.decode()
    response = client.post("/accounts/login/", {"username": user.username, "password": PASSWORD})
    assert (response.status_code, response["Location"]) == (302, "/")
    assert user.username in client.get("/").content.decode()
    assert client.get("/accounts/logout/").status_code == 405
    assert client.post("/accounts/logout/").status_code == 302
    assert "_auth_user_id" not in client.session


@pytest.mark.django_db
def test_login_leads_to_no_other_site(client: Client) -> None:
    form = {"username": make_user().username, "password": PASSWORD, "next": "https://evil.example/"}
    assert client.post("/accounts/login/", form)["Location"] == "/"


@pytest.mark.django_db(transaction=True)
def test_a_registration_succeeds_without_the_broker(
    client: Client, broken_broker: None, caplog: pytest.LogCaptureFixture
) -> None:
    response = client.post("/accounts/register/", FORM)
    assert (response.status_code, response["Location"]) == (302, "/")
    assert WelcomeEmail.objects.get(user__username="ada").enqueued_at is None
    assert "1 welcome email(s) stay in the outbox" in caplog.text


@pytest.mark.django_db
def test_what_the_outbox_enqueues() -> None:
    now = timezone.now()

    def row(*, created: timedelta, **fields: object) -> int:
        welcome = WelcomeEmail.objects.create(user=make_user(), **fields)
        WelcomeEmail.objects.filter(pk=welcome.pk).update(created_at=now - created)
        return welcome.pk

    minute = timedelta(minutes=1)
    never_enqueued = row(created=minute)
    lost = row(created=2 * tasks.LOST_AFTER, enqueued_at=now - tasks.LOST_AFTER - minute)
    row(created=minute, enqueued_at=now - minute)
    row(created=2 * tasks.LOST_AFTER, enqueued_at=now - tasks.LOST_AFTER - minute, sent_at=now)
    row(created=tasks.GIVE_UP_AFTER + minute)
    tasks.send_pending_emails()
    assert queued() == 2
    enqueued = WelcomeEmail.objects.filter(enqueued_at__gte=now).values_list("pk", flat=True)
    assert set(enqueued) == {never_enqueued, lost}
    tasks.send_pending_emails()
    assert queued() == 2, "enqueued twice"


@pytest.mark.django_db
def test_the_outbox_waits_for_the_broker(broken_broker: None, caplog: pytest.LogCaptureFixture) -> None:
    users = [make_user() for _ in range(3)]
    WelcomeEmail.objects.bulk_create(WelcomeEmail(user=user) for user in users)
    tasks.send_pending_emails()
    assert caplog.text.count("Broker down, 3 welcome email(s)") == 1, "tried for each row"
    assert WelcomeEmail.objects.filter(enqueued_at=None).count() == 3


@pytest.mark.django_db
def test_the_email() -> None:
    user = make_user(username="ada & co")
    WelcomeEmail.objects.create(user=user)
    assert emails.send_welcome_email(user_id=user.pk) is True
    (message,) = mail.outbox
    assert message.to == [user.email]
    assert message.subject == "Welcome to Slipway"
    assert "Hello ada & co," in message.body
    assert message.from_email == "Slipway <hello@slipway.example>"
    assert message.extra_headers["Message-ID"].endswith("@slipway.example>")


@pytest.mark.django_db
def test_a_second_delivery_sends_nothing() -> None:
    user = make_user()
    WelcomeEmail.objects.create(user=user)
    for _ in range(3):
        tasks.send_welcome_email(user.pk)
    assert len(mail.outbox) == 1


@pytest.mark.django_db
def test_without_a_promise_nothing_is_sent() -> None:
    tasks.send_welcome_email(make_user().pk)
    tasks.send_welcome_email(0)
    assert mail.outbox == []


@pytest.mark.django_db(transaction=True)
def test_a_sending_that_fails_leaves_the_promise(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    WelcomeEmail.objects.create(user=user)

    def refuse(self: object) -> None:
        raise ConnectionRefusedError

    with monkeypatch.context() as patch, pytest.raises(ConnectionRefusedError):
        patch.setattr(emails.EmailMessage, "send", refuse)
        emails.send_welcome_email(user_id=user.pk)
    assert WelcomeEmail.objects.get().sent_at is None
    assert emails.send_welcome_email(user_id=user.pk) is True


@pytest.mark.django_db(transaction=True)
def test_deliveries_at_the_same_time_send_once(monkeypatch: pytest.MonkeyPatch) -> None:
    user = make_user()
    WelcomeEmail.objects.create(user=user)
    send = emails.EmailMessage.send

    def slowly(self: emails.EmailMessage) -> int:
        time.sleep(0.3)
        return send(self)

    monkeypatch.setattr(emails.EmailMessage, "send", slowly)

    def deliver(_: int) -> bool:
        try:
            return emails.send_welcome_email(user_id=user.pk)
        finally:
            connection.close()

    with ThreadPoolExecutor(4) as pool:
        assert sorted(pool.map(deliver, range(4))) == [False, False, False, True]
    assert len(mail.outbox) == 1


@pytest.mark.django_db
def test_a_profile_is_for_those_who_are_logged_in(client: Client) -> None:
    assert client.get("/accounts/profile/")["Location"] == "/accounts/login/?next=/accounts/profile/"


@pytest.mark.django_db
def test_users_edit_their_profile(client: Client) -> None:
    user = make_user()
    client.force_login(user)
    form = {"first_name": "Ada", "last_name": "Keel", "email": "keel@example.com", "bio": "ignored", "username": "root"}
    assert client.post("/accounts/profile/", form).status_code == 302
    changed = User.objects.get()
    assert changed.wants_digest is False
    assert (changed.first_name, changed.email, changed.username) == ("Ada", "keel@example.com", user.username)
    assert "Your profile is saved." in client.get("/accounts/profile/").content.decode()


@pytest.mark.django_db
def test_authors_edit_their_text(client: Client) -> None:
    user = make_user()
    author = Author.objects.create(user=user, name="Ada Keel", slug="ada-keel", bio="Old.")
    client.force_login(user)
    assert "Old." in client.get("/accounts/profile/").content.decode()
    client.post("/accounts/profile/", {"email": user.email, "bio": "New."})
    author.refresh_from_db()
    assert author.bio == "New."


@pytest.mark.django_db
@pytest.mark.parametrize("email", ["", "nonsense", "TAKEN@example.com"])
def test_an_unfit_profile_is_refused_with_the_reason(client: Client, email: str) -> None:
    make_user(email="taken@example.com")
    user = make_user()
    client.force_login(user)
    response = client.post("/accounts/profile/", {"email": email})
    assert response.status_code == 422
    assert 'role="alert"' in response.content.decode()
    user.refresh_from_db()
    assert "@" in user.email


@pytest.mark.django_db
def test_an_address_taken_at_the_same_moment_is_explained(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    make_user(email="taken@example.com")
    client.force_login(make_user())
    monkeypatch.setattr(User, "validate_constraints", lambda *args, **kwargs: None)
    response = client.post("/accounts/profile/", {"email": "taken@example.com"})
    assert response.status_code == 422
    assert "already exists" in response.content.decode()
