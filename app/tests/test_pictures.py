"""Pictures of posts: what is refused, what is made of them, and what is left when they go."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client
from django.utils import timezone
from PIL import Image

from blog import pictures, services, tasks
from blog.models import Post
from config.celery import app
from tests.factories import make_post, make_user

DELAY = tasks.make_thumbnails.delay
pytestmark = pytest.mark.django_db(transaction=True)


def upload(
    size: tuple[int, int] = (2000, 1000), kind: str = "JPEG", name: str = "boat.jpg", **options: object
) -> SimpleUploadedFile:
    """Return a picture as a browser sends it."""
    data = BytesIO()
    Image.new("RGB", size, "teal").save(data, kind, **options)
    return SimpleUploadedFile(name, data.getvalue())


@pytest.fixture(autouse=True)
def sent(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Collect the ids of the posts that are handed to the worker, instead of handing them."""
    ids: list[int] = []
    monkeypatch.setattr(tasks.make_thumbnails, "delay", ids.append)
    return ids


def files() -> set[str]:
    """Return the names of all stored pictures."""
    return {str(path.relative_to(settings.MEDIA_ROOT)) for path in Path(settings.MEDIA_ROOT).rglob("*.*")}


def make_picture(**options: object) -> Post:
    """Create a post with a picture and its versions."""
    post = make_post(picture=upload(**options), picture_alt="A boat")
    assert services.make_thumbnails(post_id=post.pk)
    post.refresh_from_db()
    return post


def test_versions_are_made_on_commit_and_shown(client: Client, sent: list[int]) -> None:
    post = make_post(picture=upload(), picture_alt="A boat & a quay")
    assert sent == [post.pk]
    page = client.get(post.get_absolute_url()).content.decode()
    assert "<img" not in page
    tasks.make_thumbnails(post.pk)
    post.refresh_from_db()
    page = client.get(post.get_absolute_url()).content.decode()
    assert 'alt="A boat &amp; a quay"' in page
    assert 'width="2000" height="1000"' in page
    for width in pictures.WIDTHS:
        name = pictures.version_name(post.picture.name, width)
        assert f"/media/{name} {width}w" in page
        with default_storage.open(name) as file, Image.open(file) as version:
            assert (version.format, version.size) == ("WEBP", (width, width // 2))


def test_versions_are_upright_and_without_metadata() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # orientation: to be turned by 90 degrees
    exif[0x010F] = "the camera"
    post = make_picture(size=(2000, 1000), exif=exif)
    name = pictures.version_name(post.picture.name, 480)
    with default_storage.open(name) as file, Image.open(file) as version:
        assert version.width < version.height
        assert not version.getexif()


def test_a_second_delivery_changes_nothing() -> None:
    post = make_picture()
    before = files()
    assert services.make_thumbnails(post_id=post.pk) is False
    Post.objects.update(thumbnails_made_at=None)
    assert services.make_thumbnails(post_id=post.pk) is True
    assert files() == before


def test_versions_of_a_replaced_picture_do_not_count(monkeypatch: pytest.MonkeyPatch) -> None:
    post = make_post(picture=upload())
    write = pictures.write_versions

    def overtaken(name: str) -> None:
        write(name)
        Post.objects.update(picture="pictures/other.jpg")

    monkeypatch.setattr(pictures, "write_versions", overtaken)
    assert services.make_thumbnails(post_id=post.pk) is False
    assert Post.objects.get().thumbnails_made_at is None


def test_files_go_with_the_picture(sent: list[int]) -> None:
    post = make_picture()
    old = files()
    post.picture = upload(name="second.jpg")
    post.save()
    assert sent[-1] == post.pk
    assert len(files()) == 1 and not files() & old
    assert Post.objects.get().thumbnails_made_at is None
    post.delete()
    assert files() == set()


def test_files_that_another_post_shows_stay() -> None:
    post = make_picture()
    make_post(picture=post.picture.name)
    post.delete()
    assert len(files()) == 1 + len(pictures.WIDTHS)


def test_a_change_of_something_else_makes_no_task(sent: list[int]) -> None:
    post = make_picture()
    post.title = "Another title"
    post.save()
    Post.objects.defer("picture").get().save()
    assert sent == [post.pk]
    assert Post.objects.get().thumbnails_made_at is not None


def test_what_never_reached_the_worker_is_enqueued_again(sent: list[int]) -> None:
    waiting, fresh, done = make_post(picture=upload()), make_post(picture=upload()), make_picture()
    long_ago = timezone.now() - 2 * tasks.LOST_AFTER
    Post.objects.filter(pk__in=[waiting.pk, done.pk]).update(updated_at=long_ago)
    sent.clear()
    tasks.enqueue_waiting_thumbnails()
    assert sent == [waiting.pk]
    assert fresh.pk not in sent


def test_an_upload_succeeds_without_the_broker(broken_broker: None, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks.make_thumbnails, "delay", DELAY)
    post = make_post(picture=upload())
    assert Post.objects.get(pk=post.pk).picture


NOT_TAKEN: dict[str, Callable[[], SimpleUploadedFile]] = {
    "This is no picture": lambda: SimpleUploadedFile("boat.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "no picture in one of the formats": lambda: upload(kind="GIF", name="boat.jpg"),
    "million pixels": lambda: upload(size=(8000, 5001), kind="PNG", name="bomb.png"),
    "has to end with .png": lambda: upload(kind="PNG", name="boat.jpg"),
    "MiB": lambda: SimpleUploadedFile("boat.jpg", b"\xff" * (pictures.MAX_BYTES + 1)),
}


@pytest.mark.parametrize("why", NOT_TAKEN)
def test_what_is_no_fit_picture_is_refused(why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        pictures.validate_picture(NOT_TAKEN[why]())


def test_the_admin_says_what_is_wrong_and_stores_nothing(client: Client) -> None:
    post = make_post()
    client.force_login(make_user(is_staff=True, is_superuser=True))
    form = {
        "title": post.title, "slug": post.slug, "body": "Text", "author": post.author.pk, "status": "draft",
        "picture": upload(size=(8000, 5001), kind="PNG", name="bomb.png"),
    }  # fmt: skip
    page = client.post(f"/admin/blog/post/{post.pk}/change/", form)
    assert page.status_code == 200
    assert "million pixels" in page.content.decode()
    assert files() == set()
    form["picture"] = upload()
    assert client.post(f"/admin/blog/post/{post.pk}/change/", form).status_code == 302
    assert len(files()) == 1


@pytest.fixture(autouse=True)
def no_files_left() -> None:
    """Begin with an empty folder."""
    for name in files():
        default_storage.delete(name)


def test_tasks_are_known_to_the_worker() -> None:
    assert {"blog.tasks.make_thumbnails", "blog.tasks.enqueue_waiting_thumbnails"} <= set(app.tasks)
