"""What each kind of answer says, on both releases: headers, compression, validators, the log."""

from __future__ import annotations

import gzip
import json
import re
import secrets
import select
import socket
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import pytest
import requests
from conftest import APP, Playbooks, Site, wait_until
from edge_hosts import CDN, EDGES, connect, log_of, visit
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]

# Of every answer; each once.
EVERYWHERE = {
    "Server": "nginx",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",
    "Permissions-Policy": "camera=(), geolocation=(), microphone=(), payment=(), usb=()",
}
FOREVER = "public, max-age=31536000, immutable"
STATIC = {
    "Access-Control-Allow-Origin": "*",
    "Timing-Allow-Origin": "*",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Last-Modified": None,
    "X-Request-ID": None,
}
ERROR = {
    "Cache-Control": "no-store",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Content-Type": "text/html; charset=utf-8",
    "ETag": None,
}
PAGE = {"Cross-Origin-Resource-Policy": "same-origin", "ETag": re.compile('W/"[0-9a-f]{32}"|None')}


@pytest.fixture(scope="module")
def names(host: Host, site: Site) -> Iterator[dict[str, str]]:
    """Return the paths of a style sheet, with its fingerprint and without, of a font, and of an uploaded file."""
    found = re.search(r'href="[^"]*(/static/site\.[0-9a-f]{12}\.css)"', site.get("/").text)
    assert found, "the page names no stylesheet with a fingerprint"
    font, upload = f"/srv/{APP}/static/probe.0123456789ab.woff2", f"/srv/{APP}/media/probe.html"
    host.check_output("echo font >%s && mkdir -p /srv/%s/media && echo '<b>' >%s", font, APP, upload)
    host.check_output("chmod 644 %s %s", font, upload)
    yield {
        "fingerprinted": found[1],
        "plain": re.sub(r"\.[0-9a-f]{12}\.", ".", found[1]),
        "font": "/static/probe.0123456789ab.woff2",
        "media": "/media/probe.html",
    }
    host.check_output("rm %s %s", font, upload)


def flood(site: Site) -> requests.Response:
    """Register until that is too often."""
    for _ in range(20):
        answer = requests.post(site.url + "/accounts/register/", timeout=15)
        if answer.status_code == 429:
            return answer
        assert answer.status_code == 403  # from the application: the form's token is missing
    raise AssertionError("nobody said that it was too often")


def unchanged(site: Site, path: str) -> requests.Response:
    """Ask for what is there already."""
    return site.get(path, headers={"If-None-Match": site.get(path).headers["ETag"]})


