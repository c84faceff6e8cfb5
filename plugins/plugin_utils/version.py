"""The version of Slipway, which stands in galaxy.yml alone."""

from __future__ import annotations

import json
import re
from functools import cache
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parents[2]


@cache
def kit_version(root: Path = ROOT) -> str:
    """Return the version, as in "1.0.0".

    A checkout has galaxy.yml; ansible-galaxy writes MANIFEST.json in its place where it installs the collection.
    """
    if (source := root / "galaxy.yml").exists():
        return str(yaml.safe_load(source.read_text(encoding="utf-8"))["version"])
    manifest = json.loads((root / "MANIFEST.json").read_text(encoding="utf-8"))
    return str(manifest["collection_info"]["version"])


def is_newer(one: str, other: str) -> bool:
    """Tell whether a version is newer than another; only numbers count, so 1.10 is newer than 1.9."""
    first, second = ([int(number) for number in re.findall(r"\d+", text)] for text in (one, other))
    return first > second
