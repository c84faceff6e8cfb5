"""Uploads: what an editor uploads, and what a worker makes of it, is served; nobody else of the host reads it."""

from __future__ import annotations

import re
import secrets
import struct
import zlib
from collections.abc import Callable, Iterator

import pytest
import requests
from conftest import APP, Site, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]
# One site has no need to show it on each of its hosts.
pytestmark = [pytest.mark.runs_on("edge", first=True)]

MEDIA = f"/srv/{APP}/media"
POST = "from blog.models import Author, Category, Post;"


def picture() -> bytes:
    """Return a small PNG."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = (b"\0" + secrets.token_bytes(3 * 64)) * 64
    head = struct.pack(">IIBBBBB", 64, 64, 8, 2, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


@pytest.fixture
def slug(manage: Callable[..., str], articles: None) -> Iterator[str]:
    """Return the slug of a post that is to be."""
    name = f"uploaded-{secrets.token_hex(6)}"
    yield name
    manage("shell", "-v0", "-c", f"{POST} [post.delete() for post in Post.objects.filter(slug='{name}')]")


def test_editors_picture_and_its_versions_are_served(
    edge_host: Host, site: Site, manage: Callable[..., str], inventory: dict[str, str], slug: str
) -> None:
    author, category = manage(
        "shell", "-v0", "-c", f"{POST} print(Author.objects.first().pk, Category.objects.first().pk)"
    ).split()
    with requests.Session() as browser:

        def send(path: str, fields: dict[str, str], **files: object) -> requests.Response:
            page = browser.get(site.url + path, timeout=30).text
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
            assert token, page[:2000]
            hidden = dict(
                re.findall(r'<input type="hidden" name="([\w-]+-TOTAL_FORMS|[\w-]+-INITIAL_FORMS)" value="(\d+)"', page)
            )
            fields = {"csrfmiddlewaretoken": token[1], **hidden, **fields}
            return browser.post(site.url + path, fields, files=files, headers={"Referer": site.url + path}, timeout=30)

        send("/admin/login/", {"username": "admin", "password": inventory["vault_demo_admin_password"]})
        fields = {"title": slug, "slug": slug, "summary": "s", "body": "b", "author": author, "category": category}
        fields |= {"status": "draft", "picture_alt": "noise"}
        answer = send("/admin/blog/post/add/", fields, picture=("a.png", picture(), "image/png"))
        assert answer.history, re.findall(r'class="errorlist"[^>]*>.*', answer.text) or answer.text[:3000]
    told = f"{POST} p = Post.objects.get(slug='{slug}'); print(p.picture.name, p.thumbnails_made_at is not None)"
    wait_until(lambda: manage("shell", "-v0", "-c", told).endswith("True"), "a worker makes the versions")
    name = manage("shell", "-v0", "-c", told).split()[0]
    stem = name.rpartition(".")[0]
    paths = edge_host.check_output("cd %s && find %s* -type f", MEDIA, stem).splitlines()
    assert len(paths) > 1, "the worker has made no versions"
    assert {path: site.get(f"/media/{path}").status_code for path in paths} == dict.fromkeys(paths, 200)


def test_others_of_the_host_read_no_upload_of_the_group(app_host: Host, site: Site, manage: Callable[..., str]) -> None:
    """Nginx reads what code has written for its group alone, in directories that were not there."""
    folder = secrets.token_hex(8)
    code = (
        "import os, pathlib; from django.conf import settings;"
        f"folder = pathlib.Path(settings.MEDIA_ROOT, '{folder}/2026/11'); folder.mkdir(parents=True);"
        "file = os.open(folder / 'a.txt', os.O_CREAT | os.O_WRONLY, 0o640); os.write(file, b'kept')"
    )
    manage("shell", "-v0", "-c", code)
    try:
        answer = site.get(f"/media/{folder}/2026/11/a.txt")
        assert (answer.status_code, answer.text) == (200, "kept")
        assert app_host.run("runuser -u nobody -- cat %s/%s/2026/11/a.txt", MEDIA, folder).failed
    finally:
        app_host.check_output("rm -r %s/%s", MEDIA, folder)
