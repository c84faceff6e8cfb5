"""The edge without hosts: what an inventory may say of it, its state on a host, files that are taken back."""

from __future__ import annotations

import gzip
import os
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import ansible.module_utils
import pytest
from conftest import ROOT, load_plugin
from test_preflight import inspect_role, root_of

# Ansible sends these beside a module; here they are found where they lie.
ansible.module_utils.__path__.append(str(ROOT / "playbooks/plugins/module_utils"))

ROLE = ROOT / "roles/nginx"
state = load_plugin("playbooks/plugins/modules/nginx_state.py")
pack = load_plugin("playbooks/plugins/module_utils/precompress.py")

LIMIT = {"name": "login", "path": "/login/", "rate": "6r/m"}


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
