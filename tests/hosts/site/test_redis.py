"""Redis: two instances, and what each user may do."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest
from conftest import REDIS_CLI, Servers, memory_share, redis_as, redis_command, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://redis"]


@pytest.mark.parametrize(
    ("instance", "setting", "value"),
    [
        ("broker", "maxmemory-policy", "noeviction"),
        ("broker", "appendonly", "yes"),
        ("cache", "maxmemory-policy", "allkeys-lru"),
        ("cache", "appendonly", "no"),
        ("cache", "save", ""),
    ],
)
def test_settings(host: Host, inventory: dict[str, str], instance: str, setting: str, value: str) -> None:
    assert redis_command(host, inventory, instance, "config", "get", setting).split("\n") == [
        setting,
        *([value] if value else []),
    ]


@pytest.mark.parametrize("instance", ["broker", "cache"])
def test_memory_is_half_of_its_share(host: Host, inventory: dict[str, Any], instance: str) -> None:
    limit = redis_command(host, inventory, instance, "config", "get", "maxmemory").split("\n")[1]
    assert int(limit) == memory_share(inventory, "redis") * 3 // 8 * 2**20


@pytest.mark.parametrize("port", [6379, 6380])
def test_strangers_are_refused(host: Host, port: int) -> None:
    assert "NOAUTH" in host.run(f"{REDIS_CLI} -p %s ping", str(port)).stdout
    assert "WRONGPASS" in redis_as(host, port, "default", "whatever", "ping")
    assert "WRONGPASS" in redis_as(host, port, "admin", "not the password", "ping")


def test_users_of_one_instance_are_unknown_to_the_other(host: Host, inventory: dict[str, str]) -> None:
    assert "WRONGPASS" in redis_as(host, 6380, "celery", inventory["vault_redis_broker_password"], "ping")
    assert "WRONGPASS" in redis_as(host, 6379, "django", inventory["vault_redis_cache_password"], "ping")


@pytest.mark.parametrize(
    "command",
    [("lpush", "probe", "1"), ("brpop", "probe", "1"), ("publish", "probe", "1"), ("select", "2"), ("time",)],
    ids=" ".join,
)
def test_celery_may(host: Host, inventory: dict[str, str], command: tuple[str, ...]) -> None:
    assert "NOPERM" not in redis_command(host, inventory, "broker", *command, user="celery")


@pytest.mark.parametrize(
    "command",
    [("flushall",), ("flushdb",), ("keys", "*"), ("config", "get", "*"), ("acl", "list"), ("shutdown",)],
    ids=" ".join,
)
def test_celery_may_not(host: Host, inventory: dict[str, str], command: tuple[str, ...]) -> None:
    assert "NOPERM" in redis_command(host, inventory, "broker", *command, user="celery")


@pytest.mark.parametrize("command", [("set", "probe", "1", "ex", "5"), ("get", "probe"), ("flushdb",)], ids=" ".join)
def test_django_may(host: Host, inventory: dict[str, str], command: tuple[str, ...]) -> None:
    assert "NOPERM" not in redis_command(host, inventory, "cache", *command, user="django")


@pytest.mark.parametrize(
    "command",
    [
        ("flushall",),
        ("keys", "*"),
        ("config", "set", "save", "1 1"),
        ("acl", "list"),
        ("shutdown",),
        ("subscribe", "x"),
    ],
    ids=" ".join,
)
def test_django_may_not(host: Host, inventory: dict[str, str], command: tuple[str, ...]) -> None:
    assert "NOPERM" in redis_command(host, inventory, "cache", *command, user="django")


def test_listens_only_where_it_is_asked(host: Host, servers: Servers, inventory: dict[str, Any]) -> None:
    listening = host.check_output("ss -Hltnp")
    addresses = {line.split()[3] for line in listening.splitlines() if "redis-server" in line}
    expected = {"127.0.0.1"} | ({inventory["ansible_host"]} if len(servers.all) > 1 else set())
    assert addresses == {f"{address}:{port}" for address in expected for port in (6379, 6380)}


def test_debians_own_instance_is_masked(host: Host) -> None:
    assert host.run("systemctl is-enabled redis-server.service").stdout.strip() == "masked"
    assert host.run("systemctl is-active redis-server.service").failed


def test_configuration_is_closed(host: Host) -> None:
    for instance in ("broker", "cache"):
        for name in (f"redis-{instance}.conf", f"redis-{instance}.acl"):
            file = host.file(f"/etc/redis/{name}")
            assert (file.user, file.group, file.mode) == ("root", "redis", 0o640)
    # Neither Debian's own, which lets everybody in, nor users in a file that is taken for a configuration.
    assert {name for name in host.file("/etc/redis").listdir() if name.endswith(".conf")} == {
        "redis-broker.conf",
        "redis-cache.conf",
    }


@pytest.mark.parametrize("instance", ["broker", "cache"])
def test_full_memory(host: Host, inventory: dict[str, str], instance: str) -> None:
    port = {"broker": 6379, "cache": 6380}[instance]
    limit = redis_command(host, inventory, instance, "config", "get", "maxmemory").split("\n")[1]
    redis_command(host, inventory, instance, "config", "set", "maxmemory", str(16 * 2**20))
    try:
        # 24 values of 1 MiB into 16 MiB.
        said = host.check_output(
            "for i in $(seq 24); do head -c 1048576 /dev/zero | "
            f"REDISCLI_AUTH=%s {REDIS_CLI} -p %s --user admin --no-auth-warning -x setex fill:$i 60; done",
            inventory["vault_redis_admin_password"],
            str(port),
        ).splitlines()
        stats = redis_command(host, inventory, instance, "info", "stats")
    finally:
        redis_command(host, inventory, instance, "config", "set", "maxmemory", limit)
        redis_command(host, inventory, instance, "eval", "for i=1,24 do redis.call('del', 'fill:'..i) end", "0")
    evicted = int(next(line.split(":")[1] for line in stats.splitlines() if line.startswith("evicted_keys")))
    if instance == "broker":
        assert any(line.startswith("OOM") for line in said) and evicted == 0, "a broker that drops messages"
    else:
        assert said == ["OK"] * 24 and evicted > 0, "a cache that refuses"


@pytest.mark.disruptive
@pytest.mark.runs_on("redis", first=True)
def test_rights_and_a_store_by_the_inventory(
    host: Host, inventory: dict[str, Any], site_playbook: Callable[..., Any]
) -> None:
    """More rights for the cache are in force; the third instance, with its share of the memory, keeps its data."""
    password = "a-password-of-the-store-and-no-other"
    wanted = {
        "redis_cache_acl_rules": ["+keys", "&channel:*", "+publish"],
        "redis_store_enabled": True,
        "redis_store_password": password,
    }
    done = site_playbook("redis.yml", "--extra-vars", json.dumps(wanted))
    assert done.returncode == 0, done.stdout
    try:
        assert "NOPERM" not in redis_command(host, inventory, "cache", "keys", "no-such-key", user="django")
        assert "NOPERM" not in redis_command(host, inventory, "cache", "publish", "channel:1", "x", user="django")
        assert "NOPERM" in redis_command(host, inventory, "cache", "publish", "other", "x", user="django")
        assert redis_as(host, 6381, "store", password, "set", "kept", "1") == "OK"
        host.check_output("systemctl kill --signal KILL redis-server@store")
        wait_until(lambda: redis_as(host, 6381, "store", password, "get", "kept") == "1", what="the store lost a key")
        assert "NOPERM" in redis_as(host, 6381, "store", password, "config", "get", "maxmemory-policy")
        # A right that there is not: what runs goes on as it is.
        wrong = json.dumps(wanted | {"redis_cache_acl_rules": ["+no-such-command"]})
        refused = site_playbook("redis.yml", "--extra-vars", wrong)
        assert refused.returncode != 0 and "+no-such-command" in refused.stdout and password not in refused.stdout
        assert "NOPERM" not in redis_command(host, inventory, "cache", "keys", "no-such-key", user="django")
    finally:
        done = site_playbook("redis.yml")
    assert done.returncode == 0, done.stdout
    assert host.run("systemctl is-active redis-server@store").failed
    assert "NOPERM" in redis_command(host, inventory, "cache", "keys", "no-such-key", user="django")
