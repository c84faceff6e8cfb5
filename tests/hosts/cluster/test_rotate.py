"""Secrets that are changed while the site serves: nobody notices, the old ones are refused, and none is told."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass

import pytest
import requests
from conftest import (
    APP,
    Playbooks,
    Site,
    Visitors,
    add_to_vault,
    changes,
    forget_inventory,
    hosts_of,
    read_vault,
    redis_as,
    sites_of,
    wait_until,
)
from testinfra.host import Host

# One host, from which all others are found.
testinfra_hosts = ["ansible://redis"]
pytestmark = pytest.mark.disruptive

REDIS = {"celery": (6379, "vault_redis_broker_password"), "django": (6380, "vault_redis_cache_password")}
ROTATED = ("vault_django_secret_key", "vault_postgresql_password", "vault_postgresql_reader_password",
           "vault_postgresql_replication_password", "vault_redis_broker_password", "vault_redis_cache_password",
           "vault_redis_admin_password")  # fmt: skip
SECOND = f"{APP}_next"
READER = f"{APP}_ro"
# All that YAML, Jinja, systemd, a shell, libpq, Redis or a URL could stumble over.
ODD = """a'b"c@d%e#f$g{h}i/j:k?l&m=n+o\\p`q;ä€"""


@dataclass
class Rotation:
    """What a rotation left behind."""

    old: dict[str, str]
    new: dict[str, str]
    said: str
    answers: list[str]
    # Somebody who comes again soon, and somebody who does not.
    reader: requests.Session
    sleeper: requests.Session


def run(playbook: Playbooks, *arguments: str) -> str:
    """Run rotate_secrets.yml, which must succeed, and return what it said."""
    process = playbook.start("rotate_secrets.yml", *arguments)
    output, _ = process.communicate(timeout=1500)
    assert process.returncode == 0, output[-6000:]
    return output


def run_until(playbook: Playbooks, task: str, turn: int, *arguments: str) -> None:
    """Start rotate_secrets.yml and kill it when it begins a task for the `turn`-th time; fail when it ends before."""
    process = playbook.start("rotate_secrets.yml", *arguments)
    assert process.stdout
    said = []
    for line in process.stdout:
        said.append(line)
        turn -= line.startswith("TASK [") and task in line
        if turn == 0:
            break
    else:
        pytest.fail(f"{task} was not reached: {''.join(said)[-4000:]}")
    process.kill()
    process.communicate(timeout=60)


def log_in(site: Site) -> requests.Session:
    """Register a reader, who is logged in then, and return the browser."""
    browser = requests.Session()
    page = browser.get(f"{site.url}/accounts/register/", timeout=15)
    token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
    assert token
    name = f"reader{token[1][:12].lower()}"
    form = {"csrfmiddlewaretoken": token[1], "username": name, "email": f"{name}@example.com"}
    answer = browser.post(
        f"{site.url}/accounts/register/", form | {"password1": f"{token[1]}1", "password2": f"{token[1]}1"}, timeout=30,
        headers={"Referer": f"{site.url}/accounts/register/"},
    )  # fmt: skip
    assert answer.ok and knows(browser, site)
    return browser


def knows(browser: requests.Session, site: Site) -> bool:
    """Tell whether the site knows who is there."""
    return browser.get(f"{site.url}/accounts/profile/", timeout=15, allow_redirects=False).status_code == 200


@pytest.fixture(scope="module")
def sites(playbook: Playbooks) -> list[Site]:
    """Return the site as each edge serves it."""
    return sites_of(hosts_of(playbook, "edge"))


@pytest.fixture(scope="module")
def database(playbook: Playbooks) -> Host:
    """Return the host that has the database."""
    return hosts_of(playbook, "database")[0]


@pytest.fixture(scope="module")
def rotation(playbook: Playbooks, sites: list[Site]) -> Iterator[Rotation]:
    """Rotate everything under load, as loudly as Ansible can."""
    old, reader, sleeper = read_vault(playbook), log_in(sites[0]), log_in(sites[0])
    with Visitors(*sites) as visitors:
        said = run(playbook, "-vvv", "--diff")
    yield Rotation(old, read_vault(playbook), said, visitors.answers, reader, sleeper)
    forget_inventory(playbook)


