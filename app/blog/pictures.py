"""Pictures of posts: what is accepted, and the small versions that pages show.

An upload gets a name of its own, so a picture never changes under its name: what is made of it can be made again with
the same result, and browsers may keep it. Pages show the versions only, which are upright and without metadata; the
upload itself may be large and may say where it was taken.
"""

from io import BytesIO
from pathlib import PurePosixPath
from uuid import uuid4

from django.core.exceptions import ValidationError
from django.core.files.base import ContentFile
from django.core.files.storage import default_storage
from django.core.files.uploadedfile import UploadedFile
from django.db.models.fields.files import FieldFile
from PIL import Image, ImageOps, UnidentifiedImageError

FORMATS = {"JPEG": ".jpg", "PNG": ".png", "WEBP": ".webp"}
MAX_BYTES = 10 * 1024 * 1024
# A file of few bytes may unpack to gigabytes; this many pixels take 160 MB.
MAX_PIXELS = 40_000_000
WIDTHS = (480, 960, 1600)
QUALITY = 78


def upload_name(post: object, filename: str) -> str:
    """Return the place of an upload: nothing of the name that the uploader gave it."""
    return f"pictures/{uuid4().hex}{PurePosixPath(filename).suffix.lower()}"


def validate_picture(file: FieldFile | UploadedFile) -> None:
    """Refuse what is not a picture of an accepted format and size, whatever its name says.

    Raises:
        ValidationError: It is not.
    """
    if file.size > MAX_BYTES:
        raise ValidationError(f"The picture has {file.size / 2**20:.1f} MiB; at most {MAX_BYTES // 2**20} are taken.")
    position = file.tell()
    try:
        # Opening reads the head of the file only.
        with Image.open(file, formats=list(FORMATS)) as picture:
            pixels, suffix = picture.width * picture.height, FORMATS[str(picture.format)]
    except (UnidentifiedImageError, Image.DecompressionBombError, OSError) as error:
        raise ValidationError("This is no picture in one of the formats JPEG, PNG and WebP.") from error
    finally:
        file.seek(position)
    if pixels > MAX_PIXELS:
        raise ValidationError(
            f"The picture has {pixels / 10**6:.0f} million pixels; at most {MAX_PIXELS // 10**6} are taken."
        )
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
        OSError: The file is gone, or cannot be read as a picture.
    """
    with default_storage.open(name) as file, Image.open(file, formats=list(FORMATS)) as opened:
        picture = ImageOps.exif_transpose(opened).convert("RGB")
        for width in WIDTHS:
            version = picture.copy()
            version.thumbnail((width, width * 2), Image.Resampling.LANCZOS)
            data = BytesIO()
            version.save(data, "WEBP", quality=QUALITY, method=4)
            # A task that was cut here left half a file.
            default_storage.delete(version_name(name, width))
            default_storage.save(version_name(name, width), ContentFile(data.getvalue()))
