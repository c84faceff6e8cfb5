"""Pictures of posts: what is accepted, and the small versions that pages show.

An upload gets a name of its own, so a picture never changes under its name: what is made of it can be made again with
the same result, and browsers may keep it. Pages show the versions only, which are upright and without metadata; the
upload itself may be large and may say where it was taken.
"""

import struct
import zlib
from io import BytesIO
from pathlib import Path, PurePosixPath
from typing import IO
from uuid import uuid4

from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db.models.fields.files import FieldFile
from PIL import Image, ImageOps

FORMATS = ("JPEG", "PNG", "WEBP")
# A JPEG with others behind it, as some cameras make, is an MPO to Pillow.
SUFFIXES = {"JPEG": ".jpg", "MPO": ".jpg", "PNG": ".png", "WEBP": ".webp"}
MAX_BYTES = 10 * 1024 * 1024
# A file of few bytes may unpack to gigabytes; this many pixels take 160 MB.
MAX_PIXELS = 40_000_000
WIDTHS = (480, 960, 1600)
QUALITY = 78
# What Pillow raises over files that are not what they seem. Neither a lack of memory nor the time limit is among it.
DAMAGE = (
    *(OSError, EOFError, LookupError, SyntaxError, TypeError, ValueError),
    *(struct.error, zlib.error, Image.DecompressionBombError),
)


def upload_name(post: object, filename: str) -> str:
    """Return the place of an upload: nothing of the name that the uploader gave it."""
    return f"pictures/{uuid4().hex}{PurePosixPath(filename).suffix.lower()}"


class UnusableError(Exception):
    """A picture is none that is accepted, or damaged, or gone: trying again does not help."""


def read_picture(file: IO[bytes]) -> Image.Image:
    """Return a picture, upright. All of it is unpacked: the head of a file says nothing of damage behind it.

    Raises:
        UnusableError: It has another format, too many pixels, or is damaged.
    """
    try:
        # This reads the head only, so what is too large is not unpacked.
        picture = Image.open(file, formats=FORMATS)
        pixels = picture.width * picture.height
        if pixels <= MAX_PIXELS:
            picture.load()
            ImageOps.exif_transpose(picture, in_place=True)
    except DAMAGE as error:
        raise UnusableError("This is no picture in one of the formats JPEG, PNG and WebP, or it is damaged.") from error
    if pixels > MAX_PIXELS:
        raise UnusableError(
            f"The picture has {pixels / 10**6:.0f} million pixels; at most {MAX_PIXELS // 10**6} are taken."
        )
    return picture


def validate_picture(file: FieldFile | UploadedFile) -> None:
    """Refuse an upload that is not a whole picture of an accepted format and size, whatever its name says.

    Raises:
        ValidationError: It is not.
    """
    if getattr(file, "_committed", False):
        # It is stored, and was looked at when it came: a change of the text does not wait for it.
        return
    if file.size > MAX_BYTES:
        raise ValidationError(f"The picture has {file.size / 2**20:.1f} MiB; at most {MAX_BYTES // 2**20} are taken.")
    position = file.tell()
    try:
        suffix = SUFFIXES[str(read_picture(file).format)]
    except UnusableError as error:
        raise ValidationError(str(error)) from error
    finally:
        file.seek(position)
    if PurePosixPath(file.name).suffix.lower() not in (suffix, ".jpeg" if suffix == ".jpg" else suffix):
        raise ValidationError(f"The name of the picture has to end with {suffix}, which is what it is.")


def version_name(name: str, width: int) -> str:
    """Return the name of a picture's version of this width."""
    return f"{name.rpartition('.')[0]}-{width}.webp"


def version_names(name: str) -> list[str]:
    """Return the names of all versions of a picture."""
    return [version_name(name, width) for width in WIDTHS]


def write_versions(name: str) -> None:
    """Write all versions of a picture. One that is narrower than a version is not enlarged.

    Raises:
        UnusableError: The file is damaged, or gone.
        OSError: The storage failed.
    """
    try:
        # All of it first: what fails from here to there is the storage, and what fails after it is the picture.
        with default_storage.open(name) as file:
            data = file.read()
    except FileNotFoundError as error:
        raise UnusableError("The picture is gone.") from error
    picture = read_picture(BytesIO(data)).convert("RGB")
    for width in WIDTHS:
        version = picture.copy()
        version.thumbnail((width, width * 2), Image.Resampling.LANCZOS)
        written = BytesIO()
        version.save(written, "WEBP", quality=QUALITY, method=4)
        _put(version_name(name, width), written.getvalue())


def _put(name: str, data: bytes) -> None:
    """Store a file in one step, in place of one that is there: nobody who asks for it ever gets half of it."""
    path = Path(default_storage.path(name))
    part = path.with_suffix(f".{uuid4().hex}")
    try:
        part.write_bytes(data)
        part.chmod(settings.FILE_UPLOAD_PERMISSIONS)
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)