def test_no_request_fails(rotation: Rotation) -> None:
    assert len(rotation.answers) > 100
    assert [answer for answer in rotation.answers if answer != "200"] == []


def test_playbook_tells_no_secret(rotation: Rotation) -> None:
    assert {name for name in rotation.new if rotation.new[name] != rotation.old.get(name)} == {
        *ROTATED,
        # For the sessions that it signed.
        "vault_django_secret_key_previous",
    }
    assert rotation.new["vault_django_secret_key_previous"] == rotation.old["vault_django_secret_key"]
    assert "PLAY RECAP" in rotation.said and "Write the environment" in rotation.said
    secrets = {*rotation.old.values(), *rotation.new.values()} - {""}
    assert not [secret for secret in secrets if secret in rotation.said]


def test_no_host_tells_a_secret(playbook: Playbooks, rotation: Rotation) -> None:
    """Before any test has a secret on a command line, which sudo writes down."""
    secrets = [rotation.new[name] for name in ROTATED]
    logs = "cat /var/log/postgresql/*.log /var/log/redis/*.log /var/log/nginx/*.log 2>/dev/null; true"
    for host in hosts_of(playbook, "test_hosts"):
        told = host.check_output("journalctl --no-pager --output verbose; %s", "true") + host.check_output(
            f"{logs}; cat /proc/[0-9]*/cmdline | tr '\\0' ' '"
        )
        assert "systemd" in told
        assert not [secret for secret in secrets if secret in told]


def test_old_passwords_of_redis_are_refused(host: Host, rotation: Rotation) -> None:
    for user, (port, name) in REDIS.items():
        assert redis_as(host, port, user, rotation.new[name], "ping") == "PONG"
        assert "WRONGPASS" in redis_as(host, port, user, rotation.old[name], "ping")
    for port in (6379, 6380):
        assert redis_as(host, port, "admin", rotation.new["vault_redis_admin_password"], "ping") == "PONG"
        assert "WRONGPASS" in redis_as(host, port, "admin", rotation.old["vault_redis_admin_password"], "ping")
    # And after a restart, which reads the file.
    host.check_output("systemctl restart redis-server@cache")
    port, name = REDIS["django"]
    assert redis_as(host, port, "django", rotation.new[name], "ping") == "PONG"
    assert "WRONGPASS" in redis_as(host, port, "django", rotation.old[name], "ping")


def log_in_to(database: Host, user: str, password: str, query: str = "SELECT 1") -> subprocess.CompletedProcess:
    """Ask PostgreSQL something as a role, by a password."""
    return database.run("PGPASSWORD=%s psql -h 127.0.0.1 -U %s -d %s -Atc %s", password, user, APP, query)


def test_old_password_of_postgresql_is_refused(database: Host, rotation: Rotation) -> None:
    name = "vault_postgresql_password"
    assert log_in_to(database, APP, rotation.new[name]).succeeded
    refused = log_in_to(database, APP, rotation.old[name])
    assert refused.failed and "password authentication failed" in refused.stderr
    # The second roles are gone.
    assert log_in_to(database, SECOND, rotation.new[name]).failed
    roles = database.check_output("sudo -u postgres psql -Atc 'SELECT rolname FROM pg_roles'").split()
    assert {APP, READER} < set(roles) and not [role for role in roles if role.endswith("_next")]


def test_old_password_of_the_reader_is_refused(playbook: Playbooks, rotation: Rotation) -> None:
    name = "vault_postgresql_reader_password"
    for host in hosts_of(playbook, "database"):
        assert log_in_to(host, READER, rotation.new[name]).succeeded
        assert log_in_to(host, READER, rotation.old[name]).failed


def followers(database: Host) -> set[str]:
    """Return the processes that send the log to replicas."""
    query = "SELECT pid FROM pg_stat_replication WHERE state = 'streaming'"
    return set(database.check_output("sudo -u postgres psql -Atc %s", query).split())


