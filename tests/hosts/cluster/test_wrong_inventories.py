"""Each wrong inventory alone, on a site that runs: it is refused with its message, and no host is changed.

Under which variable each is told, and on which host, is asked in tests/unit/test_refused_inventories.py.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import yaml
from certificates import NAME, OperatorFiles
from conftest import FOREIGN_PORT, PROJECT, START_FOREIGN, STOP_FOREIGN, Playbooks, recap, state_of
from testinfra.host import Host
from wrong_inventories import ROWS, TLS, write_source

testinfra_hosts = ["local://"]
pytestmark = pytest.mark.long

EVERYWHERE = "group_vars/all/wrong.yml"
WITHOUT_REDIS = yaml.safe_load((PROJECT / "molecule/cluster/inventory/hosts.yml").read_text(encoding="utf-8"))
del WITHOUT_REDIS["redis"]


@dataclass(frozen=True)
class Wrong:
    """What is wrong with an inventory, or with a host of it."""

    said: str
    files: Mapping[str, dict[str, Any] | str] = field(default_factory=dict)
    """By path: variables, or the text of the file."""
    arguments: tuple[str, ...] = ()
    host: str = ""
    """The host on which `before` and `after` are run as root."""
    before: str = ""
    after: str = ""


def on(host: str, said: str, before: str, after: str, **variables: Any) -> Wrong:
    """Return a fault of a host itself: how it comes and how it goes."""
    return Wrong(said, {EVERYWHERE: variables}, host=host, before=before, after=after)


def of(host: str, said: str, **variables: Any) -> Wrong:
    """Return a fault in what the inventory says of one host."""
    return Wrong(said, {f"host_vars/{host}.yml": variables})


# Judged from variables alone, as many of the others are: the unit tests show that they are told.
VARIABLES_ALONE = {name for name in ROWS if name.startswith(("name-", "pair-", "path-"))}
# What the shared rows say of a site of one server, said of this one; and what only hosts can be asked.
CASES: dict[str, Wrong] = {
    **{
        name: Wrong(said, {EVERYWHERE: own})
        for name, (own, _, said) in ROWS.items()
        if said and name not in VARIABLES_ALONE
    },
    "r04-twice": Wrong("port 5432 is wanted by PostgreSQL and by PgBouncer", {EVERYWHERE: {"pgbouncer_port": 5432}}),
    "r05-port": on(
        "edge1",
        f"port {FOREIGN_PORT}, which Nginx status needs, is held by python3 (pid ",
        START_FOREIGN,
        STOP_FOREIGN,
        nginx_status_port=FOREIGN_PORT,
    ),
    "r16-primaries": Wrong(
        "exactly one of db1, db2 may be primary", {EVERYWHERE: {"topology_database_primary": "db2"}}
    ),
    "r17-group": Wrong("needs a host in the group redis, which has none", {"hosts.yml": WITHOUT_REDIS}),
    "r20-address": of("app2", "10.89.18.21 is the address of app1 and of app2", ansible_host="10.89.18.21"),
    "r21-port": of("worker1", "cannot be reached: ", ansible_port=1),
    "r21-key": of("app2", "cannot be reached: ", ansible_user="nobody"),
    "r22-release": on(
        "app1",
        "the host runs Debian 11",
        "cp -a /etc/os-release /etc/debian_version /root/ && rm /etc/os-release && echo 11.9 > /etc/debian_version"
        ' && printf \'ID=debian\\nNAME="Debian GNU/Linux"\\nVERSION_ID="11"\\nVERSION="11 (bullseye)"\\n\''
        " > /etc/os-release",
        "mv /root/os-release /root/debian_version /etc/",
    ),
    "r23-root": of("worker1", "answers as the user with the number", ansible_become=False),
    "r24-disk": of("db1", "0.4 GiB are free, and 2.0 GiB are needed for database", topology_disk_mb=409),
    "r24-memory": of("db1", "and the host has 300 MiB", topology_memory_mb=300),
    "r25-redis": of("redis1", "4000 Redis broker", redis_broker_memory_mb=4000),
    "r25-postgresql": of("db1", "4000 shared_buffers", postgresql_memory_mb=16000),
    "r26-workers": Wrong(
        "24 gunicorn (2 hosts x 12 workers)", {EVERYWHERE: {"gunicorn_workers": 12, "postgresql_max_connections": 30}}
    ),
    "r35-major": on(
        "db1",
        "has data of PostgreSQL 15 main, and Debian's here is 17",
        "mkdir -p /etc/postgresql/15/main /var/lib/postgresql/15/main/base/16384 /var/lib/postgresql/15/main/pg_tblspc"
        " && echo \"data_directory = '/var/lib/postgresql/15/main'\" > /etc/postgresql/15/main/postgresql.conf"
        " && echo 15 > /var/lib/postgresql/15/main/PG_VERSION",
        "rm -r /etc/postgresql/15 /var/lib/postgresql/15",
    ),
    "r36-foreign": on(
        "db1",
        "has a cluster 17 main with data that Slipway has not made",
        "mv /var/lib/slipway-applied/postgresql@17-main.service /root/",
        "mv /root/postgresql@17-main.service /var/lib/slipway-applied/",
    ),
    "r37-clock": Wrong(
        "more than 30 s apart",
        {"host_vars/app2.yml": {"ansible_python_interpreter": "/mnt/ahead/python3"}},
        host="app2",
        before="mkdir /mnt/ahead && cd /mnt/ahead"
        " && printf 'import time\\nreal = time.time\\ntime.time = lambda: real() + 95\\n' > sitecustomize.py"
        " && printf '#!/bin/sh\\nPYTHONPATH=/mnt/ahead exec /usr/bin/python3 \"$@\"\\n' > python3 && chmod +x python3",
        after="rm -r /mnt/ahead",
    ),
    "r40-limit": Wrong("--limit leaves out", arguments=("--limit", "app1")),
}
# They are of a pair of hosts there.
del CASES["r20-one"], CASES["r20-two"], CASES["r21-one"], CASES["r21-two"]


@pytest.fixture
def copied(playbook: Playbooks, tmp_path: Path) -> Path:
    """Return a copy of the inventory, with the bundled application where it says, and a small one."""
    shutil.copytree(playbook.inventory, tmp_path / "inventories/wrong")
    (tmp_path / "app").symlink_to(PROJECT / "app")
    write_source(tmp_path / "source")
    return tmp_path / "inventories/wrong"


@contextmanager
def spoilt(host: Host, wrong: Wrong) -> Iterator[None]:
    """Have a host as the fault wants it."""
    host.check_output(wrong.before)
    try:
        yield
    finally:
        host.check_output(wrong.after)


def states_of(hosts: dict[str, Host]) -> dict[str, str]:
    """Return what hosts are like, all asked at once."""
    with ThreadPoolExecutor(len(hosts)) as pool:
        return dict(zip(hosts, pool.map(state_of, hosts.values()), strict=True))


def assert_refused(inventory: Path, wrong: Wrong, hosts: dict[str, Host]) -> None:
    """Run the playbook that would deploy the site with what is wrong."""
    for path, content in wrong.files.items():
        file = inventory / path
        file.parent.mkdir(exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content)
        file.write_text(text.replace("SOURCE", str(inventory.parents[1] / "source")), encoding="utf-8")
    with spoilt(hosts[wrong.host], wrong) if wrong.host else nullcontext():
        before = states_of(hosts)
        result = Playbooks(str(inventory))("site.yml", *wrong.arguments)
        after = states_of(hosts)
    assert result.returncode != 0
    assert wrong.said in " ".join(result.stdout.split()), result.stdout[-6000:]
    assert after == before
    assert all(own["changed"] == own["unreachable"] == 0 for own in recap(result.stdout).values())


@pytest.mark.parametrize("name", CASES)
def test_fault_is_refused_and_no_host_is_changed(name: str, copied: Path, hosts: dict[str, Host]) -> None:
    assert_refused(copied, CASES[name], hosts)


@pytest.mark.parametrize("name", [name for name, (_, said) in TLS.items() if said])
def test_certificate_is_refused_and_no_host_is_changed(
    name: str, copied: Path, tmp_path: Path, hosts: dict[str, Host]
) -> None:
    spoil, said = TLS[name]
    files = OperatorFiles(tmp_path)
    spoil(files)
    variables = {
        **{"tls_mode": "provided", "nginx_server_names": [NAME]},
        **{"tls_provided_certificate": str(files.certificate), "tls_provided_key": str(files.key)},
    }
    assert_refused(copied, Wrong(said, {EVERYWHERE: variables}), hosts)
