"""The edge without hosts: what an inventory may say of it, its state on a host, files that are taken back."""

from __future__ import annotations

import asyncio
import gzip
import os
import re
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import ROOT
from rendering import USES, render
from test_preflight import inspect_role, root_of

from ansible_collections.slipway.kit.plugins.module_utils.release import precompress as pack
from ansible_collections.slipway.kit.plugins.modules import nginx_state as state

ROLE = ROOT / "roles/nginx"

CONFIGURATION = "/etc/slipway/services/web/gunicorn.conf.py"
LISTENERS = ("/etc/nginx/conf.d/slipway-hosts.conf", "/etc/nginx/snippets/slipway-listen.conf")
TLS = {"nginx_tls_certificate": "/etc/x.pem", "nginx_tls_key": "/etc/x.key"}
LIMIT = {"name": "login", "path": "/login/", "rate": "6r/m"}


Written = Callable[..., dict[str, str]]


@pytest.fixture(scope="module")
def written(variables_for: Callable[..., dict[str, Any]]) -> Written:
    """Return a function that gives the files of one role by path, rendered with further variables."""

    def texts(name: str, release: str, **extra: Any) -> dict[str, str]:
        uses = [use for use in USES if use.role.name == name]
        return {file.path: file.text for use in uses for file in render(use, variables_for(use.role, release, **extra))}

    return texts


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("nginx_trusted_proxies", ["192.0.2.0/33"], "must be addresses or networks"),
        ("nginx_trusted_proxies", ["cdn.example.com"], "must be addresses or networks"),
        ("nginx_trusted_proxies", ["0.0.0.0/0"], "trusts everybody"),
        ("nginx_trusted_proxies", ["::/0"], "trusts everybody"),
        ("nginx_trusted_proxies_urls", ["http://cdn.example.com/list"], "must be URLs of HTTPS"),
        ("nginx_real_ip_header", "X Real", "must be the name of a header"),
        ("nginx_origin_secret", "a secret; with; semicolons", "must be of letters"),
        ("nginx_security_headers", {"Referrer Policy": "x"}, "must have names of headers"),
        ("nginx_security_headers", {"Referrer-Policy": 'a "b"'}, "must have values without"),
        ("nginx_page_headers", {"Content-Security-Policy": "script-src 'nonce-$x'"}, "must have values without"),
        ("nginx_page_headers", {"referrer-policy": "origin"}, "nginx_security_headers has already"),
        ("nginx_maintenance_allowed", ["office"], "must be addresses or networks"),
        ("nginx_cache_locations", ["posts/"], "must be paths"),
        ("nginx_cache_locations", ["/shop/", "/shop/"], "has two of one value"),
        ("nginx_cache_locations", ["/static/"], "must not name static or uploaded files"),
        ("nginx_cache_bypass_cookies", ["a=b"], "must be names of cookies"),
        ("nginx_cache_size", "256", "must be a size"),
        ("nginx_rate_limits", [LIMIT, LIMIT], "has two of one name"),
        ("nginx_rate_limits", [LIMIT | {"name": "Log in"}], "must have names of small letters"),
        ("nginx_rate_limits", [LIMIT | {"rate": "6 a minute"}], "must have rates"),
        ("nginx_rate_limits", [LIMIT | {"path": "login"}], "must have paths"),
        ("nginx_rate_limits", [LIMIT | {"burst": 0}], "must be from 1 to"),
        ("nginx_rate_limits", [LIMIT | {"methods": ["post"]}], "must have methods"),
        ("nginx_status_port", 80, "other than that of the site"),
        ("nginx_redirects", [{"path": "old", "to": "/new/"}], "must have paths"),
        ("nginx_redirects", [{"path": "/old/", "to": "new/"}], "must lead to a path or a URL"),
        ("nginx_redirects", [{"path": "/old/", "to": "/new/$uri"}], "must lead to a path or a URL"),
        ("nginx_extra_locations", [{"path": "/api/ {", "config": "return 204;"}], "must have what Nginx takes"),
        ("nginx_extra_locations", [{"path": "/static/", "config": "return 204;"}], "two of one path"),
        ("nginx_extra_upstreams", [{"name": "a b", "servers": ["10.0.0.9:3000"]}], "must have names"),
        ("nginx_extra_upstreams", [{"name": "slipway", "servers": ["10.0.0.9:3000"]}], "application's own name"),
        (
            "nginx_template_overrides",
            {"/etc/nginx/none.conf": "/etc/passwd"},
            "must be for a file that the role writes",
        ),
        ("nginx_template_overrides", {"/etc/nginx/nginx.conf": "/no/such/file"}, "must be files on the control node"),
        ("nginx_server_names", ["www.example.com", "müller.example"], "xn--mller-kva.example: write that"),
        ("nginx_server_names", ["www.example.com", "straße.example"], "xn--strae-oqa.example: write that"),
        ("nginx_server_names", ["www.example.com", "a_b.example"], "refuse an underscore"),
        ("nginx_server_names", ["*.example.com"], "has wildcards alone"),
        ("nginx_server_names", ["www.example.com", "*"], "as *.example.com"),
        ("nginx_server_names", ["www.example.com", "a.*.example.com"], "as *.example.com"),
        ("nginx_server_names", ["www.example.com", "shop*.example.com"], "as *.example.com"),
        ("nginx_server_names", ["www.example.com", "WWW.example.com"], "names a host twice"),
        ("nginx_server_names", ["www.example.com", "[10.0.0.1]"], "no IPv6 address"),
        ("nginx_server_names", ["www.example.com", "fd00::1"], "stands in brackets: [fd00::1]"),
        ("nginx_server_names", ["www.example.com", "https://www.example.com"], "leave the scheme out"),
        ("nginx_proxy_timeout", 30, "visitors would get 504"),
        ("nginx_request_header_size", "16 kB", "must be a size"),
        ("nginx_request_header_size", "2m", "must be a size"),
        ("nginx_response_header_size", "1k", "must be a size"),
        ("nginx_health_port", 443, "must be a port"),
        ("nginx_health_port", 70000, "must be a port"),
        ("nginx_health_path", "/he$alth", "must be a path"),
        ("nginx_health_allowed", ["10.0.0.1/24"], "the network is 10.0.0.0/24"),
        ("nginx_trusted_headers", ["X Forwarded"], "must be names of headers"),
        ("nginx_trusted_headers", ["X-Forwarded-For"], "that Nginx says itself"),
        ("nginx_trusted_headers", ["X-Origin-Secret"], "that Nginx says itself"),
        ("nginx_trusted_headers", ["X-User", "x-user"], "names a header twice"),
        ("nginx_media_policies", {"text/html": "frame-ancestors 'self'"}, "a stranger could act for any visitor"),
        ("nginx_media_policies", {"image/svg+xml": "default-src 'none'"}, "a stranger could act for any visitor"),
        ("nginx_media_policies", {"image/*": "default-src 'none'"}, "a stranger could act for any visitor"),
        ("nginx_media_policies", {"text/html": "x-sandbox 'none'"}, "a stranger could act for any visitor"),
        ("nginx_media_policies", {"text/html": "sandbox allow-same-origin allow-scripts"}, "a stranger could act"),
        ("nginx_media_policies", {"PDF": "frame-ancestors 'self'"}, "must be for types"),
        ("nginx_media_policies", {"video/mp4": 'a "b"'}, "must have values without"),
        ("nginx_own_headers", {"content-security-policy": "x"}, "differs from file to file"),
        ("nginx_own_headers", {"Access-Control-Allow-Origin": "x"}, "differs from file to file"),
        ("nginx_page_headers", {"x-request-id": "x"}, "is not for this variable: Nginx says it"),
        ("nginx_own_headers", {"Permissions-Policy": "a\\b"}, "must have values without"),
        ("nginx_redirects", [{"path": '/a"b/', "to": "/"}], "must have paths"),
    ],
    ids=str,
)
def test_inventory_that_nginx_could_not_follow_is_refused(
    variables_for: Callable[..., dict[str, Any]], variable: str, value: object, why: str
) -> None:
    faults = inspect_role(ROLE, variables_for(ROLE, "12", **{variable: value}))
    assert [root_of(fault) for fault in faults] == [variable]
    assert why in faults[0].why + faults[0].fix


