#!/usr/bin/python
"""Make the PostgreSQL of a host follow a primary, and have it follow."""

from __future__ import annotations

import os
import re
import shutil
import time
from collections.abc import Callable
from dataclasses import dataclass

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.postgresql import Cluster, has_user_data
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import Systemd

DOCUMENTATION = r"""
module: postgresql_replica
short_description: Make the PostgreSQL of a host follow a primary, and have it follow
description:
  - I(prepared) makes the data those of a replica, and is run before the server is started. One that was the primary
    itself needs only be told to follow. A cluster in which nobody has made anything is replaced by a base backup. A
    cluster with data of another origin is refused.
  - I(streaming) waits until the server receives from the primary. Where the server says that it cannot, since its log
    went on where the new primary's did not, it is taken back to where they parted (pg_rewind); where the primary has no
    longer what it lacks, a base backup takes the place of its data.
  - A base backup is made beside the data and takes their place when it is complete. What a run that was cut has left is
    removed, and the backup begins again.
options:
  version: {description: The major version., type: int, required: true}
  state: {description: How far to go., type: str, choices: [prepared, streaming, fenced, released], required: true}
  primary:
    description: Where the primary is and how to log in, in words of libpq, no password; for the first two states.
    type: str
  slot: {description: The slot that the primary keeps its log by for this replica; likewise., type: str}
  reinitialise: {description: Whether data of any origin are thrown away for a base backup., type: bool, default: false}
  timeout: {description: Seconds to wait for the server to receive., type: int, default: 300}
author: Slipway contributors
"""

BACKUP_UNIT = "postgresql-basebackup.service"
# What a replica says again and again, every few seconds, when it cannot go on by itself (xlogrecovery.c, walsender.c).
DIVERGED = re.compile(
    r"forked off current database system timeline \d+ before current recovery point"
    r"|requested (starting point|timeline) \S+.* is not in this server's history"
    r"|highest timeline \d+ of the primary is behind recovery timeline"
)
BEHIND = re.compile(r"requested WAL segment \S+ has already been removed|replication slot .* has been invalidated")
SHOWN_LINES = 15


@dataclass(frozen=True)
class Identity:
    """Which cluster a server is of, and on which timeline it writes."""

    system: str
    timeline: int


