"""What is killed comes back by itself, and nothing that was queued is lost."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import Any
from urllib.parse import urlsplit

import pytest
from conftest import APP, Servers, Site, live_unit, mail_to, main_pid, redis_command, unit_of, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://test_hosts"]
pytestmark = pytest.mark.disruptive


@pytest.mark.parametrize(
    "service",
    [
        pytest.param("web", marks=pytest.mark.runs_on("app")),
        pytest.param("celery-default", marks=pytest.mark.runs_on("worker")),
        pytest.param("celery-beat", marks=pytest.mark.runs_on("worker", first=True)),
        pytest.param("redis-server@broker", marks=pytest.mark.runs_on("redis", first=True)),
        pytest.param("redis-server@cache", marks=pytest.mark.runs_on("redis", first=True)),
        pytest.param("postgresql", marks=pytest.mark.runs_on("database")),
        pytest.param("nginx", marks=pytest.mark.runs_on("edge")),
    ],
)
def test_killed_service_comes_back(host: Host, servers: Servers, site: Site, service: str) -> None:
    unit = unit_of(host, service)
    before = main_pid(host, unit)
    assert before, f"{unit} does not run"
    host.check_output("systemctl kill --signal KILL %s", unit)
    wait_until(lambda: main_pid(host, unit) not in (0, before), f"{unit} is not back")
    wait_until(lambda: host.run("systemctl is-active %s", unit).stdout.strip() == "active", f"{unit} is not active")
    wait_until(site.answers, f"the site does not answer after {unit} was killed")
    if service.startswith("celery") or service == "redis-server@broker":
        address = site.register()
        wait_until(lambda: mail_to(servers, address) == 1, "tasks are not done")


@pytest.mark.parametrize(
    "service",
    [
        pytest.param("nginx", marks=pytest.mark.runs_on("edge")),
        pytest.param("web", marks=pytest.mark.runs_on("app")),
    ],
)
def test_killed_three_times_in_a_row(host: Host, site: Site, service: str) -> None:
    for _ in range(3):
        unit = unit_of(host, service)
        before = main_pid(host, unit)
        host.check_output("systemctl kill --signal KILL %s", unit)
        wait_until(lambda unit=unit, before=before: main_pid(host, unit) not in (0, before), unit)
    wait_until(site.answers, service)


@pytest.mark.runs_on("worker", first=True)
def test_service_that_is_given_up_is_failed_and_tried_again(host: Host) -> None:
    """What it waited for may be back; one that somebody has stopped stays as it is."""
    unit = live_unit(host, "celery-default")
    drop_in = f"/run/systemd/system/{unit}.d"
    host.check_output("mkdir %s && printf '[Unit]\\nStartLimitBurst=1\\n' >%s/burst.conf", drop_in, drop_in)
    host.check_output("systemctl daemon-reload")

    def state() -> str:
        return host.check_output("systemctl show -P ActiveState %s", unit)

    def give_up() -> None:
        """Kill it whenever it runs, until systemd starts it no more."""

        def failed() -> bool:
            host.run("systemctl kill --signal KILL %s", unit)
            return state() == "failed"

        wait_until(failed, f"{unit} is given up")

    try:
        give_up()
        host.check_output("systemctl stop %s-celery-default && systemctl start %s-recover.service", APP, APP)
        assert state() == "failed", "one that was stopped by hand was started"
        host.check_output("systemctl --no-block start %s-celery-default", APP)
        wait_until(lambda: state() != "failed", "started by hand")
        give_up()
        host.check_output("systemctl start %s-recover.service", APP)
        wait_until(lambda: state() == "active", "it is tried again")
    finally:
        host.check_output("rm -r %s && systemctl daemon-reload && systemctl reset-failed %s", drop_in, unit)
        host.check_output("systemctl start %s-celery-default %s", APP, unit)
    assert host.check_output("systemctl is-enabled %s-recover.timer", APP) == "enabled"
    assert host.check_output("systemctl is-active %s-recover.timer", APP) == "active"


@pytest.mark.runs_on("app")
def test_requests_wait_while_gunicorn_is_dead(host: Host, site: Site) -> None:
    """Asked where gunicorn listens: an Nginx that knows another host would hide that this one refuses."""
    unit = live_unit(host, "web")
    ask = (
        "import http.client, socket, sys;"
        "c = http.client.HTTPConnection('localhost'); c.sock = socket.socket(socket.AF_UNIX);"
        "c.sock.connect(sys.argv[1]);"
        "c.request('GET', '/healthz', headers={'Host': sys.argv[2]}); print(c.getresponse().status)"
    )
    said = host.check_output(
        "systemctl kill --signal KILL %s && systemctl is-active %s-web.socket && python3 -c %s /run/%s/web.sock %s",
        unit, APP, ask, APP, urlsplit(site.url).hostname,
    )  # fmt: skip
    assert said.split() == ["active", "200"], "the socket refused what it should have kept"


@pytest.mark.runs_on("redis", first=True)
def test_queued_tasks_survive_the_broker(
    host: Host, servers: Servers, site: Site, inventory: dict[str, Any], start_workers: Callable[[], None]
) -> None:
    addresses = [site.register() for _ in range(5)]
    before = redis_command(host, inventory, "broker", "info", "server")
    host.check_output("systemctl kill --signal KILL redis-server@broker")
    wait_until(lambda: "run_id" in redis_command(host, inventory, "broker", "info", "server"), "the broker")
    run_ids = {next(line for line in info.splitlines() if line.startswith("run_id")) for info in
               (before, redis_command(host, inventory, "broker", "info", "server"))}  # fmt: skip
    assert len(run_ids) == 2, "the broker was not killed"
    assert not any(mail_to(servers, address) for address in addresses), "a worker was not stopped"
    start_workers()
    wait_until(lambda: all(mail_to(servers, address) == 1 for address in addresses), "tasks were lost")


@pytest.mark.runs_on("database", first=True)
def test_running_pools_reconnect(host: Host, servers: Servers, site: Site) -> None:
    """A database that restarts costs no restart of gunicorn."""

    def processes() -> list[int]:
        return [main_pid(server, live_unit(server, "web")) for server in servers.of("app")]

    before = processes()
    host.check_output("systemctl kill --signal KILL %s", unit_of(host, "postgresql"))
    wait_until(site.answers, "the site")
    assert processes() == before


@pytest.fixture
def cache_stopped(redis_host: Host) -> Iterator[None]:
    """Keep the cache's Redis stopped during the test."""
    redis_host.check_output("systemctl stop redis-server@cache")
    yield
    redis_host.check_output("systemctl start redis-server@cache")


@pytest.mark.runs_on("redis", first=True)
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
        "the cache is not used again",
    )
    assert site.answers()