@pytest.mark.parametrize("path", ["/api/", "= /robots.txt", "~ [.]bak$", "~* [.]PHP$", "^~ /images/"])
def test_locations_as_nginx_knows_them(variables_for: Callable[..., dict[str, Any]], path: str) -> None:
    extra = [{"path": path, "config": "return 204;"}]
    assert not inspect_role(ROLE, variables_for(ROLE, "12", nginx_extra_locations=extra, nginx_redirects=[]))


@pytest.mark.parametrize(
    "variables",
    [
        {"nginx_server_names": ["example.com", "*.example.com", "xn--mller-kva.example", "[2001:db8::1]", "192.0.2.1"]},
        {"nginx_upstream_timeout": 120},
        {"nginx_media_url": "none", "nginx_static_url": "none"},
        {
            "nginx_media_policies": {
                "text/html": "default-src 'none'; sandbox allow-popups",
                "video/*": "media-src 'self'",
            }
        },
        {"nginx_redirects": [{"path": "/alter pfad/ä;x", "to": "/neuer pfad/"}]},
        {"nginx_health_port": 80, "nginx_health_path": "/gesund heit/ä"},
        {"nginx_trusted_headers": ["X-Forwarded-User", "x-forwarded-host"]},
        {"nginx_upstream_servers": ["app_1.internal:8000", "[fd00::4]:8000"]},
    ],
    ids=str,
)
def test_inventory_that_nginx_can_follow_is_not_refused(
    variables_for: Callable[..., dict[str, Any]], variables: dict[str, Any]
) -> None:
    assert not inspect_role(ROLE, variables_for(ROLE, "12", **variables))