class Replica:
    """The cluster that is to follow."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.cluster = Cluster(module, module.params["version"])
        self.systemd = Systemd(module)
        self.done: list[str] = []
        self.backup, self.replaced, self.rewinding = (
            f"{self.cluster.data}.{name}" for name in ("new", "replaced", "rewinding")
        )

    # What there is

    def ask_primary(self) -> Identity:
        """Return the identity of the primary, asked on the way that the log takes."""
        words = ("psql", "-XAt", "--no-password", "-c", "IDENTIFY_SYSTEM")
        done = self.cluster.as_postgres(*words, f"{self.module.params['primary']} replication=true")
        if done.returncode != 0:
            if self.module.check_mode:
                self.leave(changed=True, msg="the primary does not let this host in yet")
            self.module.fail_json(msg=f"The primary cannot be asked for its log: {done.stderr.strip()}")
        system, timeline, *_ = done.stdout.strip().split("|")
        return Identity(system, int(timeline))

    def own(self) -> Identity | None:
        """Return the identity of the data of this host, None where there are none."""
        found = self.cluster.describe()
        if found["role"] == "none":
            return None
        return Identity(found["system_identifier"], found["timeline"])

    def streams(self, primary: Identity) -> bool:
        """Tell whether the server receives what its primary writes now.

        One whose log parted from the primary's receives again and again as well: the end of the timeline before.
        """
        answer = self.cluster.ask("SELECT received_tli FROM pg_stat_wal_receiver WHERE status = 'streaming'")
        return answer == str(primary.timeline)

    # Prepared

    def prepare(self) -> None:
        """Make the data those of a replica."""
        left = [path for path in (self.backup, self.replaced) if os.path.exists(path)]
        if self.systemd.is_up(BACKUP_UNIT):
            self.act("the base backup of an earlier run was ended", lambda: self.systemd.run("stop", BACKUP_UNIT))
        if left:
            self.act("the rest of an earlier run was removed", lambda: [shutil.rmtree(path) for path in left])
        reinitialise = self.module.params["reinitialise"]
        primary, own = self.ask_primary(), self.own()
        if reinitialise or own is None or os.path.exists(self.rewinding):
            self.make_base_backup()
        elif own.system != primary.system:
            if has_user_data(self.cluster.data):
                self.refuse("has data of another origin than the primary's")
            self.make_base_backup()
        elif not self.cluster.is_replica:
            if own.timeline >= primary.timeline:
                self.refuse(
                    f"is a primary itself, on timeline {own.timeline}, and the primary of the inventory is on timeline"
                    f" {primary.timeline}"
                )
            self.act("the primary of before was told to follow", self.follow)

    def refuse(self, why: str) -> None:
        """End the module: data that may be somebody's only ones are not thrown away."""
        self.module.fail_json(
            msg=f"PostgreSQL in {self.cluster.data} {why}. Nothing was changed. If nobody needs these data,"
            " -e postgresql_reinitialise=HOST throws them away and makes the replica anew."
        )

    def follow(self) -> None:
        """Stop the server and have it follow when it is started again."""
        self.systemd.run("stop", self.cluster.unit)
        self.signal(self.cluster.data)

    def signal(self, folder: str) -> None:
        """Mark the data in `folder` as those of a replica."""
        path = os.path.join(folder, "standby.signal")
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT, 0o600)
        owner = os.stat(folder)
        os.fchown(descriptor, owner.st_uid, owner.st_gid)
        os.fsync(descriptor)
        os.close(descriptor)

    def make_base_backup(self) -> None:
        """Have a base backup of the primary in place of the data."""
        self.act("a base backup of the primary was made", self._make_base_backup)

    def _make_base_backup(self) -> None:
        cluster = self.cluster
        if os.path.ismount(cluster.data):
            self.module.fail_json(
                msg=f"{cluster.data} is a file system of its own, which a base backup cannot take the place of;"
                f" mount it on /var/lib/postgresql"
            )
        self.systemd.run("stop", cluster.unit)
        if self.module.params["reinitialise"]:
            shutil.rmtree(cluster.data, ignore_errors=True)
        # A unit of its own: it ends with its name, whatever becomes of this process.
        code, out, err = self.module.run_command(
            [
                *("systemd-run", "--quiet", "--collect", "--wait", "--pipe", f"--unit={BACKUP_UNIT}"),
                *("--uid=postgres", "--gid=postgres", "--working-directory=/", "--"),
                f"/usr/lib/postgresql/{cluster.version}/bin/pg_basebackup",
                *(f"--pgdata={self.backup}", "--checkpoint=fast", "--wal-method=stream", "--no-password"),
                f"--slot={self.module.params['slot']}",
                f"--dbname={self.module.params['primary']}",
            ]
        )
        if code != 0:
            shutil.rmtree(self.backup, ignore_errors=True)
            self.module.fail_json(msg=f"The base backup failed: {(err or out).strip()}")
        self.signal(self.backup)
        if os.path.exists(cluster.data):
            os.rename(cluster.data, self.replaced)
        os.rename(self.backup, cluster.data)
        shutil.rmtree(self.replaced, ignore_errors=True)
        if os.path.exists(self.rewinding):
            os.unlink(self.rewinding)

    # Streaming

    def have_it_stream(self) -> None:
        """Wait until the server receives; help it where it says that it cannot."""
        primary = self.ask_primary()
        if self.module.check_mode or self.streams(primary):
            return
        trials = [(DIVERGED, self.rewind), (BEHIND, self.restart_from_backup), (DIVERGED, self.restart_from_backup)]
        ends = time.monotonic() + self.module.params["timeout"]
        begin = self.log_size()
        while not self.streams(primary):
            said = self.read_log(begin)
            for number, (words, help_it) in enumerate(trials):
                if words.search(said):
                    # What comes before it has been tried or is of no use.
                    trials = trials[number + 1 :]
                    help_it()
                    ends = time.monotonic() + self.module.params["timeout"]
                    begin = self.log_size()
                    break
            if time.monotonic() > ends:
                last = "\n".join(said.splitlines()[-SHOWN_LINES:])
                self.module.fail_json(msg=f"The replica does not receive from its primary. Its last lines:\n{last}")
            time.sleep(0.5)

    def rewind(self) -> None:
        """Take the data back to where the primary's log parted from theirs; else replace them."""
        self.systemd.run("stop", self.cluster.unit)
        with open(self.rewinding, "w"):
            pass
        version = self.cluster.version
        done = self.cluster.as_postgres(
            f"/usr/lib/postgresql/{version}/bin/pg_rewind",
            f"--target-pgdata={self.cluster.data}",
            f"--source-server={self.module.params['primary']} dbname=postgres",
            f"--config-file=/etc/postgresql/{version}/main/postgresql.conf",
        )
        if done.returncode != 0:
            self.module.warn(f"pg_rewind failed, so the replica is made anew: {done.stderr.strip()}")
            self.restart_from_backup()
            return
        self.done.append("what the new primary does not have was taken back (pg_rewind)")
        self.signal(self.cluster.data)
        os.unlink(self.rewinding)
        self.systemd.run("start", self.cluster.unit)

    def restart_from_backup(self) -> None:
        """Replace the data by a base backup and start the server on it."""
        self.make_base_backup()
        self.systemd.run("start", self.cluster.unit)

    def log_size(self) -> int:
        """Return the size of the server's log in bytes."""
        return os.path.getsize(self.cluster.log) if os.path.exists(self.cluster.log) else 0

    def read_log(self, begin: int) -> str:
        """Return what the server has written into its log since it had `begin` bytes."""
        if not os.path.exists(self.cluster.log):
            return ""
        with open(self.cluster.log, encoding="utf-8", errors="replace") as log:
            log.seek(begin if begin <= self.log_size() else 0)
            return log.read()

    # For another to be primary

    def fence(self) -> None:
        """Stop a primary for good."""
        if not self.cluster.is_replica:
            self.act("the primary was stopped", self.follow)

    def release(self) -> None:
        """Let a primary that was fenced be one again."""
        if self.cluster.describe().get("fenced"):
            self.act("the primary was started again", self._release)

    def _release(self) -> None:
        os.unlink(os.path.join(self.cluster.data, "standby.signal"))
        self.systemd.run("start", self.cluster.unit)

    # The module's own

    def act(self, what: str, action: Callable[[], object]) -> None:
        """Do what changes the host, unless this is a dry run, and remember it."""
        self.done.append(what)
        if not self.module.check_mode:
            action()

    def leave(self, **more: object) -> None:
        """End the module."""
        self.module.exit_json(**{"changed": bool(self.done), "actions": self.done} | more)


STATES: dict[str, Callable[[Replica], None]] = {
    "prepared": Replica.prepare,
    "streaming": Replica.have_it_stream,
    "fenced": Replica.fence,
    "released": Replica.release,
}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "int", "required": True},
            "state": {"type": "str", "choices": list(STATES), "required": True},
            "primary": {"type": "str"},
            "slot": {"type": "str"},
            "reinitialise": {"type": "bool", "default": False},
            "timeout": {"type": "int", "default": 300},
        },
        required_if=[("state", name, ("primary", "slot")) for name in ("prepared", "streaming")],
        supports_check_mode=True,
    )
    replica = Replica(module)
    STATES[module.params["state"]](replica)
    replica.leave()


if __name__ == "__main__":
    main()
