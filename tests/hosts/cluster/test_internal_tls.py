"""PostgreSQL and Redis are asked by TLS, and a client knows whom it asks."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from conftest import APP, Playbooks, to_json, wait_until
from testinfra import get_host
from testinfra.host import Host

from ansible_collections.slipway.kit.plugins.plugin_utils.authority import Authority, new_authority

testinfra_hosts = ["ansible://app"]
SERVICES = {
    "database": ("/etc/postgresql-common/slipway-tls.pem", "postgres"),
    "redis": ("/etc/redis/slipway-tls.pem", "redis"),
}

PARAMETERS = f"?ssl_cert_reqs=required&ssl_ca_certs=/etc/{APP}/authority.pem"


@pytest.fixture(scope="module")
def asked(host: Host, playbook: Playbooks) -> dict[str, Host]:
    """Return the host of the database and that of Redis."""
    groups = host.ansible.get_variables()["groups"]
    return {name: get_host(f"ansible://{groups[name][0]}?ansible_inventory={playbook.inventory}") for name in SERVICES}


@pytest.fixture(scope="module")
def other() -> Any:
    """Return an authority that nobody trusts."""
    return Authority(new_authority())


# Asks both with the application's own settings and libraries, as its environment says, with something changed.
ASK = """
import json, sys
import django.db, psycopg, redis
from django.conf import settings
changed = json.loads('''%s''')
told = {}
try:
    options = django.db.connection.get_connection_params() | changed["database"]
    options.pop("cursor_factory", None), options.pop("context", None)
    with psycopg.connect(**options) as connection:
        told["database"] = "tls" if connection.pgconn.ssl_in_use else "plain"
except psycopg.Error as error:
    told["database"] = str(error)
for name, url in (("broker", settings.CELERY_BROKER_URL), ("cache", settings.CACHE_URL)):
    try:
        for old, new in changed["redis"]:
            url = url.replace(old, new)
        client = redis.Redis.from_url(url, socket_timeout=3, socket_connect_timeout=3)
        client.ping()
        told[name] = type(client.connection_pool.get_connection()).__name__
    except redis.RedisError as error:
        told[name] = f"{type(error).__name__}: {error}"
print(json.dumps(told))
"""


@pytest.fixture
def ask(manage: Callable[..., str]) -> Callable[..., dict[str, str]]:
    """Return what asks PostgreSQL and Redis from the host, and tells how that went."""

    def run(database: dict[str, str] | None = None, redis: list[tuple[str, str]] | None = None) -> dict[str, str]:
        script = ASK % json.dumps({"database": database or {}, "redis": redis or []})
        told = to_json(manage("shell", "--verbosity", "0", "--command", script))
        assert isinstance(told, dict)
        return told

    return run


@pytest.fixture
def foreign(host: Host, other: Any) -> Iterator[str]:
    """Put the certificate of another authority on the host, and return its path."""
    path = f"/etc/{APP}/other.pem"
    host.check_output("printf %%s %s >%s", other.pem, path)
    yield path
    host.check_output("rm %s", path)


def test_the_application_asks_by_tls(ask: Callable[..., dict[str, str]]) -> None:
    assert ask() == {"database": "tls", "broker": "SSLConnection", "cache": "SSLConnection"}


def test_who_trusts_another_authority_asks_nothing(ask: Callable[..., dict[str, str]], foreign: str) -> None:
    told = ask({"sslrootcert": foreign}, [(f"/etc/{APP}/authority.pem", foreign)])
    assert all("certificate verify failed" in answer for answer in told.values()), told


def test_who_calls_the_server_by_another_name_asks_nothing(
    ask: Callable[..., dict[str, str]], asked: dict[str, Host]
) -> None:
    """It might be another server of the site."""
    names = {name: server.ansible.get_variables()["ansible_host"] for name, server in asked.items()}
    # An IPv4 address in another spelling leads to the same place, and stands in no certificate.
    odd = {name: f"::ffff:{address}" for name, address in names.items()}
    told = ask({"host": odd["database"]}, [(f"@{names['redis']}:", f"@[{odd['redis']}]:")])
    assert "does not match host name" in told["database"], told
    assert all("certificate verify failed" in told[name] for name in ("broker", "cache")), told


def test_plain_text_is_refused(ask: Callable[..., dict[str, str]]) -> None:
    told = ask({"sslmode": "disable", "sslrootcert": ""}, [("rediss://", "redis://"), (PARAMETERS, "")])
    assert "no encryption" in told["database"], told
    assert all(told[name].startswith("ConnectionError") for name in ("broker", "cache")), told


def test_keys_are_the_services_own(asked: dict[str, Host]) -> None:
    for name, (path, group) in SERVICES.items():
        file = asked[name].file(path)
        assert (file.user, file.group, oct(file.mode)) == ("root", group, "0o640")


def test_the_authority_is_on_no_host(host: Host, asked: dict[str, Host]) -> None:
    """Neither as it stands in the vault nor as it signs."""
    secret = host.ansible.get_variables()["vault_site_authority"]
    key = base64.b64decode(secret).decode().splitlines()[1]
    assert len(key) == 64
    for one in (host, *asked.values()):
        for text in (secret[100:160], key):
            # Not in a command line, which sudo writes into the journal.
            coded = base64.b64encode(text.encode()).decode()
            search = "printf %%s %s | base64 -d | grep -rlFf - /etc /root /home /srv /tmp /var/lib /var/log /run"
            assert one.run(search, coded).stdout == "", text[:4]


@pytest.mark.disruptive
@pytest.mark.parametrize("name", SERVICES)
def test_a_server_with_another_certificate_is_refused_and_mended_by_a_run(
    name: str, asked: dict[str, Host], ask: Callable[..., dict[str, str]], other: Any, playbook: Playbooks
) -> None:
    server, path = asked[name], SERVICES[name][0]
    address = server.ansible.get_variables()["ansible_host"]
    units = "redis-server@broker redis-server@cache" if name == "redis" else "postgresql@*"
    answers = ["broker", "cache"] if name == "redis" else ["database"]
    pem = base64.b64encode((other.issue([address, "127.0.0.1"]) + other.pem).encode()).decode()
    server.check_output(f"printf %%s %s | base64 -d | tee %s >/dev/null && systemctl restart {units}", pem, path)
    try:
        told = ask()
        assert all("certificate verify failed" in told[answer] for answer in answers), told
    finally:
        result = playbook(f"{name}.yml", "--limit", server.ansible.get_variables()["inventory_hostname"])
    assert result.returncode == 0, result.stdout[-3000:]
    wait_until(lambda: set(ask().values()) == {"tls", "SSLConnection"}, "all by TLS")
