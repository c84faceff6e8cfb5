"""What the magazine does, apart from how it is asked to."""

from django.core.files.storage import default_storage
from django.utils import timezone

from blog import pictures
from blog.models import Post


def make_thumbnails(*, post_id: int) -> bool:
    """Write the versions of a post's picture and mark them as there; say whether this call did it.

    The mark is a conditional UPDATE: versions of a picture that was replaced meanwhile do not count for the new one.
    """
    waiting = Post.objects.filter(pk=post_id, thumbnails_made_at=None).exclude(picture="")
    name = waiting.values_list("picture", flat=True).first()
    if name is None:
        return False
    pictures.write_versions(name)
    return bool(waiting.filter(picture=name).update(thumbnails_made_at=timezone.now()))


def remove_picture_files(name: str) -> None:
    """Remove a picture and its versions, unless a post still shows it."""
    if not Post.objects.filter(picture=name).exists():
        for file in (name, *pictures.version_names(name)):
            default_storage.delete(file)
