"""What operators do to the edge, and what happens to it: drain, maintenance, deploys behind a CDN, hosts that die."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import requests
from conftest import APP, Playbooks, Site, changes, journal, wait_until
from edge_hosts import APPS, CDN, EDGES, Load, connect, container, log_of, source, visit
from testinfra.host import Host

testinfra_hosts = ["ansible://first"]
pytestmark = pytest.mark.disruptive

SITES = {name: Site(f"http://{address}") for name, address in EDGES.items()}


@pytest.fixture(scope="module")
def edges(playbook: Playbooks) -> dict[str, Host]:
    """Return the hosts that have Nginx."""
    return {name: connect(playbook, name) for name in EDGES}


@pytest.fixture(scope="module")
def outside(playbook: Playbooks) -> Host:
    """Return the host that is the CDN."""
    return connect(playbook, "outside")


@pytest.fixture(scope="module")
def run(playbook: Playbooks) -> Callable[..., str]:
    """Return a function that runs a playbook, which must succeed, and returns what it said."""

    def to_its_end(*words: str) -> str:
        done = playbook(*words)
        assert done.returncode == 0, done.stdout[-6000:]
        return done.stdout

    return to_its_end


def say(**variables: object) -> list[str]:
    """Return the words that give variables to a playbook."""
    return ["--extra-vars", json.dumps(variables)]


def asked(edges: dict[str, Host]) -> set[str]:
    """Return the servers of the application that 30 requests to each edge have reached."""
    servers = set()
    for name, host in edges.items():
        word = secrets.token_hex(8)
        for _ in range(30):
            assert SITES[name].get(f"/posts/?{word}").status_code == 200
        servers |= {entry["upstream"].replace("unix:/run/slipway/web.sock", "first") for entry in log_of(host, word)}
    return {re.sub(r"^10\.89\.17\.11:8000$", "first", name).replace("10.89.17.12:8000", "second") for name in servers}


def test_drained_host_gets_no_request_until_it_is_put_back(
    edges: dict[str, Host], run: Callable[..., str], playbook: Playbooks
) -> None:
    assert asked(edges) == {"first", "second"}
    try:
        with Load(*(f"{site.url}/posts/" for site in SITES.values())) as load:
            run("drain_host.yml", *say(slipway_host="second"))
            assert asked(edges) == {"first"}
            # It stays so, whatever else is run.
            assert changes(run("edge.yml")) == []
            # The last one is not drained, nor is what is no host of the application.
            for name, why in (("first", "no server would be left"), ("third", "they are first, second")):
                done = playbook("drain_host.yml", *say(slipway_host=name))
                assert done.returncode != 0 and why in done.stdout
            assert asked(edges) == {"first"}
            run("undrain_host.yml", *say(slipway_host="second"))
            assert asked(edges) == {"first", "second"}
        assert len(load.answers) > 100 and load.failed() == []
    finally:
        run("undrain_host.yml", *say(slipway_host="second"))


def test_closed_site_says_so_to_all_but_the_allowed(outside: Host, run: Callable[..., str]) -> None:
    run("maintenance.yml", *say(nginx_maintenance=True))
    try:
        # It stays so, whatever else is run.
        run("edge.yml")
        for site in SITES.values():
            answer = site.get("/posts/")
            assert (answer.status_code, answer.headers["Retry-After"]) == (503, "300")
            assert "The site is closed for a short while." in answer.text
            assert (
                answer.headers["Cache-Control"] == "no-store" and answer.headers["X-Content-Type-Options"] == "nosniff"
            )
            assert site.get("/healthz").status_code == site.get("/static/site.css").status_code == 200
            assert visit(outside, f"{site.url}/posts/")[0] == 200
        # Who comes by way of the allowed host is not the allowed host.
        assert CDN.get(f"/posts/?{secrets.token_hex(8)}").status_code == 503
    finally:
        run("maintenance.yml", *say(nginx_maintenance=False))
    assert {site.get("/posts/").status_code for site in SITES.values()} == {200}


def stylesheet(site: Site) -> str:
    """Return the address of the style sheet that the front page names."""
    found = re.search(r'href="([^"]*/static/site\.[0-9a-f]{12}\.css)"', site.get("/").text)
    assert found
    return found[1]


def test_cdn_keeps_assets_and_nothing_is_purged_by_hand(
    edges: dict[str, Host], run: Callable[..., str], tmp_path: Path
) -> None:
    """After a deploy the old page, in the CDN, has its assets, and the new page has new ones."""
    old = stylesheet(CDN)
    assert old.startswith(f"{CDN.url}/static/")
    assert [requests.get(old, timeout=15).headers["X-CDN"] for _ in range(2)][1] == "HIT"
    path = f"/shop/?{secrets.token_hex(8)}"
    assert [SITES["first"].get(path).headers["X-Cache"] for _ in range(2)] == ["MISS", "HIT"]
    other = "/static/favicon.svg"
    etag = SITES["third"].get(other).headers["ETag"]

    end = f"\n/* changed {secrets.token_hex(8)} */\n"

    def change(folder: Path) -> None:
        (folder / "static/site.css").write_text((folder / "static/site.css").read_text() + end)

    run("deploy.yml", *source(tmp_path, "changed", change))
    # The CDN still has the page of before, with its assets; whoever lost the asset gets it from either edge.
    assert stylesheet(CDN) == old
    assert requests.get(old, timeout=15).status_code == 200
    for site in SITES.values():
        assert site.get(old.removeprefix(CDN.url)).status_code == 200
    new = stylesheet(SITES["first"])
    assert new != old
    answer = requests.get(new, timeout=15)
    assert answer.status_code == 200 and answer.text.endswith(end)
    # Nginx has forgotten the pages of the release before, and a file that did not change is the same to a cache.
    answer = SITES["first"].get(path)
    assert answer.headers["X-Cache"] == "MISS" and new in answer.text
    assert SITES["third"].get(other).headers["ETag"] == etag


def test_cdn_stores_no_personal_page(edges: dict[str, Host], site: Site, inventory: dict[str, str]) -> None:
    """Two requests of somebody who is logged in reach the application both, and nobody else sees them."""
    edges["first"].check_output("%s-manage seed_demo --admin admin", APP)
    fields = {"username": "admin", "password": inventory["vault_demo_admin_password"]}
    with requests.Session() as browser:
        page = browser.get(f"{CDN.url}/accounts/login/", timeout=15)
        token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
        assert token
        form = fields | {"csrfmiddlewaretoken": token[1]}
        # The limit of an earlier test may still hold.
        wait_until(lambda: browser.post(f"{CDN.url}/accounts/login/", form, timeout=15).status_code == 200, "a login")
        assert "sessionid" in browser.cookies
        for path in ("/posts/", "/shop/", "/accounts/profile/"):
            answers = [browser.get(f"{CDN.url}{path}", timeout=15) for _ in range(2)]
            assert {answer.status_code for answer in answers} == {200}
            assert all("admin" in answer.text and answer.headers["X-CDN"] == "MISS" for answer in answers), path
            assert {answer.headers.get("X-Cache", "BYPASS") for answer in answers} == {"BYPASS"}
    for place in (CDN, site):
        assert "admin" not in place.get("/posts/").text
        assert "admin" not in place.get("/shop/").text


def test_inventory_shuts_all_but_the_cdn_out_and_overrides_a_part(
    edges: dict[str, Host], run: Callable[..., str], playbook: Playbooks, tmp_path: Path
) -> None:
    secret = secrets.token_hex(16)
    own = tmp_path / "site.conf.j2"
    own.write_text(
        '{% extends "etc/nginx/snippets/slipway-site.conf.j2" %}\n'
        "{% block media %}{{ super() }}\nlocation = /own {\n    return 204;\n}\n{% endblock %}\n"
    )
    overrides = {"/etc/nginx/snippets/slipway-site.conf": str(own)}
    words = say(nginx_origin_secret=secret, nginx_template_overrides=overrides)
    try:
        said = run("edge.yml", "--diff", *words)
        assert secret not in said
        for name, host in edges.items():
            site = SITES[name]
            answer = site.get("/posts/")
            assert answer.status_code == 403 and answer.headers["Cache-Control"] == "no-store"
            assert site.get("/static/site.css", headers={"X-Origin-Secret": "x" + secret}).status_code == 403
            assert site.get("/posts/", headers={"X-Origin-Secret": secret}).status_code == 200
            assert site.get("/own", headers={"X-Origin-Secret": secret}).status_code == 204
            # The probes of a deploy come from the host itself.
            ask = (
                "import sys, urllib.request as u;"
                "print(u.urlopen(u.Request(sys.argv[1], None, {'Host': sys.argv[2]})).status)"
            )
            assert host.check_output("python3 -c %s http://127.0.0.1/healthz %s", ask, EDGES[name]) == "200"
            assert oct(host.file("/etc/nginx/conf.d/slipway-origin.conf").mode) == "0o600"
    finally:
        run("edge.yml")
    assert {site.get("/posts/").status_code for site in SITES.values()} == {200}
    assert {site.get("/own").status_code for site in SITES.values()} == {404}


def test_broken_extension_is_refused_and_leaves_nothing(edges: dict[str, Host], playbook: Playbooks) -> None:
    broken = [{"path": "/broken/", "config": "no_such_directive on;"}]
    done = playbook("edge.yml", *say(nginx_extra_locations=broken))
    assert done.returncode != 0
    assert 'unknown directive "no_such_directive"' in done.stdout and "the previous files were restored" in done.stdout
    for name, host in edges.items():
        host.check_output("nginx -t -q && systemctl restart nginx")
        assert SITES[name].get("/robots.txt").status_code == 200
    assert changes(playbook("edge.yml").stdout) == []


@pytest.fixture
def lists(outside: Host) -> Iterator[Callable[[str], str]]:
    """Return a function that has a host publish a text, and returns the URL."""
    outside.check_output("mkdir -p /srv/lists")
    outside.check_output("systemd-run --quiet --unit lists python3 -m http.server --directory /srv/lists 8000")

    def publish(text: str) -> str:
        outside.check_output("printf %%s %s >/srv/lists/networks", text)
        return f"{CDN.url}:8000/networks"

    yield publish
    outside.check_output("systemctl stop lists")


def test_networks_of_the_cdn_are_fetched_and_bad_ones_are_not_taken(
    edges: dict[str, Host], outside: Host, lists: Callable[[str], str], run: Callable[..., str]
) -> None:
    host = edges["third"]
    unit = "nginx-trusted-proxies.service"
    folder = f"/run/systemd/system/{unit}.d"

    def fetch(text: str) -> tuple[int, str]:
        url = lists(text)
        wait_until(lambda: outside.run("curl -sSf %s", url).succeeded, url)
        # The unit as it is, with another address.
        command = f"ExecStart=\nExecStart=/usr/bin/python3 /usr/local/lib/slipway-nginx/trusted_proxies.py {url}\n"
        host.check_output("mkdir -p %s && printf '[Service]\n%%b' %s >%s/test.conf", folder, command, folder)
        host.check_output("systemctl daemon-reload")
        host.run("systemctl reset-failed %s", unit)
        code = host.run("systemctl start %s", unit).rc
        return code, journal(host, unit, 5)

    def visitor() -> str:
        word = secrets.token_hex(8)
        SITES["third"].get(f"/posts/?{word}", headers={"X-Forwarded-For": "203.0.113.9"})
        (entry,) = log_of(host, word)
        return entry["remote_addr"]

    here = visitor()
    assert here != "203.0.113.9"
    try:
        assert fetch(f'{{"addresses": ["{here}/32"], "date": "2024-01-01/02"}}')[0] == 0
        wait_until(lambda: visitor() == "203.0.113.9", "the list in use")
        for text, why in (
            ("0.0.0.0/0\n", "0.0.0.0/0 is too wide"),
            ("<html>Sorry</html>", "does not appear to be an IPv4 or IPv6 network"),
            ("192.0.2.0/24\n192.0.2.0/99\n", "192.0.2.0/99"),
            ("", "names no network"),
        ):
            code, said = fetch(text)
            assert code != 0 and why in said and "stay" in said
            assert visitor() == "203.0.113.9"
    finally:
        host.check_output("rm -r %s && systemctl daemon-reload", folder)
        host.run("systemctl reset-failed %s", unit)
        # The inventory names no such list: the next run trusts nothing that was fetched.
        run("edge.yml")
        host.check_output("systemctl reload nginx")
    wait_until(lambda: visitor() == here, "an end of it")


def test_slow_clients_hold_nobody_else_up(
    edges: dict[str, Host], outside: Host, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    """The 99th percentile is printed; what is asserted is that everybody is served and the slow are let go."""
    outside.check_output(
        "systemd-run --quiet --unit slow slowhttptest -c 300 -r 100 -H -i 5 -l 40 -u %s", f"{site.url}/posts/"
    )

    def connections() -> int:
        ask = "import urllib.request; print(urllib.request.urlopen('http://127.0.0.1:8081/status').read().decode())"
        return int(edges["first"].check_output("python3 -c %s", ask).split()[2])

    wait_until(lambda: connections() >= 300, "300 slow clients")
    seconds = []
    while connections() > 250:
        for _ in range(10):
            begun = time.monotonic()
            assert site.get("/posts/").status_code == 200
            seconds.append(time.monotonic() - begun)
    wait_until(lambda: connections() < 100, "that the slow clients are let go")
    outside.run("systemctl stop slow")
    seconds.sort()
    slowest = seconds[int(len(seconds) * 0.99)]
    with capsys.disabled():
        print(f"\nwith 300 slow clients: {len(seconds)} requests, 99th percentile {slowest * 1000:.0f} ms")
    assert len(seconds) > 50


def test_host_that_dies_under_load_fails_no_later_request(edges: dict[str, Host]) -> None:
    """A second after its death no idempotent request fails, and it gets its share again when it is back."""
    with Load(*(f"{site.url}/posts/" for site in SITES.values())) as load:
        wait_until(lambda: len(load.answers) > 100, "load")
        assert load.failed() == []
        container("second", "kill")
        died = time.monotonic()
        wait_until(lambda: sum(begun > died + 1 for begun, _ in load.answers) > 300, "load after it died")
    assert load.failed(since=died + 1) == []
    container("second", "start")
    wait_until(lambda: asked(edges) == set(APPS), "both hosts in the load")
