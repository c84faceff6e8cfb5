"""PgBouncer beside PostgreSQL: who gets in, what it shares, and that it comes back."""

from __future__ import annotations

import pytest
from conftest import APP
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]

# Clients that each hold a transaction of a moment: many more than connections would be, were they not shared.
CROWD = """
import psycopg, sys, threading
seen, faults = set(), []
def ask():
    try:
        with psycopg.connect(sys.argv[1], autocommit=True, prepare_threshold=None) as connection:
            for _ in range(3):
                seen.add(connection.execute("SELECT pg_backend_pid(), pg_sleep(0.05)").fetchone()[0])
    except Exception as error:
        faults.append(repr(error))
threads = [threading.Thread(target=ask) for _ in range(60)]
[thread.start() for thread in threads]
[thread.join() for thread in threads]
print(len(seen), faults)
"""


def environment(host: Host, name: str) -> str:
    """Return a value of the application's environment on the host."""
    line = host.check_output("grep ^%s= /etc/%s/app.env", name, APP)
    return line.partition("=")[2].strip('"')


def python(host: Host, script: str, *arguments: str):  # noqa: ANN201 (testinfra's)
    """Run a script with the packages of the release."""
    words = " ".join("%s" for _ in arguments)
    return host.run(f"/srv/%s/current/venv/bin/python -c %s {words}", APP, script, *arguments)


def test_application_goes_through_the_pool(host: Host) -> None:
    assert ":6432/" in environment(host, "DATABASE_URL")
    direct = host.check_output("grep ^DATABASE_URL= /etc/%s/manage.env", APP)
    assert ":5432/" in direct
    asked = "from django.db import connection as c; k=c.cursor(); k.execute('SELECT 1'); print(c.settings_dict['PORT'])"
    assert "5432" in host.check_output("%s-manage shell -c %s", APP, asked)


def test_many_clients_share_few_connections(host: Host) -> None:
    done = python(host, CROWD, environment(host, "DATABASE_URL"))
    number, faults = done.stdout.split(" ", 1)
    assert faults.strip() == "[]", faults
    assert 1 <= int(number) <= 20


def test_clients_of_other_hosts_speak_tls(host: Host) -> None:
    script = "import psycopg, sys; psycopg.connect(sys.argv[1], sslmode=sys.argv[2], connect_timeout=5); print('in')"
    assert python(host, script, environment(host, "DATABASE_URL"), "require").stdout.strip() == "in"
    assert python(host, script, environment(host, "DATABASE_URL"), "disable").failed


@pytest.mark.parametrize("user", [APP, "postgres", f"{APP}_ro"])
def test_others_are_refused(host: Host, user: str) -> None:
    server = environment(host, "DATABASE_URL").rpartition("@")[2]
    script = "import psycopg, sys; psycopg.connect(sys.argv[1], connect_timeout=5)"
    refused = python(host, script, f"postgresql://{user}:not-the-password@{server}")
    assert refused.failed and "OperationalError" in refused.stderr


def test_settings_of_a_session_are_refused(host: Host) -> None:
    """They would be in force for whoever has the connection next."""
    script = "import psycopg, sys; psycopg.connect(sys.argv[1], options='-c lock_timeout=5s', connect_timeout=5)"
    refused = python(host, script, environment(host, "DATABASE_URL"))
    assert refused.failed and "options" in refused.stderr, refused.stderr
