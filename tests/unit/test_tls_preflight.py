"""roles/tls/tasks/preflight.yml, and what roles/nginx asks of TLS: what cannot work is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT
from test_preflight import inspect_role

HOOK = str(ROOT / "molecule/tls/dns-auth")
DNS = {"tls_mode": "acme", "tls_acme_challenge": "dns", "tls_acme_dns_auth_hook": HOOK}


@pytest.fixture
def faults_of(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., list[Any]]:
    """Return a function that gives the faults of a role in the shipped example with variables changed."""

    def faults(role: Path, **changed: Any) -> list[Any]:
        return inspect_role(role, variables_for(role, "12", **changed))

    return faults


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"tls_mode": "acme", "tls_acme_email": "admin@example.com"},
        {"tls_mode": "acme", "tls_names": ["example.com", "www.example.com"], "tls_acme_ca_bundle": HOOK},
        DNS | {"tls_names": ["*.example.com", "example.com"]},
        {"tls_mode": "selfsigned", "tls_names": ["intranet"]},
        {"tls_names": ["192.0.2.10"]},
    ],
    ids=str,
)
def test_what_works_passes(faults_of: Callable[..., list[Any]], variables: dict[str, Any]) -> None:
    assert faults_of(ROOT / "roles/tls", **variables) == []


@pytest.mark.parametrize(
    ("variable", "variables", "why"),
    [
        ("tls_mode", {"tls_mode": False}, "must be text"),
        ("tls_mode", {"tls_mode": "letsencrypt"}, "must be one of acme"),
        ("tls_names", {"tls_mode": "acme", "tls_names": []}, "must name a host"),
        ("tls_names", {"tls_mode": "acme", "tls_names": ["https://a.example.com"]}, "without scheme"),
        ("tls_names", {"tls_mode": "selfsigned", "tls_names": ["192.0.2.10"]}, "must be names"),
        ("tls_names", {"tls_mode": "acme", "tls_names": ["localhost"]}, "with a dot in them; wrong are localhost"),
        ("tls_names", {"tls_mode": "acme", "tls_names": ["*.example.com"]}, "a file proves one name"),
        ("tls_expiry_days", {"tls_expiry_days": 1}, "must be from 2 to 60 days"),
        ("tls_acme_directory", {"tls_acme_directory": "http://ca.example.com/"}, "begins with https://"),
        ("tls_acme_email", {"tls_acme_email": "admin"}, "must be an email address"),
        ("tls_acme_ca_bundle", {"tls_acme_ca_bundle": "/none"}, "must be the whole path of a file"),
        ("tls_acme_dns_auth_hook", DNS | {"tls_acme_dns_auth_hook": ""}, "which the challenge dns needs"),
        ("tls_acme_dns_cleanup_hook", DNS | {"tls_acme_dns_cleanup_hook": "cleanup"}, "must be the whole path"),
        ("tls_provided_certificate", {"tls_mode": "provided"}, "tls_provided_key names no file"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    faults_of: Callable[..., list[Any]], variable: str, variables: dict[str, Any], why: str
) -> None:
    [fault] = faults_of(ROOT / "roles/tls", **variables)
    assert fault.variable == variable
    assert why in fault.why


@pytest.mark.parametrize(
    ("variable", "variables"),
    [
        ("nginx_tls_key", {"nginx_tls_certificate": "/etc/a.pem", "nginx_tls_key": ""}),
        ("nginx_tls_port", {"nginx_tls_port": 80}),
        ("nginx_hsts_seconds", {"nginx_hsts_seconds": -1}),
        ("nginx_hsts_preload", {"nginx_hsts_preload": True}),
        ("nginx_tls_profile", {"nginx_tls_profile": "old"}),
    ],
    ids=str,
)
def test_what_nginx_cannot_do_is_refused(
    faults_of: Callable[..., list[Any]], variable: str, variables: dict[str, Any]
) -> None:
    assert [fault.variable for fault in faults_of(ROOT / "roles/nginx", **variables)] == [variable]
