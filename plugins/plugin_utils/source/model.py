"""What source is wanted, what was found, and why it cannot be had."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import unquote, urlsplit, urlunsplit


class SourceError(Exception):
    """What is wrong with the source: the variable that says it, and why."""

    def __init__(self, variable: str, why: str) -> None:
        super().__init__(why)
        self.variable = f"django_app_{variable}"


@dataclass(frozen=True)
class Wanted:
    """What the variables ask for."""

    type: str = "folder"
    source: str = ""
    version: str = ""
    archive_checksum: str = ""
    include_ignored: list[str] = field(default_factory=list)
    directory: str = ""
    requirements: list[str] = field(default_factory=list)
    extras: list[str] = field(default_factory=list)
    groups: list[str] = field(default_factory=list)
    install_project: bool = False
    install_command: bool = False
    manage: list[str] = field(default_factory=list)
    files: dict[str, str] = field(default_factory=dict)
    packages: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        """The source without the password that a URL may have in it."""
        return split_credentials(self.source)[0]


@dataclass(frozen=True)
class Found:
    """The source as one archive."""

    digest: str
    archive: str
    description: str
    commit: str
    files: int
    size: int
    missing: list[str]
    unlocked: list[str]
    faults: list[dict[str, str]]
    pythons: dict[str, str]
    installation: dict[str, Any]
    scm: dict[str, str]


def split_credentials(url: str) -> tuple[str, str, str]:
    """Return a URL without user and password, and these two; what is no http URL is left as it is."""
    if not re.match(r"https?://", url):
        return url, "", ""
    parts = urlsplit(url)
    user, _, host = parts.netloc.rpartition("@")
    name, _, password = user.partition(":")
    return urlunsplit(parts._replace(netloc=host)), unquote(name), unquote(password)
