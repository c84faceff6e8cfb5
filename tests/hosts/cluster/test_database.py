"""PostgreSQL on several hosts: what the replicas have, who may read there, a promotion and the way back."""

from __future__ import annotations

import json
import re
import subprocess
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from conftest import APP, Playbooks, read_vault, recap, wait_until
from testinfra import get_host
from testinfra.host import Host

testinfra_hosts = ["local://"]

OnHost = Callable[[str], Host]
VERSION = "ls /etc/postgresql"
ASK = """
import psycopg, sys
with psycopg.connect(sys.argv[1], connect_timeout=5, autocommit=True) as connection:
    print(connection.execute(sys.argv[2]).fetchall())
"""
# Rows, one by one, until the server goes away; then how many it has acknowledged.
WRITE_ON = """
import psycopg, sys, time
rows = 0
try:
    with psycopg.connect(sys.argv[1], autocommit=True) as connection:
        while True:
            connection.execute("INSERT INTO ledger VALUES (%s)", [f"row {rows + 1}"])
            rows += 1
            time.sleep(0.01)
except psycopg.Error:
    print(rows)
"""
WRITES = "from accounts.models import User; import uuid; User.objects.create(username=uuid.uuid4().hex[:20])"


@pytest.fixture(scope="module")
def on(playbook: Playbooks) -> OnHost:
    """Return a function that gives a host of the inventory."""
    return lambda name: get_host(f"ansible://{name}?ansible_inventory={playbook.inventory}")


@pytest.fixture(scope="module")
def groups(playbook: Playbooks) -> dict[str, list[str]]:
    """Return the hosts of each group in the order of the inventory, which testinfra does not keep."""
    said = subprocess.check_output(["ansible-inventory", "-i", playbook.inventory, "--list"], text=True)
    return {group: content["hosts"] for group, content in json.loads(said).items() if "hosts" in content}


@pytest.fixture(scope="module")
def primary(on: OnHost, groups: dict[str, list[str]]) -> Host:
    """Return the host that is the primary by the inventory: the first."""
    return on(groups["database"][0])


@pytest.fixture(scope="module", autouse=True)
def ledger(primary: Host) -> None:
    """Have a table for what is written."""
    ask(primary, f"CREATE TABLE IF NOT EXISTS ledger (entry text); ALTER TABLE ledger OWNER TO {APP}; TRUNCATE ledger")
    ask(primary, "INSERT INTO ledger VALUES ('replicated')")


@pytest.fixture(scope="module")
def replica(on: OnHost, groups: dict[str, list[str]]) -> Host:
    """Return the host that follows it."""
    return on(groups["database"][1])


@pytest.fixture(scope="module")
def reader(on: OnHost, groups: dict[str, list[str]]) -> Host:
    """Return a host of the application."""
    return on(groups["app"][0])


def variable(host: Host, name: str) -> str:
    """Return a variable of the host as the inventory has it."""
    return str(host.ansible.get_variables()[name])


def ask(host: Host, statement: str) -> str:
    """Ask the application's database as the superuser."""
    return host.check_output("runuser -u postgres -- psql -d %s -Atqc %s", APP, statement)


def unit(host: Host) -> str:
    """Return the unit of the server."""
    return f"postgresql@{host.check_output(VERSION)}-main.service"


def data(host: Host) -> str:
    """Return the folder of the data."""
    return f"/var/lib/postgresql/{host.check_output(VERSION)}/main"


def url(host: Host, user: str, password: str, database: str = APP) -> str:
    """Return how a client reaches the database of the host by the network."""
    return f"host={variable(host, 'ansible_host')} user={user} password={password} dbname={database} sslmode=require"


def client(reader: Host, target: str, statement: str):  # noqa: ANN201 (testinfra's)
    """Ask a server from a host of the application, by the psycopg of its release."""
    return reader.run("/srv/%s/current/venv/bin/python -c %s %s %s", APP, ASK, target, statement)


def is_replica(host: Host) -> bool:
    """Tell whether a server is there and is a replica."""
    return host.run("runuser -u postgres -- psql -Atqc 'SELECT pg_is_in_recovery()'").stdout.strip() == "t"


def caught_up(primary: Host, replica: Host) -> None:
    """Wait until a replica has all that the primary has now."""
    position = ask(primary, "SELECT pg_current_wal_lsn()")
    wait_until(lambda: ask(replica, f"SELECT pg_last_wal_replay_lsn() >= '{position}'") == "t", "the replica is behind")


def test_replica_has_what_the_primary_has(primary: Host, replica: Host) -> None:
    assert [is_replica(primary), is_replica(replica)] == [False, True]
    caught_up(primary, replica)
    assert ask(replica, "SELECT DISTINCT entry FROM ledger WHERE entry = 'replicated'") == "replicated"


def test_log_is_kept_for_the_replica_and_bounded(primary: Host, replica: Host) -> None:
    said = ask(primary, "SELECT slot_name, active, wal_status FROM pg_replication_slots")
    name = variable(replica, "inventory_hostname")
    assert said == f"slipway_{name}|t|reserved"
    assert ask(primary, "SELECT setting FROM pg_settings WHERE name = 'max_slot_wal_keep_size'") == "10240"
    assert ask(replica, "SELECT count(*) FROM pg_replication_slots") == "0"


