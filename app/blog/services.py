"""What the magazine does, apart from how it is asked to."""

import logging

from django.core.files.storage import default_storage
from django.utils import timezone

from blog import pictures
from blog.models import Post

logger = logging.getLogger(__name__)


def make_thumbnails(*, post_id: int) -> bool:
    """Write the versions of a post's picture and mark them as there; say whether this call did it.

    The mark is a conditional UPDATE: versions of a picture that was replaced meanwhile do not count for the new one.
    A picture that is damaged or gone is marked as that, and not tried again: its post keeps the drawing.
    """
    waiting = Post.objects.filter(pk=post_id).waiting_for_thumbnails()
    name = waiting.values_list("picture", flat=True).first()
    if name is None:
        return False
    try:
        pictures.write_versions(name)
    except pictures.UnusableError as error:
        logger.error("No thumbnails of %s, the picture of post %d: %s", name, post_id, error)
        waiting.filter(picture=name).update(picture_unusable_since=timezone.now())
        return False
    return bool(waiting.filter(picture=name).update(thumbnails_made_at=timezone.now()))


def remove_picture_files(name: str) -> None:
    """Remove a picture and its versions, unless a post still shows it."""
    if not Post.objects.filter(picture=name).exists():
        for file in (name, *pictures.version_names(name)):
            default_storage.delete(file)
