"""A cluster of Debian's PostgreSQL, as its host sees it: what is on the disk, and what the server says."""

from __future__ import annotations

import json
import os
import re
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule

# What users make is numbered from here on; initdb's own is below (access/transam.h).
FIRST_OID = 16384
ENVIRONMENT = {"PGCONNECT_TIMEOUT": "5", "LC_ALL": "C.UTF-8"}
# One call: it asks which of the two it is, and then what that one knows.
QUESTION = r"""
SET statement_timeout = '10s';
SELECT pg_is_in_recovery() AS replica, current_setting('max_connections') AS most,
  count(*) AS connections FROM pg_stat_activity WHERE backend_type = 'client backend' \gset
\if :replica
SELECT json_build_object(
  'replica', true, 'most', :most, 'connections', :connections,
  'position', greatest(pg_last_wal_receive_lsn(), pg_last_wal_replay_lsn()) - '0/0'::pg_lsn,
  'receiver', (SELECT json_build_object('status', status, 'address', sender_host, 'slot', slot_name,
                                        'timeline', received_tli)
               FROM pg_stat_wal_receiver),
  'lag_bytes', (SELECT greatest(latest_end_lsn - pg_last_wal_replay_lsn(), 0) FROM pg_stat_wal_receiver),
  'lag_seconds', CASE WHEN pg_last_wal_receive_lsn() = pg_last_wal_replay_lsn() THEN 0
                 ELSE round(extract(epoch FROM now() - pg_last_xact_replay_timestamp())::numeric, 1) END);
\else
SELECT json_build_object(
  'replica', false, 'most', :most, 'connections', :connections,
  -- The ICU locale of each database, empty where the C library collates; the column has another name from 17 on.
  'icu_locales', (SELECT json_object_agg(datname, CASE WHEN datlocprovider = 'i' THEN coalesce(
      to_jsonb(d) ->> 'datlocale', to_jsonb(d) ->> 'daticulocale') ELSE '' END) FROM pg_database d),
  'position', pg_current_wal_lsn() - '0/0'::pg_lsn,
  'timeline', ('x' || substr(pg_walfile_name(pg_current_wal_lsn()), 1, 8))::bit(32)::int,
  'replicas', (SELECT coalesce(json_agg(json_build_object(
      'name', application_name, 'address', host(client_addr), 'state', state,
      'lag_bytes', pg_current_wal_lsn() - replay_lsn,
      'lag_seconds', coalesce(round(extract(epoch FROM replay_lag)::numeric, 1), 0)) ORDER BY application_name), '[]')
    FROM pg_stat_replication WHERE state <> 'backup'),
  'slots', (SELECT coalesce(json_agg(json_build_object(
      'name', slot_name, 'active', active, 'wal_status', wal_status,
      'kept_bytes', pg_current_wal_lsn() - restart_lsn, 'left_bytes', safe_wal_size) ORDER BY slot_name), '[]')
    FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary));
\endif
"""


def has_user_data(folder: str) -> bool:
    """Tell whether somebody has made anything in the cluster with the data in `folder`.

    It is read from the disk, as a cluster that is stopped must tell it too: a database, a tablespace, or a table in one
    of the databases that initdb makes.
    """
    base = os.path.join(folder, "base")
    if not os.path.isdir(base):
        return False
    databases = [name for name in os.listdir(base) if name.isdecimal()]
    if any(int(name) >= FIRST_OID for name in databases) or os.listdir(os.path.join(folder, "pg_tblspc")):
        return True
    files = (name for database in databases for name in os.listdir(os.path.join(base, database)))
    return any(int(found[0]) >= FIRST_OID for found in (re.match(r"\d+", name) for name in files) if found)


def newest_timeline(folder: str) -> int:
    """Return the newest timeline that has a history in the cluster's log, 0 when there is none."""
    histories = re.findall(r"^([0-9A-F]{8})\.history$", "\n".join(os.listdir(os.path.join(folder, "pg_wal"))), re.M)
    return max((int(name, 16) for name in histories), default=0)


def position_of(lsn: str) -> int:
    """Return the position in the log that PostgreSQL writes as "0/3000060", in bytes."""
    high, low = lsn.split("/")
    return (int(high, 16) << 32) + int(low, 16)