def test_log_travels_encrypted(primary: Host) -> None:
    assert ask(primary, "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_replication USING (pid)") == "t"


def test_password_of_replication_is_for_postgresql_alone(primary: Host, replica: Host) -> None:
    secret = variable(replica, "vault_postgresql_replication_password")
    file = replica.file(f"/etc/postgresql/{replica.check_output(VERSION)}/main/replication.pgpass")
    assert secret in file.content_string
    assert (file.user, file.mode) == ("postgres", 0o600)
    for host in (primary, replica):
        processes = host.check_output(
            "cd /proc && for p in $(pgrep -u postgres); do tr '\\0' ' ' <$p/cmdline; tr '\\0' ' ' <$p/environ; done"
        )
        assert "postgres" in processes
        assert secret not in processes


def test_reader_reads_everywhere_and_writes_nowhere(primary: Host, replica: Host, reader: Host) -> None:
    password = variable(primary, "vault_postgresql_reader_password")
    for host in (primary, replica):
        target = url(host, f"{APP}_ro", password)
        assert "replicated" in client(reader, target, "SELECT entry FROM ledger").stdout
        for statement in (
            "INSERT INTO ledger VALUES ('x')",
            "SET default_transaction_read_only = off; DELETE FROM ledger",
        ):
            refused = client(reader, target, statement)
            assert refused.failed
            assert re.search("read-only transaction|permission denied", refused.stderr), refused.stderr
        wrong = client(reader, url(host, f"{APP}_ro", "wrong"), "SELECT 1")
        assert "password authentication failed" in wrong.stderr


def test_only_replicas_get_the_log(primary: Host, reader: Host) -> None:
    secret = variable(primary, "vault_postgresql_replication_password")
    for target in (
        url(primary, "replicator", secret) + " replication=true",
        url(primary, "replicator", secret, "postgres"),
    ):
        refused = client(reader, target, "IDENTIFY_SYSTEM")
        assert refused.failed
        assert "no pg_hba.conf entry" in refused.stderr


def test_state_is_told(playbook: Playbooks) -> None:
    done = playbook("replication_status.yml", ANSIBLE_CALLBACK_RESULT_FORMAT="json")
    assert done.returncode == 0
    states = [
        json.loads(text) for text in re.findall(r'"__postgresql_asked.postgresql": (\{.*?\n    \})', done.stdout, re.S)
    ]
    by_role = {state["role"]: state for state in states}
    assert by_role["primary"]["replicas"][0]["state"] == "streaming"
    assert by_role["primary"]["slots"][0]["wal_status"] == "reserved"
    assert by_role["replica"]["receiver"]["status"] == "streaming"
    assert by_role["replica"]["lag_bytes"] >= 0


# What stops servers


@pytest.fixture
def with_data_of_its_own(replica: Host) -> Iterator[None]:
    """Have a cluster of somebody's in place of the replica, and the replica back afterwards."""
    folder, name = data(replica), unit(replica)
    version = replica.check_output(VERSION)
    replica.check_output("systemctl stop %s && mv %s %s.kept", name, folder, folder)
    replica.check_output("runuser -u postgres -- /usr/lib/postgresql/%s/bin/initdb --pgdata %s", version, folder)
    replica.check_output("systemctl start %s && runuser -u postgres -- createdb precious", name)
    yield
    replica.check_output("systemctl stop %s && rm -r %s && mv %s.kept %s", name, folder, folder, folder)
    replica.check_output("systemctl start %s", name)


@pytest.mark.disruptive
def test_data_of_another_origin_are_refused(playbook: Playbooks, replica: Host, with_data_of_its_own: None) -> None:
    done = playbook("preflight.yml")
    assert done.returncode != 0
    text = " ".join(done.stdout.split())
    name = variable(replica, "inventory_hostname")
    assert f"{name} has data that are not from there" in text
    assert f"-e postgresql_reinitialise={name}" in text
    # Without preflight the role refuses as well.
    done = playbook("_database.yml")
    assert done.returncode != 0
    assert "data of another origin" in " ".join(done.stdout.split())
    assert "precious" in replica.check_output("runuser -u postgres -- psql -Atqlc ''")


