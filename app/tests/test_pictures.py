"""Pictures of posts: what is refused, what is made of them, and what is left when they go."""

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from random import Random

import pytest
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
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


def cut(name: str = "boat.jpg", kind: str = "JPEG", keep: float = 0.9) -> SimpleUploadedFile:
    """Return a picture whose upload ended too early."""
    whole = upload(kind=kind, name=name).read()
    return SimpleUploadedFile(name, whole[: int(len(whole) * keep)])


NOT_TAKEN: dict[str, Callable[[], SimpleUploadedFile]] = {
    "This is no picture": lambda: SimpleUploadedFile("boat.jpg", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
    "no picture in one of the formats": lambda: upload(kind="GIF", name="boat.jpg"),
    "million pixels": lambda: upload(size=(8000, 5001), kind="PNG", name="bomb.png"),
    "has to end with .png": lambda: upload(kind="PNG", name="boat.jpg"),
    "JPEG, PNG and WebP, or it is damaged": cut,
    "or it is damaged": lambda: cut("boat.png", "PNG"),
    "it is damaged": lambda: cut("boat.webp", "WEBP"),
    "is damaged": lambda: cut(keep=0.5),
    "MiB": lambda: SimpleUploadedFile("boat.jpg", b"\xff" * (pictures.MAX_BYTES + 1)),
}


@pytest.mark.parametrize("why", NOT_TAKEN)
def test_what_is_no_fit_picture_is_refused(why: str) -> None:
    with pytest.raises(ValidationError, match=why):
        pictures.validate_picture(NOT_TAKEN[why]())


def test_a_camera_may_put_pictures_behind_the_first() -> None:
    picture = upload(kind="MPO", save_all=True, append_images=[Image.new("RGB", (20, 10))])
    pictures.validate_picture(picture)
    assert picture.tell() == 0


# Pillow says so of metadata that it leaves out.
@pytest.mark.filterwarnings("ignore::UserWarning")
def test_whatever_is_damaged_is_refused_or_taken_but_never_fails() -> None:
    random = Random(1)
    damaged = set()
    for kind, name in (("JPEG", "boat.jpg"), ("PNG", "boat.png"), ("WEBP", "boat.webp")):
        exif = Image.Exif()
        exif[0x0112] = 6
        noise = Image.effect_noise((60, 40), 80).convert("RGB")
        data = BytesIO()
        noise.save(data, kind, exif=exif)
        for _ in range(300):
            broken = bytearray(data.getvalue())
            for position in random.sample(range(len(broken)), 3):
                broken[position] = random.randrange(256)
            try:
                pictures.validate_picture(SimpleUploadedFile(name, broken))
            except ValidationError:
                damaged.add(kind)
                continue
            default_storage.save(name, ContentFile(broken))
            pictures.write_versions(name)
            default_storage.delete(name)
    assert damaged == {"JPEG", "PNG", "WEBP"}


def damage(post: Post) -> None:
    path = Path(post.picture.path)
    path.write_bytes(path.read_bytes()[:-200])


def lose(post: Post) -> None:
    Path(post.picture.path).unlink()


@pytest.mark.parametrize("spoil", [damage, lose])
def test_a_stored_picture_that_is_damaged_or_gone_is_left_alone(
    client: Client, sent: list[int], caplog: pytest.LogCaptureFixture, spoil: Callable[[Post], None]
) -> None:
    post = make_post(picture=upload())
    spoil(post)
    tasks.make_thumbnails(post.pk)
    assert f"No thumbnails of {post.picture.name}, the picture of post {post.pk}" in caplog.text
    post = Post.objects.get()
    assert (post.thumbnails_made_at, post.thumbnails) == (None, None)
    assert post.picture_unusable_since
    assert not [file for file in files() if file.endswith(".webp")]
    Post.objects.update(updated_at=timezone.now() - 2 * tasks.LOST_AFTER)
    sent.clear()
    tasks.enqueue_waiting_thumbnails()
    assert sent == []
    assert "<img" not in client.get(post.get_absolute_url()).content.decode()
    post.picture = upload()
    post.save()
    assert sent == [post.pk]
    tasks.make_thumbnails(post.pk)
    assert Post.objects.get().thumbnails


def test_a_storage_that_fails_is_tried_again(monkeypatch: pytest.MonkeyPatch) -> None:
    post = make_post(picture=upload())

    def fail(*arguments: object) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch, pytest.raises(OSError, match="No space"):
        patch.setattr(Path, "write_bytes", fail)
        services.make_thumbnails(post_id=post.pk)
    assert Post.objects.get().picture_unusable_since is None
    assert files() == {post.picture.name}
    assert services.make_thumbnails(post_id=post.pk) is True


def test_versions_that_are_shown_are_replaced_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    post = make_picture()
    name = pictures.version_name(post.picture.name, 960)
    whole, seen = Path(default_storage.path(name)).read_bytes(), []
    write = Path.write_bytes

    def in_halves(path: Path, data: bytes) -> int:
        write(path, data[: len(data) // 2])
        seen.append(Path(default_storage.path(name)).read_bytes())
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", in_halves)
    pictures.write_versions(post.picture.name)
    assert seen == [whole] * len(pictures.WIDTHS)
    assert len(files()) == 1 + len(pictures.WIDTHS)
    assert Path(default_storage.path(name)).stat().st_mode & 0o777 == settings.FILE_UPLOAD_PERMISSIONS


def test_a_post_whose_picture_is_damaged_can_be_edited(client: Client) -> None:
    post = make_picture()
    damage(post)
    client.force_login(make_user(is_staff=True, is_superuser=True))
    form = {"title": "New", "slug": post.slug, "body": "Text", "author": post.author.pk, "status": "draft"}
    assert client.get(f"/admin/blog/post/{post.pk}/change/").status_code == 200
    assert client.post(f"/admin/blog/post/{post.pk}/change/", form).status_code == 302
    assert Post.objects.get().title == "New"


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
