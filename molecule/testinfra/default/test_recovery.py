"""What is killed comes back by itself, and nothing that was queued is lost."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from conftest import APP, Site, live_unit, mail_to, main_pid, redis_command, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]
pytestmark = pytest.mark.disruptive

POSTGRESQL = {"12": "postgresql@15-main.service", "13": "postgresql@17-main.service"}


def unit_of(host: Host, service: str) -> str:
    """Return the unit that runs a service on the host."""
    if service == "postgresql":
        return POSTGRESQL[host.system_info.release.split(".")[0]]
    if service in ("web", "celery-default", "celery-beat"):
        return live_unit(host, service)
    return f"{service}.service"


@pytest.mark.parametrize(
    "service",
    ["web", "celery-default", "celery-beat", "redis-server@broker", "redis-server@cache", "postgresql", "nginx"],
)
def test_killed_service_comes_back(host: Host, site: Site, service: str) -> None:
    unit = unit_of(host, service)
    before = main_pid(host, unit)
    assert before, f"{unit} does not run"
    host.check_output("systemctl kill --signal KILL %s", unit)
    wait_until(lambda: main_pid(host, unit) not in (0, before), 15, f"{unit} is not back")
    wait_until(lambda: host.run("systemctl is-active %s", unit).stdout.strip() == "active", 30, f"{unit} is not active")
    wait_until(site.answers, 15, f"the site does not answer after {unit} was killed")
    if service.startswith("celery") or service == "redis-server@broker":
        address = site.register()
        wait_until(lambda: mail_to(host, address) == 1, 30, "tasks are not done")


def test_killed_three_times_in_a_row(host: Host, site: Site) -> None:
    for service in ("nginx", "web"):
        for _ in range(3):
            unit = unit_of(host, service)
            before = main_pid(host, unit)
            host.check_output("systemctl kill --signal KILL %s", unit)
            wait_until(lambda unit=unit, before=before: main_pid(host, unit) not in (0, before), 15, unit)
        wait_until(site.answers, 15, service)


def test_requests_wait_while_gunicorn_is_dead(host: Host, site: Site) -> None:
    unit = live_unit(host, "web")
    host.check_output("systemctl kill --signal KILL %s && systemctl is-active %s-web.socket", unit, APP)
    assert site.get("/healthz").status_code == 200, "the socket refused what it should have kept"


def test_queued_tasks_survive_the_broker(
    host: Host, site: Site, inventory: dict[str, str], worker_stopped: None
) -> None:
    addresses = [site.register() for _ in range(5)]
    before = redis_command(host, inventory, "broker", "info", "server")
    host.check_output("systemctl kill --signal KILL redis-server@broker")
    wait_until(lambda: "run_id" in redis_command(host, inventory, "broker", "info", "server"), 15, "the broker")
    run_ids = {next(line for line in info.splitlines() if line.startswith("run_id")) for info in
               (before, redis_command(host, inventory, "broker", "info", "server"))}  # fmt: skip
    assert len(run_ids) == 2, "the broker was not killed"
    assert not any(mail_to(host, address) for address in addresses), "the worker was not stopped"
    host.check_output("systemctl start %s-celery-default", APP)
    wait_until(lambda: all(mail_to(host, address) == 1 for address in addresses), 60, "tasks were lost")


def test_running_pools_reconnect(host: Host, site: Site) -> None:
    """A database that restarts costs no restart of gunicorn."""
    before = main_pid(host, live_unit(host, "web"))
    host.check_output("systemctl kill --signal KILL %s", unit_of(host, "postgresql"))
    wait_until(site.answers, 20, "the site")
    assert main_pid(host, live_unit(host, "web")) == before


@pytest.fixture
def cache_stopped(host: Host) -> Iterator[None]:
    """Keep the cache's Redis stopped during the test."""
    host.check_output("systemctl stop redis-server@cache")
    yield
    host.check_output("systemctl start redis-server@cache")


def test_pages_come_without_the_cache(
    host: Host, site: Site, inventory: dict[str, str], articles: None, cache_stopped: None
) -> None:
    post = re.search(r'href="(/posts/[^"/]+/)"', site.get("/posts/").text)
    assert post
    paths = ["/", "/posts/", post[1], "/shop/hot/"]

    def answers() -> dict[str, int]:
        return {path: site.get(path).status_code for path in paths}

    assert site.get("/readyz").status_code == 503, "the cache was not stopped"
    for _ in range(3):
        assert answers() == dict.fromkeys(paths, 200)
    host.check_output("systemctl start redis-server@cache")
    # It came back empty; each worker asks it again after its pause.
    wait_until(
        lambda: answers() == dict.fromkeys(paths, 200) and redis_command(host, inventory, "cache", "dbsize") != "0",
        30,
        "the cache is not used again",
    )
    assert site.answers()
