"""The authority of a site: what it signs, what is replaced, and what nobody but it can have signed."""

from __future__ import annotations

import base64
import socket
import ssl
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from ansible.template import trust_as_template
from conftest import ROOT, SECRETS
from test_preflight import inspect_role, root_of

from ansible_collections.slipway.kit.plugins.filter import authority as filters
from ansible_collections.slipway.kit.plugins.modules import host_certificate as module
from ansible_collections.slipway.kit.plugins.plugin_utils import authority as plugin

NAMES = ["10.0.0.5", "localhost", "127.0.0.1", "::1"]


@pytest.fixture(scope="module")
def authority() -> Any:
    """Return an authority."""
    return plugin.Authority(plugin.new_authority())


def serve(pem: Path) -> int:
    """Answer one connection by TLS with a key and certificate, and return the port."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(pem)
    listener = socket.create_server(("127.0.0.1", 0))

    def answer() -> None:
        # A client that refuses tells so.
        with suppress(OSError):
            context.wrap_socket(listener.accept()[0], server_side=True).close()
        listener.close()

    threading.Thread(target=answer, daemon=True).start()
    return listener.getsockname()[1]


def connect(port: int, trusted: str, name: str = "127.0.0.1") -> None:
    """Connect by TLS as a client that trusts an authority and calls the server by a name."""
    context = ssl.create_default_context(cadata=trusted)
    with socket.create_connection(("127.0.0.1", port), timeout=5) as plain:
        context.wrap_socket(plain, server_hostname=name).close()


def test_clients_know_who_answers(authority: Any, tmp_path: Path) -> None:
    pem = tmp_path / "host.pem"
    pem.write_text(authority.issue(NAMES) + authority.pem)
    connect(serve(pem), authority.pem)
    other = plugin.Authority(plugin.new_authority())
    with pytest.raises(ssl.SSLCertVerificationError, match="self.signed|unable to get"):
        connect(serve(pem), other.pem)
    with pytest.raises(ssl.SSLCertVerificationError, match="[Mm]ismatch"):
        connect(serve(pem), authority.pem, "db.example.com")


def test_a_certificate_is_replaced_when_it_must(authority: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    pem = "".join(authority.issue(NAMES).partition("-----BEGIN CERT")[1:])
    assert authority.why_not(pem, NAMES) == ""
    assert authority.why_not(pem, NAMES[::-1]) == ""
    assert authority.why_not("", NAMES) == "there is none"
    assert authority.why_not("-----BEGIN nothing", NAMES) == "it is of another authority, or none"
    assert authority.why_not(pem, [*NAMES, "10.0.0.6"]) == "it has other names"
    assert "another authority" in plugin.Authority(plugin.new_authority()).why_not(pem, NAMES)

    class Later(datetime):
        days = 0

        @classmethod
        def now(cls, zone: Any = None) -> datetime:
            return datetime.now(zone) + timedelta(days=cls.days)

    monkeypatch.setattr(plugin, "datetime", Later)
    Later.days = plugin.HOST_DAYS * 2 // 3 - 2
    assert authority.why_not(pem, NAMES) == ""
    Later.days += 3
    assert authority.why_not(pem, NAMES).startswith("it ends on ")


def test_what_is_no_authority_is_said_and_not_shown(authority: Any) -> None:
    one, two = (base64.b64decode(plugin.new_authority()).decode() for _ in range(2))
    mixed = one.partition("-----BEGIN CERT")[0] + "".join(two.partition("-----BEGIN CERT")[1:])
    for text, why in (
        ("kTz81LmQw0Xy72RbkTz81LmQw0Xy72Rb", "holds no authority"),
        (base64.b64encode(authority.pem.encode()).decode(), "holds no authority"),
        (base64.b64encode(mixed.encode()).decode(), "do not belong together"),
    ):
        assert why in filters.authority_faults(text)
        assert text not in filters.authority_faults(text)
        with pytest.raises(AnsibleFilterError, match=why):
            filters.authority_certificate(text)
    assert "PRIVATE" not in filters.authority_certificate(plugin.new_authority())
    assert filters.authority_faults(plugin.new_authority()) == ""


def test_the_file_is_read_without_its_key(authority: Any, tmp_path: Path) -> None:
    file = tmp_path / "host.pem"
    assert module.certificate_in(str(file)) == ""
    file.write_text(authority.issue(NAMES) + authority.pem)
    assert authority.why_not(module.certificate_in(str(file)), NAMES) == ""
    assert "PRIVATE" not in module.certificate_in(str(file))
    key = authority.issue(NAMES).partition("-----BEGIN CERT")[0]
    file.write_text(key + "".join(authority.issue(NAMES).partition("-----BEGIN CERT")[1:]))
    assert module.certificate_in(str(file)) == "", "the key does not fit, as after a file that was mixed up by hand"


def test_it_lasts() -> None:
    left = plugin.Authority(plugin.new_authority()).certificate.not_valid_after_utc - datetime.now(UTC)
    assert left > timedelta(days=5 * plugin.HOST_DAYS)


@pytest.mark.parametrize("role", ["postgresql", "redis"])
@pytest.mark.parametrize(
    ("suffix", "variables", "why"),
    [
        ("", {"tls": "no"}, "must be true or false"),
        ("authority", {"authority": "kTz81LmQw0Xy72RbkTz81LmQw0Xy72Rb", "names": ["10.0.0.5"]}, "holds no authority"),
        ("authority", {"authority": "{{ vault_nothing }}", "names": ["10.0.0.5"]}, "vault_nothing, which is not"),
        ("names", {"authority": SECRETS["vault_site_authority"], "names": []}, "must name the host"),
        ("authority", {"authority": "", "names": ["10.0.0.5"]}, "holds no authority"),
        ("names", {"authority": SECRETS["vault_site_authority"], "names": ["a b"]}, "must be names"),
    ],
    ids=["no boolean", "no authority", "no secret", "no names", "names alone", "wrong names"],
)
def test_what_cannot_work_is_refused(
    variables_for: Callable[..., dict[str, Any]],
    role: str,
    suffix: str,
    variables: dict[str, Any],
    why: str,
) -> None:
    values = {
        f"{role}_tls_{name}".replace("_tls_tls", "_tls"): trust_as_template(value) if isinstance(value, str) else value
        for name, value in ({"tls": True} | variables).items()
    }
    faults = inspect_role(ROOT / "roles" / role, variables_for(ROOT / "roles" / role, "12", **values))
    assert [fault for fault in faults if root_of(fault) == f"{role}_tls_{suffix}".rstrip("_") and why in fault.why], (
        faults
    )
