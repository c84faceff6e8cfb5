"""Nginx: what it serves itself, what it passes on, and what it refuses."""

from __future__ import annotations

import re

import pytest
import requests
from conftest import APP, Site, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]

SECURITY_HEADERS = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
}


@pytest.fixture(scope="module")
def stylesheet(site: Site) -> str:
    """Return the path of the page's stylesheet, with its fingerprint."""
    found = re.search(r'href="(/static/[^"]+\.[0-9a-f]{12}\.css)"', site.get("/").text)
    assert found, "the page names no stylesheet with a fingerprint"
    return found[1]


def test_fingerprinted_file_is_immutable(site: Site, stylesheet: str) -> None:
    answer = site.get(stylesheet)
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert answer.headers["Content-Type"].startswith("text/css")


def test_plain_file_is_not(site: Site, stylesheet: str) -> None:
    answer = site.get(re.sub(r"\.[0-9a-f]{12}\.", ".", stylesheet))
    assert answer.status_code == 200
    assert answer.headers["Cache-Control"] == "public, max-age=3600"


def test_missing_file_is_not_kept(site: Site) -> None:
    answer = site.get("/static/site.0123456789ab.css")
    assert answer.status_code == 404
    assert answer.headers["Cache-Control"] == "no-store"


@pytest.mark.parametrize("where", ["page", "fingerprinted file", "plain file", "missing file"])
def test_security_headers(site: Site, stylesheet: str, where: str) -> None:
    path = {
        "page": "/",
        "fingerprinted file": stylesheet,
        "plain file": "/static/site.css",
        "missing file": "/static/none",
    }[where]
    headers = requests.get(site.url + path, timeout=15).headers
    # Twice the same header comes as one with a comma.
    assert {name: headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


def test_version_is_not_told(site: Site) -> None:
    assert site.get("/").headers["Server"] == "nginx"


def test_text_is_compressed(site: Site, stylesheet: str) -> None:
    assert site.get(stylesheet, headers={"Accept-Encoding": "gzip"}).headers["Content-Encoding"] == "gzip"


def test_unknown_host_gets_no_answer(site: Site) -> None:
    with pytest.raises(requests.ConnectionError):
        site.get("/", headers={"Host": "evil.example"})


def test_request_may_have_a_long_head(site: Site) -> None:
    """What Nginx takes, gunicorn takes."""
    answer = site.get(f"/?q={'x' * 12000}", headers={"X-Long": "x" * 15000})
    assert answer.status_code == 200


@pytest.mark.parametrize(
    ("ask", "status", "says"),
    [
        ({"headers": {"X-Long": "x" * 20000}}, 400, "The request&#39;s headers are too large"),
        ({"params": {"q": "x" * 20000}}, 414, "The address is too long"),
    ],
    ids=["header", "line"],
)
def test_head_that_is_too_large_gets_the_page_of_the_site(
    site: Site, ask: dict[str, dict[str, str]], status: int, says: str
) -> None:
    answer = requests.get(site.url + "/", timeout=15, **ask)
    assert answer.status_code == status
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS
    assert "default-src 'none'" in answer.headers["Content-Security-Policy"]
    assert says.replace("&#39;", "'") in answer.text.replace("&#39;", "'")


def test_page_of_an_error_tells_nothing_of_who_wrote_it(site: Site) -> None:
    assert "nsible" not in site.get("/static/none").text


def test_uploads_cannot_be_pages(host: Host, site: Site) -> None:
    path = f"/srv/{APP}/media/probe.html"
    host.check_output("echo '<script>alert(1)</script>' >%s && chmod 644 %s", path, path)
    try:
        answer = site.get("/media/probe.html")
    finally:
        host.check_output("rm %s", path)
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"


def test_large_body_is_refused(site: Site) -> None:
    assert requests.post(site.url + "/accounts/login/", data=b"x" * (11 * 2**20), timeout=15).status_code == 413


def test_refuses_a_broken_configuration_and_goes_on(host: Host, site: Site) -> None:
    broken = "/etc/nginx/conf.d/zz-broken.conf"
    host.check_output("echo 'server {' >%s", broken)
    try:
        assert host.run("systemctl reload nginx").failed
        assert site.get("/").status_code == 200
    finally:
        host.check_output("rm %s", broken)
    assert host.run("systemctl reload nginx").succeeded


@pytest.mark.parametrize(
    ("directive", "reason"),
    [
        ("server { listen 8089; }", "bind() to 0.0.0.0:8089 failed"),
        # `nginx -t` is run by root, and Nginx in its sandbox.
        ("access_log /usr/local/share/slipway-nginx/access.log;", "Read-only file system"),
    ],
    ids=["port", "permission"],
)
def test_reload_that_nginx_cannot_do_fails(host: Host, site: Site, directive: str, reason: str) -> None:
    """`nginx -t` accepts it; Nginx says in its log alone that it goes on with the previous configuration."""
    extra = "/etc/nginx/conf.d/zz-test.conf"
    held = "import socket, time; server = socket.create_server(('', 8089)); time.sleep(600)"
    host.check_output("systemd-run --quiet --unit=slipway-test-port python3 -c %s", held)
    wait_until(lambda: host.run("ss -ltn | grep -q :8089").succeeded, "the port is held")
    try:
        host.check_output("echo %s >%s && nginx -t -q", directive, extra)
        assert host.run("systemctl reload nginx").failed
        said = host.check_output("journalctl --sync; journalctl --unit nginx --lines 20 --output cat")
        assert "reload failed: " in said and reason in said
        assert site.get("/").status_code == 200
    finally:
        host.check_output("rm -f %s /usr/local/share/slipway-nginx/access.log; systemctl stop slipway-test-port", extra)
    assert host.run("systemctl reload nginx").succeeded