def test_old_password_of_replicas_is_refused(playbook: Playbooks, database: Host, rotation: Rotation) -> None:
    replica = hosts_of(playbook, "database")[1]
    known = replica.check_output("sudo -u postgres psql -Atc 'SHOW primary_conninfo'")
    ask = "PGPASSWORD=%s psql %s -Atc IDENTIFY_SYSTEM"
    for password, said in ((rotation.new, True), (rotation.old, False)):
        answer = replica.run(ask, password["vault_postgresql_replication_password"], f"{known} replication=1")
        assert answer.succeeded is said, answer.stderr
    # A replica that has lost its connection comes back with the new one.
    before = followers(database)
    assert before
    database.check_output("sudo -u postgres psql -Atc %s", "SELECT pg_terminate_backend(pid) FROM pg_stat_replication")
    wait_until(lambda: len(followers(database) - before) == len(before), "replicas that follow again")


def test_next_run_finds_nothing_to_do(playbook: Playbooks, rotation: Rotation) -> None:
    done = playbook("site.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    assert changes(done.stdout) == []


def test_part_of_the_site_is_refused(playbook: Playbooks) -> None:
    before = read_vault(playbook)
    done = playbook("rotate_secrets.yml", "--limit", "database")
    assert done.returncode != 0 and "--limit leaves out" in done.stdout
    done = playbook("rotate_secrets.yml", "--extra-vars", '{"slipway_rotate": ["postgres"]}')
    assert done.returncode != 0 and "rotate knows django, postgresql, redis, and not postgres" in done.stdout
    assert read_vault(playbook) == before


def test_sessions_last_for_one_rotation(playbook: Playbooks, sites: list[Site], rotation: Rotation) -> None:
    # By any process, on any host; and Django signs the session anew.
    assert all(knows(rotation.reader, site) for site in [sites[0]] * 20)
    run(playbook, "--extra-vars", '{"slipway_rotate": ["django"]}')
    assert knows(rotation.reader, sites[0])
    assert not knows(rotation.sleeper, sites[0])
    vault = read_vault(playbook)
    assert rotation.old["vault_django_secret_key"] not in vault.values()
    assert vault["vault_postgresql_password"] == rotation.new["vault_postgresql_password"]


def test_rotation_that_is_cut_is_finished_by_the_next(
    playbook: Playbooks, sites: list[Site], database: Host, rotation: Rotation
) -> None:
    before = read_vault(playbook)
    # Passwords of the operator's choice, which are waiting to be taken up.
    add_to_vault(
        playbook,
        {
            f"{name}_next": f"{ODD} {name}"
            for name in (*(name for _, name in REDIS.values()), "vault_postgresql_password")
        },
    )
    choice = ["--extra-vars", '{"slipway_rotate": ["postgresql", "redis"]}']
    with Visitors(*sites) as visitors:
        # The application's environment names the second role, and some of its processes use it.
        run_until(playbook, "Activate the release on the other hosts", 1, *choice)
        vault = read_vault(playbook)
        coming = vault["vault_postgresql_password_next"]
        assert vault["vault_postgresql_password"] == before["vault_postgresql_password"]
        assert {site.get("/readyz").status_code for site in sites} == {200}
        assert log_in_to(database, APP, before["vault_postgresql_password"]).succeeded
        # What the second role makes is the application's own.
        query = "CREATE TABLE made_by_second (); SELECT tableowner FROM pg_tables WHERE tablename = 'made_by_second'"
        assert log_in_to(database, SECOND, coming, query).stdout.split()[-1] == APP
        assert log_in_to(database, APP, before["vault_postgresql_password"], "DROP TABLE made_by_second").succeeded

        # Another run takes it up, and is cut when the new password is the one in use for the vault, and for no role.
        run_until(playbook, "Read the file", 2, *choice)
        assert read_vault(playbook)["vault_postgresql_password"] == coming
        assert {site.get("/readyz").status_code for site in sites} == {200}
        # And another when the old ones are gone from the vault, and Redis still takes them.
        run_until(playbook, "users | Write who may log in", 3, *choice)
        assert {site.get("/readyz").status_code for site in sites} == {200}

        run(playbook, *choice)
    after = read_vault(playbook)
    assert after["vault_postgresql_password"] == coming == f"{ODD} vault_postgresql_password"
    assert not [name for name in after if name.endswith("_next")]
    assert log_in_to(database, APP, coming).succeeded
    assert log_in_to(database, APP, before["vault_postgresql_password"]).failed
    assert [answer for answer in visitors.answers if answer != "200"] == []
