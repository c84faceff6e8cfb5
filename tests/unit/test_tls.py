"""TLS without hosts: what preflight finds in files, what Nginx is told, how a release is asked for."""

from __future__ import annotations

import http.server
import json
import re
import socketserver
import ssl
import stat
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from ansible.plugins.loader import lookup_loader
from certificates import NAME, OperatorFiles, sign
from conftest import RELEASES, ROOT
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding


class Files(OperatorFiles):
    """An operator's files, and what preflight says of them."""

    def faults(self, *names: str, loader: DataLoader | None = None, **paths: str) -> list[str]:
        """Return what preflight says of them, without the folder."""
        plugin = lookup_loader.get("slipway.kit.certificate_faults", loader=loader or DataLoader())
        words = [paths.get("certificate", str(self.certificate)), paths.get("key", str(self.key))]
        [faults] = plugin.run(words, names=list(names or (NAME,)))
        return [fault.replace(f"{self.key.parent}/", "") for fault in faults]


@pytest.fixture
def files(tmp_path: Path) -> Files:
    """Return an operator's files."""
    return Files(tmp_path)


def test_good_files_have_no_fault(files: Files) -> None:
    assert files.faults() == []
    files.chain(files.leaf(names=("*.example.com", "example.com")), files.intermediate, files.anchor)
    assert files.faults("www.example.com", "EXAMPLE.com") == []


def test_encrypted_key_is_read_and_may_be_readable(files: Files) -> None:
    secret = VaultSecret(b"a password of the vault")
    files.key.write_bytes(VaultLib([("default", secret)]).encrypt(files.key.read_bytes()))
    files.key.chmod(0o644)
    loader = DataLoader()
    loader.set_vault_secrets([("default", secret)])
    assert files.faults(loader=loader) == []
    [fault] = files.faults()
    assert fault.startswith("site.key: cannot be read: ")


def test_names_that_are_not_covered(files: Files) -> None:
    files.chain(files.leaf(names=("*.example.com",)), files.intermediate)
    assert files.faults("example.com", "a.b.example.com", "www.example.com") == [
        "site.pem: is for *.example.com and does not cover example.com, a.b.example.com"
    ]


def test_dates(files: Files) -> None:
    leaf = files.leaf(days=-2, begin=-30)
    old = sign("Middle", files.middle, "Root", files.root, begin=2)
    files.chain(leaf, old)
    assert files.faults() == [
        f"site.pem: the certificate has ended on {leaf.not_valid_after_utc:%Y-%m-%d}",
        f"site.pem: certificate 2 (CN=Middle) does not begin before {old.not_valid_before_utc:%Y-%m-%d %H:%M} UTC",
    ]


def test_chain_that_stops_early(files: Files) -> None:
    files.chain(files.leaf())
    assert files.faults() == [
        "site.pem: the intermediate certificate is missing: the only one here was signed by CN=Middle; append that one"
    ]


def test_chain_out_of_order(files: Files) -> None:
    files.chain(files.leaf(), files.anchor, files.intermediate)
    [fault] = files.faults()
    assert fault.startswith("site.pem: certificate 2 is CN=Root, and the one before it was signed by CN=Middle")
    # One that only has the issuer's name has not signed it.
    files.chain(files.leaf(), sign("Middle", files.own, "Root", files.root))
    assert len(files.faults()) == 1


def test_key_that_does_not_fit_or_is_open(files: Files) -> None:
    files.private(files.middle, mode=0o644)
    assert files.faults() == [
        "site.key: anybody can read it (mode 0644): chmod 600, or ansible-vault encrypt",
        "site.key: is not the key of the certificate in site.pem",
    ]
    assert stat.S_IMODE(files.key.stat().st_mode) == 0o644


def test_key_with_a_passphrase(files: Files) -> None:
    files.private(files.own, BestAvailableEncryption(b"passphrase"))
    assert files.faults() == ["site.key: has a passphrase, which Nginx would ask for at each start"]


def test_files_that_are_none(files: Files) -> None:
    assert files.faults(certificate="", key="tls/site.key") == [
        "tls_provided_certificate names no file",
        "tls/site.key: must be a whole path, as {{ inventory_dir }}-files/tls/site.pem",
    ]
    files.certificate.write_bytes(files.leaf().public_bytes(Encoding.DER))
    files.key.unlink()
    assert files.faults() == [
        "site.pem: holds no certificate in PEM",
        "site.key: is no file on the control node",
    ]
    files.key.write_text("no key")
    files.key.chmod(0o600)
    assert "site.key: holds no private key in PEM" in files.faults()


# What Nginx is told


