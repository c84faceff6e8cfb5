"""Archives, here or on a web server, downloaded and unpacked."""

from __future__ import annotations

import hashlib
import lzma
import os
import re
import stat
import tarfile
import zipfile
import zlib
from pathlib import Path

from ansible.errors import AnsibleError
from ansible.module_utils.urls import open_url

from ansible_collections.slipway.kit.plugins.plugin_utils.source.model import SourceError, Wanted, split_credentials
from ansible_collections.slipway.kit.plugins.plugin_utils.source.paths import LINK_SIZE, inside, place_file, place_link

UNPACK_ERRORS = (
    *(OSError, EOFError, tarfile.TarError, zipfile.BadZipFile, zipfile.LargeZipFile, zlib.error, lzma.LZMAError),
    *(RuntimeError, NotImplementedError),  # of a zip file that is encrypted, or compressed in an unknown way
)


def unpack(archive: Path, folder: Path) -> None:
    """Unpack a tar or zip file; nothing is written outside of the folder, and no link leads there."""
    folder.mkdir()
    if tarfile.is_tarfile(archive):
        with tarfile.open(archive) as tar:
            for member in tar:
                unpack_member(tar, member, folder)
    elif zipfile.is_zipfile(archive):
        with zipfile.ZipFile(archive) as bundle:
            for entry in bundle.infolist():
                mode = entry.external_attr >> 16
                if entry.is_dir():
                    continue
                if stat.S_IFMT(mode) not in (0, stat.S_IFREG, stat.S_IFLNK) or (
                    stat.S_ISLNK(mode) and entry.file_size > LINK_SIZE
                ):
                    raise SourceError(
                        "source", f"has something that is neither a file nor a folder nor a link: {entry.filename}"
                    )
                if stat.S_ISLNK(mode):
                    place_link(folder, entry.filename, os.fsdecode(bundle.read(entry)))
                    continue
                with bundle.open(entry) as content:
                    place_file(folder, entry.filename, content, bool(mode & stat.S_IXUSR))
    else:
        raise SourceError(
            "source", f"is neither a tar file (.tar, .tar.gz, .tar.bz2, .tar.xz) nor a zip file: {archive.name}"
        )


def unpack_member(tar: tarfile.TarFile, member: tarfile.TarInfo, folder: Path) -> None:
    """Unpack one member of a tar file."""
    if member.isdir():
        inside(member.name)
    elif member.issym():
        place_link(folder, member.name, member.linkname)
    elif member.isreg() or member.islnk():
        try:
            content = tar.extractfile(member)  # of a hard link, that of the file that it names
        except KeyError:
            content = None
        if content is None:
            raise SourceError("source", f"has a link to a file that is not in it: {member.name}")
        place_file(folder, member.name, content, bool(member.mode & stat.S_IXUSR))
    else:
        raise SourceError("source", f"has something that is neither a file nor a folder nor a link: {member.name}")


def fetch(wanted: Wanted, target: Path) -> None:
    """Bring the archive here, and hold it to its checksum."""
    digest = hashlib.sha256()
    try:
        if re.match(r"https?://", wanted.source):
            address, user, password = split_credentials(wanted.source)
            content = open_url(
                address,
                timeout=60,
                url_username=user or None,
                url_password=password or None,
                force_basic_auth=bool(user),
            )
        else:
            content = open(wanted.source, "rb")  # noqa: SIM115 (closed below)
        with content, target.open("wb") as file:
            while chunk := content.read(1 << 20):
                digest.update(chunk)
                file.write(chunk)
    except (OSError, ValueError, AnsibleError) as error:
        raise SourceError("source", f"cannot be read: {wanted.address}: {error}") from error
    if wanted.archive_checksum and wanted.archive_checksum.lower() != f"sha256:{digest.hexdigest()}":
        raise SourceError(
            "archive_checksum",
            f"is not that of {wanted.address}, which has sha256:{digest.hexdigest()}: write this if it is right",
        )
