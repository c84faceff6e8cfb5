"""The module secret_audit: what everybody can read, and what not."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ansible_collections.slipway.kit.plugins.modules import secret_audit as audit

SECRET = "s3cret/with+signs and blanks"
KEY = "-----BEGIN PRIVATE KEY-----\nMC4CAQAwBQYDK2VwBCIEIAMAkV3Qp0jXxVZ7b8h2c1Jk5m6n7o8p9q0r1s2t3u4v\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a folder that everybody can enter, which those of pytest are not."""
    tmp_path.chmod(0o755)
    monkeypatch.setattr(audit, "is_reachable", lambda _: True)
    return tmp_path


def put(path: Path, text: str, mode: int) -> None:
    """Write a file of a mode."""
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


def found_in(folder: Path, *secrets: str, keys: bool = True) -> list[str]:
    """Return what is found in a folder, by the names in it."""
    found = audit.find([SECRET, *secrets], [str(folder)], [str(folder)] if keys else [])
    return [line.removeprefix(f"{folder}/") for line in found]


def test_what_everybody_can_read_is_found(folder: Path) -> None:
    put(folder / "plain", f"password = {SECRET}\n", 0o644)
    put(folder / "url", "redis://user:s3cret%2Fwith%2Bsigns%20and%20blanks@host", 0o604)
    put(folder / "key", KEY, 0o644)
    put(folder / "closed", SECRET, 0o640)
    put(folder / "other", "nothing of interest", 0o644)
    assert found_in(folder) == [
        "key: a private key",
        "plain: a secret of the inventory",
        "url: a secret of the inventory",
    ]


def test_a_closed_folder_closes_what_is_in_it(folder: Path) -> None:
    put(folder / "closed/plain", SECRET, 0o644)
    assert found_in(folder) == ["closed/plain: a secret of the inventory"]
    (folder / "closed").chmod(0o750)
    assert found_in(folder) == []


def test_a_closed_folder_above_is_seen(tmp_path: Path) -> None:
    inner = tmp_path / "a/b"
    inner.mkdir(parents=True)
    for path in (tmp_path, *tmp_path.parents):
        if path.stat().st_mode & 0o001 == 0 and path.stat().st_uid == os.getuid() and "pytest" in str(path):
            path.chmod(0o711)
    assert audit.is_reachable(str(inner))
    (tmp_path / "a").chmod(0o700)
    assert not audit.is_reachable(str(inner))


def test_what_is_no_secret_is_left_alone(folder: Path) -> None:
    put(folder / "short", "yes", 0o644)
    put(folder / "public", KEY.replace("PRIVATE", "PUBLIC"), 0o644)
    put(folder / "words", "a file begins with -----BEGIN PRIVATE KEY----- and so on", 0o644)
    (folder / "link").symlink_to("/etc/shadow")
    assert found_in(folder, "yes") == []


def test_keys_are_looked_for_where_they_matter(folder: Path) -> None:
    put(folder / "example", KEY, 0o644)
    assert found_in(folder, keys=False) == []
