"""Redis: two instances, and what each user may do."""

from __future__ import annotations

from typing import Any

import pytest
from conftest import REDIS_CLI, Servers, memory_share, redis_as, redis_command
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
        file = host.file(f"/etc/redis/redis-{instance}.conf")
        assert (file.user, file.group, file.mode) == ("root", "redis", 0o640)


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
