"""What modules read from the disk and the log of a PostgreSQL, and what Redis' records become on the way."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.kit.plugins.module_utils import postgresql as cluster
from ansible_collections.slipway.kit.plugins.modules import redis_records


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Return the data of a cluster as initdb leaves them."""
    for database in ("1", "4", "5"):
        (tmp_path / "base" / database).mkdir(parents=True)
        for name in ("112", "1259_fsm", "13394", "PG_VERSION", "pg_filenode.map"):
            (tmp_path / "base" / database / name).touch()
    (tmp_path / "pg_tblspc").mkdir()
    (tmp_path / "pg_wal").mkdir()
    return tmp_path


def test_fresh_cluster_has_no_data_of_a_user(data: Path) -> None:
    assert cluster.has_user_data(str(data)) is False
    assert cluster.has_user_data(str(data / "nowhere")) is False


@pytest.mark.parametrize("made", ["base/16384", "base/5/16385", "base/1/24576_vm", "pg_tblspc/16390"])
def test_whatever_a_user_makes_is_seen(data: Path, made: str) -> None:
    (data / made).mkdir()
    assert cluster.has_user_data(str(data)) is True


def test_newest_timeline_is_that_of_the_last_history(data: Path) -> None:
    assert cluster.newest_timeline(str(data)) == 0
    for name in ("00000002.history", "0000000A.history", "0000000A0000000000000009", "0000000F.history.partial"):
        (data / "pg_wal" / name).touch()
    assert cluster.newest_timeline(str(data)) == 10


def test_positions_are_bytes() -> None:
    assert cluster.position_of("0/3000060") == 0x3000060
    assert cluster.position_of("A/1") == (10 << 32) + 1


class FakeRedis:
    """Answers from a dictionary of commands."""

    def __init__(self, answers: dict[tuple[Any, ...], Any]) -> None:
        self.answers = answers

    def __call__(self, *words: Any) -> Any:
        """Return the answer; a key has no end unless it is said."""
        return -1 if words[0] == "PTTL" and words not in self.answers else self.answers[words]


@pytest.mark.parametrize(
    ("kind", "answers", "wanted"),
    [
        (b"list", {("LRANGE", b"k", 0, -1): [b"new", b"old"]}, [[b"RPUSH", b"k", b"new", b"old"]]),
        (b"set", {("SMEMBERS", b"k"): [b"a"]}, [[b"SADD", b"k", b"a"]]),
        (b"hash", {("HGETALL", b"k"): [b"f", b"v"]}, [[b"HSET", b"k", b"f", b"v"]]),
        (
            b"zset",
            {("ZRANGE", b"k", 0, -1, "WITHSCORES"): [b"m", b"1.5", b"n", b"2"]},
            [[b"ZADD", b"k", b"1.5", b"m", b"2", b"n"]],
        ),
        (
            b"string",
            {("GET", b"k"): b"\x00v", ("PTTL", b"k"): 500},
            [[b"SET", b"k", b"\x00v"], [b"PEXPIRE", b"k", b"500"]],
        ),
    ],
    ids=str,
)
def test_records_are_made_by_commands(kind: bytes, answers: dict[Any, Any], wanted: list[list[bytes]]) -> None:
    redis = FakeRedis({("TYPE", b"k"): kind} | answers)
    assert list(redis_records.commands(redis, b"k")) == wanted


def test_kind_that_is_not_known_is_refused_rather_than_lost() -> None:
    with pytest.raises(redis_records.RefusedError, match="k is a stream"):
        list(redis_records.commands(FakeRedis({("TYPE", b"k"): b"stream"}), b"k"))


def test_messages_are_counted() -> None:
    def record(*words: bytes) -> dict[str, Any]:
        return {"database": 1, "words": [base64.b64encode(word).decode() for word in words]}

    assert redis_records.messages([record(b"RPUSH", b"k", b"1", b"2"), record(b"SET", b"s", b"v")]) == 2