Ask = Callable[[Site, dict[str, str]], requests.Response]
# What is asked for, the status, and what its answer says beside what every answer says; None is what it must not say.
KINDS: dict[str, tuple[Ask, int, dict[str, object]]] = {
    "page": (lambda site, _: site.get("/posts/"), 200, PAGE | {"Cache-Control": re.compile("public, .*s-maxage=.*")}),
    "personal page": (
        lambda site, _: site.get("/posts/", headers={"Cookie": "sessionid=x"}),
        200,
        PAGE | {"Cache-Control": "private, no-cache"},
    ),
    "fingerprinted": (
        lambda site, names: site.get(names["fingerprinted"]),
        200,
        STATIC | {"Cache-Control": FOREVER, "Content-Type": "text/css", "Vary": "Accept-Encoding"},
    ),
    "plain": (
        lambda site, names: site.get(names["plain"]),
        200,
        STATIC | {"Cache-Control": "public, max-age=3600", "Vary": "Accept-Encoding"},
    ),
    "font": (
        lambda site, names: site.get(names["font"]),
        200,
        STATIC | {"Cache-Control": FOREVER, "Content-Type": "font/woff2"},
    ),
    "part": (
        lambda site, names: site.get(
            names["fingerprinted"], headers={"Range": "bytes=0-9", "Accept-Encoding": "identity"}
        ),
        206,
        STATIC | {"Content-Length": "10", "Content-Range": re.compile(r"bytes 0-9/\d+")},
    ),
    "304": (
        lambda site, names: unchanged(site, names["fingerprinted"]),
        304,
        STATIC | {"Cache-Control": FOREVER, "Vary": "Accept-Encoding"},
    ),
    "media": (
        lambda site, names: site.get(names["media"]),
        200,
        {
            "Content-Security-Policy": "default-src 'none'; sandbox; frame-ancestors 'none'",
            "Cache-Control": "public, max-age=3600",
        },
    ),
    "301": (
        lambda site, _: site.get("/old/", allow_redirects=False),
        301,
        {"Location": "/posts/", "Cross-Origin-Resource-Policy": "same-origin"},
    ),
    "302 of the application": (
        lambda site, _: site.get("/admin/", allow_redirects=False),
        302,
        {"Location": "/admin/login/?next=/admin/", "Cache-Control": re.compile(".*no-store.*")},
    ),
    "404 of the application": (
        lambda site, _: site.get("/no-such-page"),
        404,
        {"Cache-Control": "public, max-age=10", "Cross-Origin-Resource-Policy": "same-origin"},
    ),
    "404": (lambda site, _: site.get("/static/site.0123456789ab.css"), 404, ERROR),
    "405": (lambda site, _: requests.post(site.url + "/static/site.css", timeout=15), 405, ERROR),
    "413": (
        lambda site, _: requests.post(site.url + "/accounts/login/", data=b"x" * (11 * 2**20), timeout=15),
        413,
        ERROR,
    ),
    "429": (lambda site, _: flood(site), 429, ERROR | {"Retry-After": "10"}),
    "502": (lambda site, _: site.get("/gone/"), 502, ERROR | {"Retry-After": None}),
}


@pytest.mark.parametrize("kind", KINDS)
def test_headers(site: Site, names: dict[str, str], kind: str) -> None:
    ask, status, own = KINDS[kind]
    answer = ask(site, names)
    assert answer.status_code == status
    for name, value in (EVERYWHERE | own).items():
        said = answer.raw.headers.getlist(name)
        if isinstance(value, re.Pattern):
            assert len(said) <= 1 and value.fullmatch(str(said[0] if said else None)), (name, said)
        else:
            assert said == ([] if value is None else [value]), name
    policies = answer.raw.headers.getlist("Content-Security-Policy")
    assert len(policies) == 1 and "frame-ancestors 'none'" in policies[0] and "unsafe" not in policies[0]


def test_page_of_an_error_is_styled_by_its_nonce(site: Site) -> None:
    answer = site.get("/static/none")
    nonce = re.search(r"'nonce-([0-9a-f]{32})'", answer.headers["Content-Security-Policy"])
    assert nonce and f'<style nonce="{nonce[1]}">' in answer.text
    assert "There is nothing at this address." in answer.text and answer.headers["X-Request-ID"] in answer.text
    assert "<!--#" not in answer.text