def nginx(texts: dict[str, str]) -> str:
    """Return all of Nginx's configuration that is the site's own, without comments."""
    found = [text for path, text in texts.items() if "/slipway" in path and path.startswith("/etc/nginx/")]
    return re.sub(r"(?m)^\s*#.*\n", "", "\n".join(found))


@pytest.mark.parametrize("release", RELEASES)
def test_nothing_of_tls_without_it(rendered: Callable[..., dict[str, str]], release: str) -> None:
    text = nginx(rendered(release))
    assert "listen 80;" in text
    assert not re.search(r"(?<!\$)\bssl_|quic|443|Strict-Transport|acme|http2", text)


def test_syntax_is_that_of_the_version(rendered: Callable[..., dict[str, str]]) -> None:
    old, new = (nginx(rendered(release, tls_mode="acme")) for release in ("12", "13"))
    assert "listen 443 ssl http2;" in old and "http2 on;" not in old and "quic" not in old
    assert "listen 443 ssl;" in new and "http2 on;" in new and "listen 443 quic;" in new
    assert "X25519MLKEM768" in new and "X25519MLKEM768" not in old
    assert "quic" not in nginx(rendered("13", tls_mode="acme", nginx_http3=False))


def test_choices_arrive(rendered: Callable[..., dict[str, str]]) -> None:
    text = nginx(
        rendered(
            "13",
            tls_mode="provided",
            nginx_tls_profile="modern",
            nginx_tls_port=8443,
            nginx_hsts_seconds=63072000,
            nginx_hsts_subdomains=True,
            nginx_hsts_preload=True,
        )
    )
    assert "ssl_protocols TLSv1.3;" in text and "TLSv1.2" not in text
    assert "return 301 https://$host:8443$request_uri;" in text
    assert """h3=":8443";""" in text
    assert '"max-age=63072000; includeSubDomains; preload"' in text
    assert "acme" not in text


def test_settings_are_what_the_role_says(rendered: Callable[..., dict[str, str]]) -> None:
    settings = json.loads(rendered("12", tls_mode="acme")["/etc/slipway/tls/settings.json"])
    assert settings["mode"] == "acme"
    assert settings["names"] == [NAME]
    assert settings["folder"] == "/etc/slipway/tls"


# How a release is asked for


class Handler(http.server.BaseHTTPRequestHandler):
    """Answers with what was asked."""

    def do_GET(self) -> None:
        """Say it."""
        body = f"{self.headers['Host']} {self.headers['X-Forwarded-Proto']}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        """Be silent."""


@pytest.fixture
def tls_server(tmp_path: Path) -> Iterator[tuple[int, list[str]]]:
    """Serve by TLS; yield the port, and the names that clients ask for when they connect."""
    asked: list[str] = []
    files = Files(tmp_path)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(files.certificate, files.key)
    context.sni_callback = lambda _socket, name, _context: asked.append(name)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


def test_release_is_asked_for_by_tls_under_its_name(tls_server: tuple[int, list[str]]) -> None:
    port, asked = tls_server
    from ansible_collections.slipway.kit.plugins.module_utils import probe

    wanted = {"path": "/", "status": 200, "contains": f"{NAME} https"}
    by_tls = probe.Server(NAME, "https", 5, address="127.0.0.1", port=port, tls=True)
    assert probe.first_fault(by_tls, [wanted]) == ""
    assert asked == [NAME]
    plainly = probe.Server(NAME, "https", 2, address="127.0.0.1", port=port)
    assert "no answer" in probe.first_fault(plainly, [wanted])


def test_application_is_asked_plainly_at_its_socket_where_nginx_speaks_tls(tmp_path: Path) -> None:
    from ansible_collections.slipway.kit.plugins.module_utils import probe

    path = str(tmp_path / "web.sock")
    with socketserver.ThreadingUnixStreamServer(path, Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        asked = probe.Server(NAME, "https", 5, path, address="127.0.0.1", port=443, tls=True)
        fault = probe.first_fault(asked, [{"path": "/", "status": 200, "contains": f"{NAME} https"}])
        server.shutdown()
    assert fault == ""


def test_script_is_the_one_that_certbot_calls() -> None:
    """Its commands are those that the role and the units use."""
    script = (ROOT / "roles/tls/templates/usr/local/lib/slipway-tls/tls.py.j2").read_text(encoding="utf-8")
    [known] = re.findall(r"commands = \(([^)]*)\)", script)
    used = set()
    for path in (ROOT / "roles/tls").rglob("*.[yj]*"):
        used |= set(re.findall(r"\{\{ __tls_command \}\}\"?,? (\w+)", path.read_text(encoding="utf-8")))
    assert used == set(re.findall(r'"(\w+)"', known))