class Cluster:
    """The cluster `main` of one major version on this host."""

    def __init__(self, module: AnsibleModule, version: int) -> None:
        self.module = module
        self.version = version
        self.unit = f"postgresql@{version}-main.service"
        self.port, self.data, self.log = 5432, f"/var/lib/postgresql/{version}/main", ""
        self.exists = False
        # Version, name, port, status, owner, folder of the data, log.
        for found in self.all():
            if found[:2] == [str(version), "main"]:
                self.exists = True
                self.port, self.data, self.log = int(found[2]), found[5], found[6]

    def all(self) -> list[list[str]]:
        """Return what pg_lsclusters tells of each cluster of this host, of any version; nothing without the package."""
        program = self.module.get_bin_path("pg_lsclusters")
        if program is None:
            return []
        _, out, _ = self.module.run_command([program, "--no-header"], check_rc=True)
        return [line.split() for line in out.splitlines()]

    @property
    def is_replica(self) -> bool:
        """Whether it was told to follow a primary."""
        return os.path.exists(os.path.join(self.data, "standby.signal"))

    def control(self) -> dict[str, str]:
        """Return what pg_controldata tells."""
        program = f"/usr/lib/postgresql/{self.version}/bin/pg_controldata"
        _, out, _ = self.module.run_command([program, self.data], check_rc=True, environ_update={"LC_ALL": "C.UTF-8"})
        return {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in out.splitlines())}

    def as_postgres(self, *words: str, text: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a program as the superuser of the database."""
        return subprocess.run(
            ["runuser", "-u", "postgres", "--", *words],
            cwd="/",
            env=os.environ | ENVIRONMENT | environment,
            input=text,
            capture_output=True,
            text=True,
            errors="replace",
            check=False,
        )

    def ask(self, script: str, **variables: str) -> str | None:
        """Return what the server answers to a script of psql; None when it does not answer or refuses."""
        words = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-p", str(self.port), "-d", "postgres"]
        words += [f"--set={name}={value}" for name, value in variables.items()]
        done = self.as_postgres(*words, text=script)
        return done.stdout.strip() if done.returncode == 0 else None

    def answer(self) -> dict[str, Any] | None:
        """Return what the server knows of itself (QUESTION); None when it does not answer."""
        answer = self.ask(QUESTION)
        if answer is None:
            return None
        return {name: value for name, value in json.loads(answer).items() if value is not None}

    def others_with_data(self) -> list[str]:
        """Return the clusters of other major versions that have data, as "15 main"."""
        return [
            f"{version} {name}"
            for version, name, _, _, _, folder, *_ in self.all()
            if version != str(self.version) and has_user_data(folder)
        ]

    def describe(self) -> dict[str, Any]:
        """Return what there is to say of it.

        `position` and `lag_bytes`, `kept_bytes`, `left_bytes` are bytes, `lag_seconds` seconds. A position is how far
        the log is there: written on a primary, received on a replica; of a server that does not answer it is where the
        last checkpoint begins, which is the last record of one that was stopped.
        """
        found: dict[str, Any] = {
            "version": self.version,
            "other_clusters": self.others_with_data(),
            "role": "none",
            "state": "none",
            "data": False,
            "managed": os.path.exists(f"/var/lib/slipway-applied/{self.unit}"),
        }
        if not self.exists or not os.path.exists(os.path.join(self.data, "global/pg_control")):
            return found
        control = self.control()
        found |= {
            "role": "replica" if self.is_replica else "primary",
            "data": has_user_data(self.data),
            "system_identifier": control["Database system identifier"],
            "timeline": max(int(control["Latest checkpoint's TimeLineID"]), newest_timeline(self.data)),
            "position": position_of(control["Latest checkpoint location"]),
            # A primary that was stopped and marked: a replica would have been shut down in recovery.
            "fenced": self.is_replica and control["Database cluster state"] == "shut down",
        }
        _, active, _ = self.module.run_command(["systemctl", "show", "--property=ActiveState", "--value", self.unit])
        found["state"] = "stopped" if active.strip() in ("inactive", "failed") else "running"
        if found["state"] == "running":
            answer = self.answer()
            found |= {"state": "silent"} if answer is None else answer
        return found