def test_files_were_compressed_once(site: Site, names: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    """And are the same file when they are unpacked; nothing is packed that is small already."""
    plain = site.get(names["fingerprinted"], headers={"Accept-Encoding": "identity"})
    assert "Content-Encoding" not in plain.headers
    sizes = {"identity": len(plain.content)}
    for encoding in ("br", "gzip"):
        with requests.get(
            site.url + names["fingerprinted"], headers={"Accept-Encoding": encoding}, stream=True, timeout=15
        ) as answer:
            assert answer.headers["Content-Encoding"] == encoding
            packed = answer.raw.read(decode_content=False)
        # It has a length: it lay there. What is packed on the way has none.
        assert int(answer.headers["Content-Length"]) == len(packed)
        unpacked = gzip.decompress(packed) if encoding == "gzip" else unbrotli(packed)
        assert unpacked == plain.content
        sizes[encoding] = len(packed)
    assert sizes["br"] < sizes["gzip"] < sizes["identity"]
    with capsys.disabled():
        print(f"\nbytes of {names['fingerprinted']}: {sizes}")
    assert "Content-Encoding" not in site.get(names["font"], headers={"Accept-Encoding": "br, gzip"}).headers


def unbrotli(packed: bytes) -> bytes:
    """Unpack by the host that built it: this machine may not know the format."""
    done = subprocess.run(
        ["podman", "exec", "--interactive", "slipway-edge-first", "brotli", "--decompress", "--stdout", "-"],
        input=packed, capture_output=True, check=True,
    )  # fmt: skip
    return done.stdout


@pytest.mark.parametrize("encoding", ["identity", "gzip", "br"])
def test_edges_agree_on_validators(names: dict[str, str], encoding: str) -> None:
    """A CDN that asks another edge the next time is not told that the file is another one."""
    for path in (names["fingerprinted"], names["plain"], "/static/favicon.svg"):
        etags = {
            requests.get(f"http://{address}{path}", headers={"Accept-Encoding": encoding}, timeout=15).headers["ETag"]
            for address in EDGES.values()
        }
        assert len(etags) == 1 and not etags.pop().startswith("W/"), path


def test_visitor_cannot_be_somebody_else(host: Host, site: Site, playbook: Playbooks) -> None:
    """Whom a request comes from, its scheme and its id are what the CDN says, and nobody else's word counts."""
    outside = connect(playbook, "outside")
    word, chosen = secrets.token_hex(8), secrets.token_hex(8)
    said = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "https", "X-Request-ID": chosen}
    answer = site.get(f"/posts/?{word}", headers=said)
    (entry,) = log_of(host, f"?{word}")
    assert entry["remote_addr"] == entry["proxy"] != "203.0.113.9"
    assert entry["scheme"] == "http" and entry["request_id"] == answer.headers["X-Request-ID"] != chosen

    word = secrets.token_hex(8)
    _, head = visit(
        outside, f"{site.url}/posts/?{word}",
        *("-H", "X-Forwarded-For: 192.0.2.1, 203.0.113.9", "-H", "X-Forwarded-Proto: https"),
        *("-H", f"X-Request-ID: {chosen}"),
    )  # fmt: skip
    (entry,) = log_of(host, f"?{word}")
    assert (entry["remote_addr"], entry["proxy"]) == ("203.0.113.9", CDN.url.removeprefix("http://"))
    assert entry["scheme"] == "https" and entry["request_id"] == chosen
    assert f"X-Request-ID: {chosen}" in head
    # An id that is no id is not taken over, from nobody.
    _, head = visit(outside, f"{site.url}/posts/", "-H", 'X-Request-ID: "},{"a":"')
    assert re.search(r"X-Request-ID: [0-9a-f]{32}\b", head)


FORGED = {
    "Forwarded": "for=203.0.113.9;proto=https",
    "X-Forwarded-For": "203.0.113.9",
    "X-Forwarded-Host": "evil.example",
    "X-Forwarded-Port": "4443",
    "X-Forwarded-Proto": "https",
    "X-Forwarded-Protocol": "ssl",
    "X-Forwarded-Ssl": "on",
    "X-Forwarded-User": "admin",
    "X-Real-IP": "203.0.113.9",
    "X-Client-IP": "203.0.113.9",
    "CF-Connecting-IP": "203.0.113.9",
    "True-Client-IP": "203.0.113.9",
    "Remote-User": "admin",
    "X-Original-URL": "/admin/",
}