def test_nginx_gives_a_request_longer_than_gunicorn_does(written: Written) -> None:
    texts = written("nginx", "12", nginx_upstream_timeout=120)
    assert "proxy_read_timeout 125s;" in texts["/etc/nginx/snippets/slipway-site.conf"]
    assert "QUIT/125" in texts["/etc/systemd/system/nginx.service.d/slipway.conf"]


@pytest.mark.parametrize("name", ["Permissions-Policy", "permissions-policy"])
def test_header_of_every_answer_is_sent_once(
    written: Written, variables_for: Callable[..., dict[str, Any]], name: str
) -> None:
    """As nginx_security_headers of an inventory that was copied when it had what nginx_own_headers has now."""
    headers = {"nginx_security_headers": {name: "camera=()", "Referrer-Policy": "same-origin"}}
    assert not inspect_role(ROLE, variables_for(ROLE, "12", **headers))
    own = {"nginx_own_headers": {"Permissions-Policy": "usb=()", "X-Own": "1"}}
    texts = written("nginx", "12", **headers, **own)
    added = [
        header.lower() for header, _ in added_headers(texts, texts["/etc/nginx/snippets/slipway-own-headers.conf"])
    ]
    assert sorted(added) == ["permissions-policy", "referrer-policy", "x-frame-options", "x-own"]
    maps = texts["/etc/nginx/conf.d/slipway-http.conf"]
    assert 'camera=()"' in maps and "$slipway_own_x_own" in maps and "$slipway_own_permissions_policy" not in maps