@pytest.mark.disruptive
def test_half_made_replica_is_begun_again(playbook: Playbooks, primary: Host, replica: Host) -> None:
    """As a run leaves it that was cut while it copied: the data gone, a part of the copy there, the copying at work."""
    folder = data(replica)
    replica.check_output("systemctl stop %s && rm -r %s", unit(replica), folder)
    replica.check_output("runuser -u postgres -- mkdir -p %s.new/base/16384", folder)
    replica.check_output("systemd-run --unit postgresql-basebackup --uid postgres sleep 1000")
    done = playbook("database.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    caught_up(primary, replica)
    assert replica.check_output("ls %s", folder.removesuffix("/main")) == "main"
    assert replica.run("systemctl is-active postgresql-basebackup").stdout.strip() != "active"
    assert all(counts["changed"] == 0 for counts in recap(playbook("database.yml").stdout).values())


@pytest.mark.disruptive
def test_replica_that_was_away_for_too_long_is_made_anew(playbook: Playbooks, primary: Host, replica: Host) -> None:
    ask(primary, "ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    replica.check_output("systemctl stop %s", unit(replica))
    try:
        ask(primary, "SELECT pg_reload_conf()")
        for _ in range(6):
            ask(primary, "INSERT INTO ledger VALUES ('while away'); SELECT pg_switch_wal(); CHECKPOINT")
        wait_until(lambda: ask(primary, "SELECT wal_status FROM pg_replication_slots") == "lost", "the slot keeps all")
    finally:
        ask(primary, "ALTER SYSTEM RESET max_slot_wal_keep_size")
        ask(primary, "SELECT pg_reload_conf()")
    done = playbook("database.yml")
    assert done.returncode == 0, done.stdout[-4000:]
    caught_up(primary, replica)
    assert ask(replica, "SELECT count(*) > 0 FROM ledger WHERE entry = 'while away'") == "t"


@pytest.fixture
def names(primary: Host, replica: Host) -> tuple[str, str]:
    """Return the names of the primary and the replica, as the inventory has them."""
    return variable(primary, "inventory_hostname"), variable(replica, "inventory_hostname")


def works(reader: Host) -> bool:
    """Tell whether the application writes: it makes a user."""
    return reader.run("%s-manage shell -c %s", APP, WRITES).succeeded


@pytest.mark.disruptive
def test_promotion_and_the_way_back(
    playbook: Playbooks, primary: Host, replica: Host, reader: Host, names: tuple[str, str]
) -> None:
    first, second = names
    ask(primary, "INSERT INTO ledger VALUES ('before')")

    # The inventory comes first: as long as it says something else nothing is done.
    refused = playbook("promote_replica.yml", "-e", f"slipway_promote={second}")
    assert refused.returncode != 0
    assert f"write topology_database_primary: {second} into" in " ".join(refused.stdout.split())
    assert not is_replica(primary)

    changed = ("-e", f"topology_database_primary={second}")
    target = url(primary, APP, read_vault(playbook)["vault_postgresql_password"])
    words = ["/srv/%s/current/venv/bin/python -c %s %s", APP, WRITE_ON, target]
    with ThreadPoolExecutor() as beside:
        writer = beside.submit(lambda: reader.check_output(*words))
        done = playbook("promote_replica.yml", "-e", f"slipway_promote={second}", *changed)
        assert done.returncode == 0, done.stdout[-6000:]
        acknowledged = int(writer.result())
    assert acknowledged > 10
    # The one that was not answered may be there as well.
    assert int(ask(replica, "SELECT count(*) FROM ledger WHERE entry LIKE 'row %'")) in (acknowledged, acknowledged + 1)
    assert [is_replica(primary), is_replica(replica)] == [True, False]
    assert ask(replica, "SELECT count(*) FROM ledger WHERE entry = 'before'") == "1"
    assert works(reader)
    caught_up(replica, primary)
    assert ask(replica, "SELECT slot_name, active FROM pg_replication_slots") == f"slipway_{first}|t"
    assert ask(primary, "SELECT count(*) FROM pg_replication_slots") == "0"
    assert all(counts["changed"] == 0 for counts in recap(playbook("database.yml", *changed).stdout).values())

    # With the inventory as it was there would be two.
    refused = playbook("preflight.yml")
    assert refused.returncode != 0
    text = " ".join(refused.stdout.split())
    assert f"exactly one of {first}, {second} may be primary: {second} is" in text
    assert f"write topology_database_primary: {second} into" in text

    # The new primary is lost, with rows that the other has never got.
    primary.check_output("systemctl stop %s", unit(primary))
    ask(replica, "INSERT INTO ledger VALUES ('never sent')")
    replica.check_output("systemctl mask --runtime %s", unit(replica))
    replica.check_output("systemctl kill --signal KILL %s", unit(replica))
    primary.check_output("systemctl start %s", unit(primary))
    refused = playbook("promote_replica.yml", "-e", f"slipway_promote={first}")
    assert refused.returncode != 0
    assert "say -e slipway_lost=true" in " ".join(refused.stdout.split())
    replica.check_output("systemctl unmask --runtime %s; systemctl stop %s", unit(replica), unit(replica))
    done = playbook("promote_replica.yml", "-e", f"slipway_promote={first}", "-e", "slipway_lost=true", "-v")
    assert done.returncode == 0, done.stdout[-6000:]
    assert [is_replica(primary), is_replica(replica)] == [False, True]
    assert "taken back (pg_rewind)" in done.stdout
    assert works(reader)
    caught_up(primary, replica)
    for host in (primary, replica):
        assert ask(host, "SELECT DISTINCT entry FROM ledger WHERE entry IN ('before', 'never sent')") == "before"
    assert playbook("preflight.yml").returncode == 0
