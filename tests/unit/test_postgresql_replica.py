"""What a replica says when it cannot go on by itself, as PostgreSQL 15 and 17 write it."""

from __future__ import annotations

import pytest

from ansible_collections.slipway.kit.plugins.modules import postgresql_replica as replica


@pytest.mark.parametrize(
    "line",
    [
        "LOG:  new timeline 3 forked off current database system timeline 2 before current recovery point 0/60A0",
        "FATAL:  could not start WAL streaming: ERROR:  requested starting point 0/7000000 on timeline 2"
        " is not in this server's history",
        "FATAL:  highest timeline 1 of the primary is behind recovery timeline 2",
    ],
)
def test_log_that_parted_is_rewound(line: str) -> None:
    assert replica.DIVERGED.search(line)
    assert not replica.BEHIND.search(line)


@pytest.mark.parametrize(
    "line",
    [
        "FATAL:  could not receive data from WAL stream: ERROR:  requested WAL segment 000000010000000000000003"
        " has already been removed",
    ],
)
def test_log_that_is_gone_is_copied(line: str) -> None:
    assert replica.BEHIND.search(line)
    assert not replica.DIVERGED.search(line)


def test_a_replica_at_work_needs_no_help() -> None:
    for line in (
        "LOG:  started streaming WAL from primary at 0/3000000 on timeline 1",
        "LOG:  invalid record length at 0/3000060: wanted 24, got 0",
        "FATAL:  could not connect to the primary server: connection refused",
    ):
        assert not replica.DIVERGED.search(line) and not replica.BEHIND.search(line)