# Sends what the kit sends too, in one place and in two spellings.
VARIED = {
    "Content-Security-Policy": "default-src 'self'",
    "x-frame-options": "SAMEORIGIN",
    "Cross-Origin-Resource-Policy": "cross-origin",
    "Cache-Control": "no-cache",
    "Access-Control-Allow-Origin": "https://a.example",
    "X-Content-Type-Options": "nosniff",
}


def added_headers(texts: dict[str, str], text: str) -> list[tuple[str, str]]:
    """Return name and value of what a text adds to an answer, in itself and in what it includes, not in its blocks."""
    found = []
    for line in re.sub(r"\{[^{}]*\}", "", text.partition("\n")[2]).splitlines():
        if name := re.match(r"\s*include (snippets/\S+);", line):
            found += added_headers(texts, texts[f"/etc/nginx/{name[1]}"])
        elif name := re.match(r"\s*add_header (\S+) (.+?)(?: always)?;", line):
            found.append((name[1], name[2]))
    return found


def locations_of(texts: dict[str, str]) -> dict[str, list[tuple[str, str]]]:
    """Return what each location that adds headers adds."""
    found = {}
    for text in texts.values():
        for block in re.finditer(r"(?m)^( *)location (.+) \{$\n((?:.*\n)*?)^\1\}$", text):
            found[block[2]] = added_headers(texts, f"\n{block[3]}")
    return {path: headers for path, headers in found.items() if headers}


@pytest.mark.parametrize("release", ["12", "13"])
@pytest.mark.parametrize("tls", [{}, TLS], ids=["plain", "tls"])
def test_no_location_adds_a_header_twice(written: Written, release: str, tls: dict[str, str]) -> None:
    extra = [
        {"path": "/plain/", "config": "proxy_pass http://other;"},
        {
            "path": "/own/",
            "config": 'add_header content-security-policy "x";\nadd_header "X-Frame-Options" DENY always;',
        },
    ]
    texts = written(
        "nginx",
        release,
        nginx_security_headers=VARIED,
        nginx_page_headers={"Permissions-Policy": "usb=()"},
        nginx_extra_locations=extra,
        nginx_redirects=[{"path": "/old/", "to": "/"}],
        nginx_cache_locations=["/shop/"],
        nginx_unbuffered_locations=["/ws/"],
        **tls,
    )
    found = locations_of(texts)
    assert {"/", "= /-/error", "/media/", "/static/", '= "/old/"', "/plain/", "/own/", '"/shop/"', '"/ws/"'} <= {*found}
    redirect = re.search(r"(?s)# Plain HTTP.*?\n\}", texts["/etc/nginx/conf.d/slipway-hosts.conf"])
    if redirect:
        found["plain HTTP"] = added_headers(texts, redirect[0])
    for path, headers in found.items():
        names = [name.lower().strip('"') for name, _ in headers]
        assert len(names) == len(set(names)), f"{path}: {sorted(names)}"
        assert {"content-security-policy", "x-frame-options", "x-content-type-options"} <= {*names}, path
        values = dict(zip(names, (value for _, value in headers), strict=True))
        # A page says what the inventory says; what Nginx answers keeps its own policy.
        is_page = path in ("/", '"/shop/"', '"/ws/"', "/plain/", '= "/healthz"')
        assert (values["content-security-policy"] == "$slipway_content_security_policy") is is_page, path
        assert (values["x-frame-options"] == "$slipway_x_frame_options") is is_page, path
    assert dict(found["/media/"])["Content-Security-Policy"] == "$slipway_media_policy"


