"""roles/postgresql/tasks/preflight.yml: data of somebody's are never written over, and there is one primary."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT, facts
from test_preflight import inspect_role

ROLE = ROOT / "roles/postgresql"
BARE = {"role": "none", "state": "none", "data": False}
PRIMARY = {
    "role": "primary",
    "state": "running",
    "data": True,
    "system_identifier": "7",
    "timeline": 1,
    "position": 900,
}
PROMOTED = PRIMARY | {"timeline": 2, "position": 1000}
FRESH = PRIMARY | {"data": False, "system_identifier": "8", "managed": False}
OTHER = PRIMARY | {"system_identifier": "8"}
RECEIVER = {"status": "streaming", "address": "10.0.0.1", "timeline": 1}
REPLICA = PRIMARY | {"role": "replica", "receiver": RECEIVER, "lag_bytes": 0}
SEEN = {"name": "db2", "address": "10.0.0.2", "state": "streaming", "lag_bytes": 0, "lag_seconds": 0}
ALONE = REPLICA | {"receiver": {}}
FENCED = PRIMARY | {"role": "replica", "state": "stopped", "fenced": True}

Faults = Callable[..., list[Any]]


@pytest.fixture
def faults_of(variables_for: Callable[..., dict[str, Any]]) -> Faults:
    """Return a function that gives the faults on db1 and db2, of which `primary` is what the inventory says."""

    def faults(db1: dict[str, Any], db2: dict[str, Any], primary: str = "db1", **changed: Any) -> list[Any]:
        base = {"version": 15, "managed": True, "other_clusters": []}
        members = {"db1": db1 and base | db1, "db2": db2 and base | db2}
        found = []
        for name, other in (("db1", "db2"), ("db2", "db1")):
            if not members[name]:
                continue  # not asked, as --limit leaves it out
            variables = {
                "ansible_facts": facts("12") | {"slipway_postgresql": members[name]},
                "postgresql_members": members,
                "postgresql_name": name,
                "postgresql_primary": primary,
                "postgresql_primary_address": "" if name == primary else "10.0.0.1",
                "postgresql_peers": [{"name": other, "address": "10.0.0.1"}],
                **changed,
            }
            found += inspect_role(ROLE, variables_for(ROLE, "12", **variables))
        return found

    return faults


@pytest.mark.parametrize(
    ("db1", "db2", "variables"),
    [
        (BARE, BARE, {}),
        (PRIMARY, BARE, {}),
        (PRIMARY, FRESH, {}),
        (PRIMARY, REPLICA, {}),
        ({}, REPLICA, {}),
        (PRIMARY, {}, {}),
        # A replica that receives may have been asked later; one that does not is behind, or is to be made anew.
        (PRIMARY | {"replicas": [SEEN]}, REPLICA | {"position": 901}, {}),
        (PRIMARY, ALONE, {}),
        (PRIMARY, ALONE | {"position": 901}, {"postgresql_reinitialise": "db2"}),
        # The primary of before, which is to follow; as it was left, and as a promotion leaves it.
        (PRIMARY, PROMOTED, {"primary": "db2"}),
        (FENCED, PROMOTED, {"primary": "db2"}),
        (PRIMARY, OTHER, {"postgresql_reinitialise": "db2"}),
        (PRIMARY | {"managed": False}, BARE, {"postgresql_adopt": True}),
        # Promotions: of what follows, of one cut after the stop, of one that is done, and of what is left.
        (PRIMARY, REPLICA, {"primary": "db2", "postgresql_promote": "db2"}),
        (FENCED, ALONE, {"primary": "db2", "postgresql_promote": "db2"}),
        (FENCED, PROMOTED, {"primary": "db2", "postgresql_promote": "db2"}),
        (BARE, ALONE, {"primary": "db2", "postgresql_promote": "db2", "postgresql_lost": True}),
    ],
    ids=str,
)
def test_what_works_passes(
    faults_of: Faults, db1: dict[str, Any], db2: dict[str, Any], variables: dict[str, Any]
) -> None:
    assert faults_of(db1, db2, **variables) == []


@pytest.mark.parametrize(
    ("db1", "db2", "variables", "why", "fix"),
    [
        (PRIMARY, PROMOTED, {}, "exactly one of db1, db2 may be primary: db2 is (timeline 2)", "primary: db2 into"),
        (REPLICA, PROMOTED, {}, "exactly one of db1, db2 may be primary: db2 is", "primary: db2 into"),
        (
            PRIMARY,
            REPLICA,
            {"primary": "db2"},
            "exactly one of db1, db2 may be primary: db1 is",
            "promote_replica.yml -e slipway_promote=db2",
        ),
        (PRIMARY, PRIMARY, {}, "both are, on one timeline", "postgresql_reinitialise=db2"),
        (
            BARE,
            ALONE,
            {"primary": "db2"},
            "none of db1, db2 is its primary",
            "-e slipway_promote=db2 -e slipway_lost=true",
        ),
        (PRIMARY, OTHER, {}, "db2 has data that are not from there", "postgresql_reinitialise=db2"),
        (
            PRIMARY | {"replicas": [SEEN | {"state": "startup"}]},
            REPLICA | {"position": 901},
            {},
            "is db1, whose data are older than those of its replica db2",
            "slipway_promote=db2 -e slipway_lost=true",
        ),
        (
            PRIMARY,
            ALONE | {"position": 901},
            {},
            "is db1, whose data are older than those of its replica db2",
            "postgresql_reinitialise=db2",
        ),
        (BARE, PRIMARY, {}, "db2 has data that are not from there", "postgresql_reinitialise=db2"),
        (PRIMARY, REPLICA | {"system_identifier": "8"}, {}, "not from there", "postgresql_reinitialise=db2"),
        (PRIMARY | {"managed": False}, BARE, {}, "that Slipway has not made", "postgresql_adopt: true"),
        (PRIMARY, BARE | {"other_clusters": ["13 main"]}, {}, "has data of PostgreSQL 13 main", "pg_upgradecluster"),
        (
            PRIMARY,
            REPLICA,
            {"postgresql_promote": "db2"},
            "says that db1 is the primary",
            "topology_database_primary: db2",
        ),
        (PRIMARY, BARE, {"primary": "db2", "postgresql_promote": "db2"}, "which has no data yet", "site.yml"),
        (PRIMARY, ALONE, {"primary": "db2", "postgresql_promote": "db2"}, "does not receive from db1", "site.yml"),
        (
            PRIMARY,
            REPLICA | {"lag_bytes": 10**9},
            {"primary": "db2", "postgresql_promote": "db2"},
            "bytes behind",
            "wait",
        ),
        (BARE, ALONE, {"primary": "db2", "postgresql_promote": "db2"}, "it cannot be stopped", "-e slipway_lost=true"),
        (
            *(BARE, REPLICA, {"primary": "db2", "postgresql_promote": "db2", "postgresql_lost": True}),
            *("receives from its primary 10.0.0.1", "leave lost out"),
        ),
        (
            *(
                ALONE | {"position": 901},
                ALONE,
                {"primary": "db2", "postgresql_promote": "db2", "postgresql_lost": True},
            ),
            *("db1 has received more", "promote db1"),
        ),
        (PRIMARY, REPLICA, {"postgresql_replication_password": ""}, "the replicas need it", ""),
        (PRIMARY, REPLICA, {"postgresql_reader_user": "postgres"}, "a role of its own", ""),
        (PRIMARY, REPLICA, {"postgresql_second_reader_user": "slipway_ro"}, "a role of its own", ""),
        (PRIMARY, REPLICA, {"postgresql_slot_keep_mb": 1}, "from 256 to", ""),
    ],
    ids=str,
)
def test_what_would_break_the_database_is_refused(
    faults_of: Faults, db1: dict[str, Any], db2: dict[str, Any], variables: dict[str, Any], why: str, fix: str
) -> None:
    faults = faults_of(db1, db2, **variables)
    assert [fault for fault in faults if why in fault.why and fix in fault.fix], faults


@pytest.mark.parametrize(
    ("there", "wanted", "refused"),
    [("", "de-DE", True), ("de-DE", "", True), ("de-DE", "und", True), ("de-DE", "de-DE", False), ("", "", False)],
)
def test_collation_of_a_database_is_not_changed(faults_of: Faults, there: str, wanted: str, refused: bool) -> None:
    found = PRIMARY | {"icu_locales": {"postgres": "", "slipway": there}}
    faults = faults_of(found, {}, postgresql_icu_locale=wanted)
    assert bool(faults) == refused
    if refused:
        assert f"was created with '{there}'" in faults[0].why and f'postgresql_icu_locale: "{there}"' in faults[0].fix


@pytest.mark.parametrize("found", [BARE, PRIMARY, PRIMARY | {"icu_locales": {"postgres": ""}}], ids=str)
def test_collation_is_free_before_the_database_is_there(faults_of: Faults, found: dict[str, Any]) -> None:
    assert faults_of(found, {}, postgresql_icu_locale="de-DE") == []


def test_major_versions_may_not_differ(faults_of: Faults) -> None:
    faults = faults_of(PRIMARY | {"version": 17}, BARE)
    assert "cannot have replicas of another major version: 15 here, 17 on db1" in faults[0].why