@pytest.mark.parametrize("edge", EDGES)
def test_application_is_told_the_same_by_every_edge(playbook: Playbooks, edge: str) -> None:
    """One edge is on a host of the application, the other is not; what a client says of itself reaches neither."""
    url = f"http://{EDGES[edge]}/seen/"
    told = requests.get(url, headers=FORGED, timeout=15).json()
    own = told["facts"]["REMOTE_ADDR"]
    assert own.startswith("10.89.17.") and own not in EDGES.values()
    assert told["secure"] is False
    assert told["facts"] == {
        "REMOTE_ADDR": own, "SERVER_NAME": EDGES[edge], "SERVER_PORT": "80", "wsgi.url_scheme": "http",
    }  # fmt: skip
    known = {"x-forwarded-for": own, "x-real-ip": own, "x-forwarded-host": EDGES[edge], "x-forwarded-proto": "http"}
    for name in FORGED:
        assert told["headers"].get(name.lower()) == known.get(name.lower()), name
    # The CDN is believed.
    said = [f"{name}: {value}" for name, value in FORGED.items()]
    words = " ".join("-H %s" for _ in said)
    answer = connect(playbook, "outside").check_output(f"curl -sS --max-time 15 {words} %s", *said, url)
    told = json.loads(answer)
    assert told["secure"] is True and told["headers"]["x-forwarded-user"] == "admin"
    assert told["facts"] == {
        "REMOTE_ADDR": "203.0.113.9", "SERVER_NAME": EDGES[edge], "SERVER_PORT": "443", "wsgi.url_scheme": "https",
    }  # fmt: skip
    assert "remote-user" not in told["headers"] and told["headers"]["x-forwarded-host"] == EDGES[edge]


@pytest.mark.parametrize("edge", EDGES)
def test_cookies_of_a_login_fit(edge: str) -> None:
    """An answer sets cookies of 12 kB, and the browser sends them back with a long address."""
    url = f"http://{EDGES[edge]}/seen/"
    with requests.Session() as browser:
        assert len(browser.get(f"{url}?cookies=3", timeout=15).cookies) == 3
        told = browser.get(f"{url}?q={'x' * 12000}", timeout=15)
        assert told.status_code == 200 and len(told.json()["headers"]["cookie"]) > 11000
    # More than fits is told by the site's page.
    answer = requests.get(f"{url}?cookies=9", timeout=15)
    assert answer.status_code == 502 and answer.headers["X-Frame-Options"] == "DENY"
    assert answer.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize("edge", EDGES)
def test_health_is_answered_to_who_asks_by_an_address(playbook: Playbooks, edge: str) -> None:
    url = f"http://{EDGES[edge]}"
    asks = {"Host": "192.0.2.99"}
    assert requests.get(f"{url}/healthz", headers=asks, timeout=15).status_code == 200
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{url}/", headers=asks, timeout=15)
    host = connect(playbook, edge)
    host.check_output("touch /run/slipway-leaving")
    try:
        assert requests.get(f"{url}/healthz", headers=asks, timeout=15).status_code == 503
        # The inventory allows this machine alone.
        other = connect(playbook, next(name for name in EDGES if name != edge))
        ask = (
            "import http.client, sys; connection = http.client.HTTPConnection(sys.argv[1]);"
            " connection.request('GET', '/healthz', headers={'Host': '192.0.2.99'});"
            " print(connection.getresponse().status)"
        )
        assert other.check_output("python3 -c %s %s", ask, EDGES[edge]) == "403"
    finally:
        host.check_output("rm /run/slipway-leaving")


def test_addresses_may_have_any_letters(site: Site) -> None:
    for written in ("/über uns/", "/%C3%BCber%20uns/"):
        answer = site.get(written, allow_redirects=False)
        assert (answer.status_code, answer.headers["Location"]) == (301, "/gesehen%20%C3%A4/")
    assert site.get("/über uns/").status_code == 200


def test_uploads_of_a_type_may_have_a_policy_of_their_own(host: Host, site: Site) -> None:
    folder = f"/srv/{APP}/media"
    host.check_output("mkdir -p %s && cd %s && touch a.pdf a.txt a.svg && chmod 644 a.*", folder, folder)
    try:
        said = {name: site.get(f"/media/{name}").headers["Content-Security-Policy"] for name in ("a.txt", "a.svg")}
    finally:
        host.check_output("cd %s && rm a.pdf a.txt a.svg", folder)
    assert said["a.txt"] == "default-src 'none'; frame-ancestors 'self'"
    assert said["a.svg"] == "default-src 'none'; sandbox; frame-ancestors 'none'"