@pytest.mark.parametrize("ipv6", [True, False, "false"])
@pytest.mark.parametrize("port", [80, 8088])
def test_host_without_ipv6_has_no_listener_of_it(written: Written, ipv6: bool | str, port: int) -> None:
    texts = written("nginx", "13", nginx_ipv6=ipv6, nginx_health_port=port, **TLS)
    listeners = re.findall(r"listen (\S+);?", "".join(texts[path] for path in LISTENERS))
    assert {"80", "443"} <= {listener.rstrip(";") for listener in listeners}
    assert len([one for one in listeners if "::" in one]) == (len(listeners) // 2 if ipv6 is True else 0)


def test_no_two_zones_of_shared_memory_have_one_name(written: Written) -> None:
    """Nginx refuses that: TLS together with kept pages, or a limit of any name that an inventory chooses."""
    limits = [LIMIT | {"name": name} for name in ("tls", "connections", "pages")]
    texts = written("nginx", "13", nginx_rate_limits=limits, **TLS)
    every = "".join(text for path, text in texts.items() if path.startswith("/etc/nginx/"))
    zones = re.findall(r"(?:shared:|keys_zone=|_zone \S+ zone=)([^:; ]+):", every)
    assert len(zones) == 6 and len(set(zones)) == 6


def test_paths_are_what_nginx_compares(written: Written) -> None:
    redirects = [{"path": "/caf%C3%A9/a b", "to": "/grün 100%/%20?q=ä"}]
    health = {"nginx_health_path": "/gesund%20heit/ä?full=1", "nginx_health_port": 80}
    texts = written("nginx", "12", nginx_redirects=redirects, nginx_denied_locations=["/geheim%C3%A4/"], **health)
    site = texts["/etc/nginx/snippets/slipway-site.conf"]
    assert 'location = "/café/a b" {' in site
    assert "return 301 /gr%C3%BCn%20100%25/%20?q=%C3%A4;" in site
    assert 'if ($slipway_health = "/gesund heit/ä") {' in site
    assert 'if ($uri ~ "^/geheimä/") {' in site
    assert 'location = "/gesund heit/ä" {' in texts["/etc/nginx/snippets/slipway-health.conf"]


def test_site_without_uploads_has_no_location_for_them(written: Written) -> None:
    texts = written("nginx", "12", nginx_media_url="none", nginx_static_url="none")
    for path, text in texts.items():
        if path.startswith("/etc/nginx/"):
            assert "alias /srv" not in text and "location  {" not in text, path
    closed = texts["/etc/nginx/conf.d/slipway-http.conf"].partition("$slipway_closed")[2].partition("}")[0]
    assert "()" not in closed and "|)" not in closed and "(|" not in closed


def test_what_only_a_proxy_may_say_is_not_passed_on(written: Written) -> None:
    texts = written("nginx", "12", nginx_trusted_headers=["x-forwarded-user", "X-Forwarded-Host"])
    told = re.findall(r"proxy_set_header (\S+) (.*);", texts["/etc/nginx/snippets/slipway-forwarded.conf"])
    names = [name.lower() for name, _ in told]
    assert len(names) == len(set(names))
    values = {name.lower(): value for name, value in told}
    assert values["x-forwarded-user"] == "$slipway_said_x_forwarded_user"
    assert values["x-forwarded-host"] == "$slipway_said_x_forwarded_host"
    assert {values[name] for name in ("forwarded", "x-forwarded-port", "remote-user", "x-origin-secret")} == {'""'}
    assert values["x-real-ip"] == values["x-forwarded-for"] == "$remote_addr"


def test_gunicorn_is_given_addresses_and_no_networks(written: Written) -> None:
    """Gunicorn 23 takes addresses alone in this setting, and ends at start with a network."""
    allowed = ["127.0.0.1", "::1", "10.0.0.0/24", "fd00::/64", "10.0.0.6/32"]
    space: dict[str, Any] = {}
    exec(written("gunicorn", "12", gunicorn_forwarded_allow_ips=allowed)[CONFIGURATION], space)
    assert space["forwarded_allow_ips"] == "127.0.0.1,::1"
    assert [space["is_nginx"](peer) for peer in ("10.0.0.9", "fd00::9", "10.0.1.1", "::1")] == [True, True, False, True]


class Worker(SimpleNamespace):
    """A worker of gunicorn, as far as the configuration looks at it."""


def corrected(written: Written, application: Any, **variables: Any) -> Any:
    """Return an application as gunicorn's configuration has it served."""
    names = {"gunicorn_forwarded_allow_ips": ["127.0.0.1", "::1", "10.0.0.6", "fd00::/64"], "gunicorn_preload": False}
    space: dict[str, Any] = {}
    exec(written("gunicorn", "12", **(names | variables))[CONFIGURATION], space)
    asgi = variables.get("gunicorn_worker_class") == "asgi"
    config = SimpleNamespace(proxy_headers=True)
    worker = Worker(age=1, cfg=SimpleNamespace(workers=99), config=config)
    setattr(worker, "asgi" if asgi else "wsgi", application)
    space["post_worker_init"](worker)
    assert config.proxy_headers is False
    return worker.asgi if asgi else worker.wsgi


SAID = {"HTTP_HOST": "www.example.com", "HTTP_X_FORWARDED_PROTO": "https", "HTTP_X_FORWARDED_FOR": "203.0.113.9"}
NGINX = {
    "REMOTE_ADDR": "203.0.113.9", "wsgi.url_scheme": "https", "SERVER_NAME": "www.example.com", "SERVER_PORT": "443"
}  # fmt: skip


@pytest.mark.parametrize("worker_class", ["sync", "gthread", "gevent"])
@pytest.mark.parametrize(
    ("peer", "said", "found"),
    [
        ("", {}, NGINX),
        ("10.0.0.6", {}, NGINX),
        ("::ffff:10.0.0.6", {}, NGINX),
        ("fd00::7", {}, NGINX),
        ("fd00::7", {"HTTP_X_FORWARDED_FOR": "2001:db8::1"}, NGINX | {"REMOTE_ADDR": "2001:db8::1"}),
        ("", {"HTTP_HOST": "www.example.com:8443"}, NGINX | {"SERVER_PORT": "8443"}),
        ("", {"HTTP_HOST": "[fd00::1]", "HTTP_X_FORWARDED_PROTO": "http"},
         NGINX | {"SERVER_NAME": "[fd00::1]", "SERVER_PORT": "80", "wsgi.url_scheme": "http"}),
        ("", {"HTTP_X_FORWARDED_FOR": "not an address"}, NGINX | {"REMOTE_ADDR": "127.0.0.1"}),
        ("", {"HTTP_X_FORWARDED_FOR": "1.2.3.4, 203.0.113.9"}, NGINX | {"REMOTE_ADDR": "127.0.0.1"}),
        # Anybody else is not believed.
        ("10.0.0.7", {}, {"REMOTE_ADDR": "10.0.0.7", "wsgi.url_scheme": "http", "SERVER_PORT": "8000"}),
    ],
    ids=str,
)  # fmt: skip
def test_application_finds_the_same_wherever_nginx_is(
    written: Written, worker_class: str, peer: str, said: dict[str, str], found: dict[str, str]
) -> None:
    seen: dict[str, Any] = {}
    application = corrected(
        written, lambda environ, _: seen.update(environ) or [b""], gunicorn_worker_class=worker_class
    )
    environ = {"REMOTE_ADDR": peer, "wsgi.url_scheme": "http", "SERVER_NAME": "10.0.0.1", "SERVER_PORT": "8000"}
    assert list(application(environ | SAID | said, None)) == [b""]
    assert {name: seen[name] for name in found} == found


def test_application_may_be_left_with_what_gunicorn_sees(written: Written) -> None:
    seen: dict[str, Any] = {}
    application = corrected(written, lambda environ, _: seen.update(environ) or [], gunicorn_visitor_address=False)
    application({"REMOTE_ADDR": "10.0.0.6", "wsgi.url_scheme": "http"} | SAID, None)
    assert (seen["REMOTE_ADDR"], seen["wsgi.url_scheme"]) == ("10.0.0.6", "https")


class Asgi:
    """An ASGI application that keeps the scope of each request."""

    def __init__(self) -> None:
        self.scopes: list[dict[str, Any]] = []

    async def __call__(self, scope: dict[str, Any], receive: Any, send: Any) -> None:
        """Keep the scope, and answer nothing."""
        self.scopes.append(scope)


@pytest.mark.parametrize("worker_class", ["asgi", "uvicorn_worker.UvicornWorker"])
@pytest.mark.parametrize("plain", [False, True])
def test_asgi_application_finds_the_same(written: Written, worker_class: str, plain: bool) -> None:
    kept = Asgi()
    application = corrected(
        written, (lambda *words: kept(*words)) if plain else kept, gunicorn_worker_class=worker_class
    )
    # uvicorn looks at this to tell which version of ASGI it is.
    assert asyncio.iscoroutinefunction(application) is not plain
    headers = [(b"host", b"www.example.com"), (b"x-forwarded-proto", b"https"), (b"x-forwarded-for", b"203.0.113.9")]
    for kind, client in (("http", None), ("http", ("10.0.0.6", 1)), ("websocket", None), ("http", ("10.0.0.7", 1))):
        scope = {"type": kind, "scheme": kind[:4], "client": client, "server": None, "headers": headers}
        asyncio.run(application(scope, None, None))
    asyncio.run(application({"type": "lifespan"}, None, None))
    http = ("https", ("203.0.113.9", 0), ("www.example.com", 443))
    found = [(scope.get("scheme"), scope.get("client"), scope.get("server")) for scope in kept.scopes]
    assert found == [http, http, ("wss", *http[1:]), ("http", ("10.0.0.7", 1), None), (None, None, None)]


def say(monkeypatch: pytest.MonkeyPatch, folder: Path, **arguments: Any) -> dict[str, Any]:
    """Run the module of the state and return what it says."""
    said: dict[str, Any] = {}

    def fail_json(**result: Any) -> None:
        said.update(result | {"failed": True})
        raise SystemExit

    defaults = {
        "servers": ["a:1", "b:1"],
        "drain": "",
        "undrain": "",
        "maintenance": None,
        "cached": None,
        "fetched": True,
    }
    params = {"folder": str(folder), "application": "app", "settle": None, **defaults, **arguments}

    def exit_json(**result: Any) -> None:
        said.update(result)
        raise SystemExit

    module = SimpleNamespace(params=params, check_mode=False, exit_json=exit_json, fail_json=fail_json)
    monkeypatch.setattr(state, "AnsibleModule", lambda **_: module)
    monkeypatch.setattr(state, "write_atomically", lambda path, content: Path(path).write_bytes(content))
    with pytest.raises(SystemExit):
        state.main()
    return said


def test_what_was_said_stands_until_it_is_taken_back(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    upstream = tmp_path / "upstream.conf"
    assert say(monkeypatch, tmp_path)["changed"]
    assert not say(monkeypatch, tmp_path)["changed"]
    assert "server a:1 max_fails=3 fail_timeout=5s;\nserver b:1 max_fails=3 fail_timeout=5s;\n" in upstream.read_text()
    assert say(monkeypatch, tmp_path, drain="b:1")["drained"] == ["b:1"]
    # Who is left alone is asked whatever happened a moment ago.
    assert "server a:1 max_fails=0;\nserver b:1 max_fails=0 down;\n" in upstream.read_text()
    assert say(monkeypatch, tmp_path, maintenance=True)["changed"]
    said = say(monkeypatch, tmp_path)
    assert (said["changed"], said["drained"], said["maintenance"]) == (False, ["b:1"], True)
    assert say(monkeypatch, tmp_path, undrain="b:1", maintenance=False)["drained"] == []
    # A server that the site has no more is forgotten.
    say(monkeypatch, tmp_path, drain="b:1")
    assert say(monkeypatch, tmp_path, servers=["a:1"])["drained"] == []
    assert say(monkeypatch, tmp_path)["drained"] == []


def test_host_tells_whether_it_has_ipv6(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    class WithoutIPv6:
        """A socket on a host whose kernel does without IPv6."""

        def __init__(self, family: int) -> None:
            """Refuse as the kernel does."""
            assert family == state.socket.AF_INET6
            raise OSError(97, "Address family not supported by protocol")

    assert say(monkeypatch, tmp_path)["ipv6"] is state.has_ipv6()
    monkeypatch.setattr(state.socket, "socket", WithoutIPv6)
    assert say(monkeypatch, tmp_path)["ipv6"] is False


def test_last_server_is_not_drained(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    say(monkeypatch, tmp_path, drain="b:1")
    before = (tmp_path / "upstream.conf").read_text()
    said = say(monkeypatch, tmp_path, drain="a:1")
    assert said["failed"] and "no server would be left" in said["msg"]
    assert (tmp_path / "upstream.conf").read_text() == before


def test_networks_that_were_fetched_go_with_their_list(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    say(monkeypatch, tmp_path)
    (tmp_path / "proxies.geo").write_text("192.0.2.0/24 1;\n")
    assert not say(monkeypatch, tmp_path)["changed"]
    assert say(monkeypatch, tmp_path, fetched=False)["changed"]
    assert "192.0.2.0" not in (tmp_path / "proxies.geo").read_text()
    assert not say(monkeypatch, tmp_path, fetched=False)["changed"]


def test_files_are_compressed_as_far_as_that_helps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = []

    def brotli(command: list[str], **options: Any) -> SimpleNamespace:
        calls.append(command)
        return SimpleNamespace(stdout=options["input"][:100])

    monkeypatch.setattr(pack.subprocess, "run", brotli)
    text = b"body { color: red }\n" * 100
    for name in ("site.css", "site.0123456789ab.css", "photo.jpg", "own.js"):
        (tmp_path / name).write_bytes(text)
    (tmp_path / "small.css").write_bytes(b"a {}")
    (tmp_path / "noise.txt").write_bytes(os.urandom(2000))
    (tmp_path / "own.js.gz").write_bytes(b"the application's own")
    pack.precompress(str(tmp_path), str(tmp_path / "no release before"))
    assert {path.name for path in tmp_path.iterdir() if path.suffix in (".gz", ".br")} == {
        *("site.css.gz", "site.css.br", "site.0123456789ab.css.gz", "site.0123456789ab.css.br"),
        *("own.js.gz", "own.js.br", "noise.txt.br"),
    }
    assert gzip.decompress((tmp_path / "site.css.gz").read_bytes()) == text
    assert (tmp_path / "own.js.gz").read_bytes() == b"the application's own"
    # One content is compressed once.
    assert len(calls) == 2
    # Of the release before what is the same is taken over, and what has changed is compressed.
    after = tmp_path / "after"
    after.mkdir()
    (after / "site.css").write_bytes(text)
    (after / "own.js").write_bytes(text + b"changed")
    assert pack.precompress(str(after), str(tmp_path)) == 1
    assert (after / "site.css.gz").read_bytes() == (tmp_path / "site.css.gz").read_bytes()
    assert gzip.decompress((after / "own.js.gz").read_bytes()) == text + b"changed"
    # The same bytes whenever it is built.
    assert (tmp_path / "site.css.gz").read_bytes()[4:8] == b"\0\0\0\0"


def test_servers_of_the_application_are_required(variables_for: Callable[..., dict[str, Any]]) -> None:
    (fault,) = inspect_role(ROLE, variables_for(ROLE, "12", nginx_upstream_servers=[]))
    assert (fault.variable, fault.why) == ("nginx_upstream_servers", "is empty and required")
    assert "group app" in fault.fix
    with pytest.raises(state.StateError, match="no server is named"):
        state.upstream([], set())
