"""Compress static files once, when the release is built, as far as that makes them smaller."""

from __future__ import annotations

import filecmp
import gzip
import hashlib
import math
import os
import shutil
import subprocess
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial

# What is not compressed in itself.
ENDINGS = (
    *(".css", ".csv", ".eot", ".geojson", ".htm", ".html", ".ico", ".js", ".json", ".map", ".md", ".mjs", ".otf"),
    *(".svg", ".ttf", ".txt", ".wasm", ".webmanifest", ".xml"),
)
LEAST = 512  # bytes below which there is nothing to gain
LARGE = 2**21  # bytes above which the last percent costs minutes


def smaller(text: bytes, packed: bytes) -> bytes:
    """Return what is packed, or nothing where it is hardly smaller."""
    return packed if len(packed) < 0.95 * len(text) else b""


def compress(text: bytes, deadline: float = math.inf) -> dict[str, bytes]:
    """Return what a file is compressed, by the ending of its name, or raise TimeoutExpired at the deadline."""
    level = "--quality=11" if len(text) <= LARGE else "--quality=9"
    command = ["brotli", level, "--stdout", "-"]
    left = None if deadline == math.inf else max(deadline - time.monotonic(), 0.1)
    brotli = subprocess.run(command, input=text, capture_output=True, check=True, timeout=left).stdout
    return {".gz": smaller(text, gzip.compress(text, 9, mtime=0)), ".br": smaller(text, brotli)}


def take_over(path: str, before: str) -> bool:
    """Copy what lies compressed beside `before`, when that is the same file; return whether it did."""
    packed = [ending for ending in (".gz", ".br") if os.path.isfile(before + ending)]
    if not packed or not os.path.isfile(before) or not filecmp.cmp(path, before, shallow=False):
        return False
    for ending in packed:
        if not os.path.exists(path + ending):
            shutil.copyfile(before + ending, path + ending)
            os.chmod(path + ending, 0o644)
    return True


def precompress(folder: str, before: str, deadline: float = math.inf) -> int:
    """Write NAME.gz and NAME.br beside the files in a folder, and return how many files have been compressed for that.

    The deadline is a time of time.monotonic(), after which it raises TimeoutExpired.

    Most files are those of the release before, which `before` is the static folder of: theirs are taken over.
    """
    wanted: dict[str, list[str]] = {}
    texts: dict[str, bytes] = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if not name.lower().endswith(ENDINGS) or os.path.islink(path) or os.path.getsize(path) < LEAST:
                continue
            if take_over(path, os.path.join(before, os.path.relpath(path, folder))):
                continue
            with open(path, "rb") as file:
                text = file.read()
            # A file lies there twice, with a fingerprint in its name and without.
            digest = hashlib.sha256(text).hexdigest()
            texts[digest] = text
            wanted.setdefault(digest, []).append(path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packed = dict(zip(texts, pool.map(partial(compress, deadline=deadline), texts.values()), strict=True))
    for digest, paths in wanted.items():
        for path in paths:
            for ending, content in packed[digest].items():
                # What the application has brought compressed, it may have done better.
                if content and not os.path.exists(path + ending):
                    with open(path + ending, "wb") as file:
                        file.write(content)
                    os.chmod(path + ending, 0o644)
    return sum(map(len, wanted.values()))
