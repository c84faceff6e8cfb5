"""Uploads, in directories that are not there yet, as a field with a nested upload_to writes them and as code does."""

import os
import secrets

from django.conf import settings
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage


def keep(text: str) -> list[str]:
    """Write files with `text`, and return their paths below MEDIA_ROOT."""
    folder = secrets.token_hex(8)
    names = [default_storage.save(f"{folder}/2026/11/30/note.txt", ContentFile(text))]
    for name, mode in (("group.txt", 0o640), ("plain.txt", 0o666)):
        os.makedirs(f"{settings.MEDIA_ROOT}/{folder}/made/{mode:o}")
        path = f"{settings.MEDIA_ROOT}/{folder}/made/{mode:o}/{name}"
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "w") as file:
            file.write(text)
        os.replace(path, f"{settings.MEDIA_ROOT}/{folder}/{name}")
        names.append(f"{folder}/{name}")
    return names
