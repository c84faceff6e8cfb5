"""Compress static files once, when the release is built, as far as that makes them smaller."""

from __future__ import annotations

import gzip
import hashlib
import os
import subprocess
from concurrent.futures import ThreadPoolExecutor

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


def compress(text: bytes) -> dict[str, bytes]:
    """Return what a file is compressed, by the ending of its name."""
    level = "--quality=11" if len(text) <= LARGE else "--quality=9"
    brotli = subprocess.run(["brotli", level, "--stdout", "-"], input=text, capture_output=True, check=True).stdout
    return {".gz": smaller(text, gzip.compress(text, 9, mtime=0)), ".br": smaller(text, brotli)}


def precompress(folder: str) -> int:
    """Write NAME.gz and NAME.br beside the files in a folder, and return how many files have them."""
    wanted: dict[str, list[str]] = {}
    texts: dict[str, bytes] = {}
    for top, _, names in os.walk(folder):
        for name in names:
            path = os.path.join(top, name)
            if not name.lower().endswith(ENDINGS) or os.path.islink(path) or os.path.getsize(path) < LEAST:
                continue
            with open(path, "rb") as file:
                text = file.read()
            # A file lies there twice, with a fingerprint in its name and without.
            digest = hashlib.sha256(text).hexdigest()
            texts[digest] = text
            wanted.setdefault(digest, []).append(path)
    with ThreadPoolExecutor(os.cpu_count()) as pool:
        packed = dict(zip(texts, pool.map(compress, texts.values()), strict=True))
    for digest, paths in wanted.items():
        for path in paths:
            for ending, content in packed[digest].items():
                # What the application has brought compressed, it may have done better.
                if content and not os.path.exists(path + ending):
                    with open(path + ending, "wb") as file:
                        file.write(content)
                    os.chmod(path + ending, 0o644)
    return sum(map(len, wanted.values()))