def test_log_is_json_with_times_and_is_rotated(host: Host, site: Site) -> None:
    word = secrets.token_hex(8)
    site.get(f'/posts/?{word}"\\', headers={"User-Agent": 'a "quoted" \\ agent'})
    (entry,) = log_of(host, word)
    assert entry["status"] == 200 and entry["agent"] == 'a "quoted" \\ agent'
    assert 0 < float(entry["upstream_response_time"]) <= entry["request_time"] + 0.01
    host.check_output("logrotate --force /etc/logrotate.d/nginx")
    assert host.file("/var/log/nginx/access.log.1").size > 0
    word = secrets.token_hex(8)
    site.get(f"/posts/?{word}")
    wait_until(lambda: log_of(host, word), "an entry in the new log")


def test_figures_are_for_this_host_alone(host: Host, site: Site) -> None:
    ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8081/status').read().decode())"
    assert "Active connections" in host.check_output("python3 -c %s", ask)
    with pytest.raises(requests.ConnectionError):
        requests.get(f"{site.url}:8081/status", timeout=5)


def test_pages_are_kept_for_those_who_are_nobody(host: Host, site: Site) -> None:
    path = f"/shop/?{secrets.token_hex(8)}"

    def cached(**headers: str) -> str:
        return site.get(path, headers=headers).headers["X-Cache"]

    assert [cached(Cookie="sessionid=x"), cached(Authorization="Basic eDp5")] == ["BYPASS", "BYPASS"]
    # Nothing of that was kept.
    assert [cached(), cached()] == ["MISS", "HIT"]
    assert [cached(Cookie="a=b; sessionid=x"), cached(Cookie="csrftoken=x"), cached()] == ["BYPASS", "BYPASS", "HIT"]
    assert "X-Cache" not in site.get("/posts/").headers
    # An answer that is for one visitor is not kept, whatever the path.
    assert [site.get("/shop/none/").headers.get("X-Cache") for _ in range(2)][0] == "MISS"


def test_many_who_ask_at_once_are_one_request(host: Host, site: Site) -> None:
    word = secrets.token_hex(8)
    with ThreadPoolExecutor(12) as pool:
        answers = list(pool.map(lambda _: site.get(f"/shop/?{word}"), range(12)))
    assert {answer.status_code for answer in answers} == {200}
    assert sum(bool(entry["upstream"]) for entry in log_of(host, word)) == 1


def test_logins_have_a_limit_and_pages_have_not(site: Site) -> None:
    statuses = [requests.post(site.url + "/accounts/login/", timeout=15).status_code for _ in range(10)]
    assert 403 in statuses and statuses[-1] == 429
    assert site.get("/accounts/login/").status_code == 200


def test_connections_of_one_address_have_a_limit(inventory: dict[str, str], site: Site) -> None:
    """A hundred requests that are under way are let be; the next are told to wait, whoever asks."""
    head = f"POST /posts/ HTTP/1.1\r\nHost: {inventory['ansible_host']}\r\nContent-Length: 10\r\n\r\n"
    with ExitStack() as stack:
        sockets = [
            stack.enter_context(socket.create_connection((inventory["ansible_host"], 80), timeout=15))
            for _ in range(110)
        ]
        for connection in sockets:
            connection.sendall(head.encode())
        wait_until(lambda: len(select.select(sockets, [], [], 0)[0]) == 10, "ten answers")
        answered = select.select(sockets, [], [], 0)[0]
        assert {connection.recv(12) for connection in answered} == {b"HTTP/1.1 429"}
        assert site.get("/posts/").status_code == 429
    wait_until(lambda: site.get("/posts/").status_code == 200, "an end of it")


def test_inventory_adds_to_the_site(site: Site) -> None:
    assert site.get("/robots.txt").text == "User-agent: *\nDisallow: /admin/\n"
    assert site.get("/again/").text == "extra server\n"
    assert site.get("/elsewhere", allow_redirects=False).headers["Location"] == "https://other.example.com/"


def test_configuration_has_no_known_weakness(host: Host) -> None:
    done = subprocess.run(
        ["gixy", "-"], input=host.check_output("nginx -T 2>/dev/null"), capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_configuration_has_no_warning(host: Host) -> None:
    assert "[warn]" not in host.run("nginx -t").stderr
