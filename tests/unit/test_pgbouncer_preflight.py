"""roles/pgbouncer/tasks/preflight.yml: what cannot work is refused beforehand."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from conftest import ROOT
from test_preflight import inspect_role, root_of

ROLE = ROOT / "roles/pgbouncer"


@pytest.mark.parametrize("variables", [{}, {"pgbouncer_enabled": True, "pgbouncer_max_client_conn": 20}], ids=str)
def test_what_works_passes(variables_for: Callable[..., dict[str, Any]], variables: dict[str, Any]) -> None:
    assert inspect_role(ROLE, variables_for(ROLE, "12", **variables)) == []


def test_prepared_statements_are_followed_where_the_package_can(variables_for: Callable[..., dict[str, Any]]) -> None:
    variables = {"pgbouncer_max_prepared_statements": 100}
    assert inspect_role(ROLE, variables_for(ROLE, "13", **variables)) == []
    [fault] = inspect_role(ROLE, variables_for(ROLE, "12", **variables))
    assert "must be 0, as PgBouncer 1.18" in fault.why


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("pgbouncer_port", 0, "from 1 to 65535"),
        ("pgbouncer_port", 5432, "used by both PostgreSQL and PgBouncer"),
        ("pgbouncer_listen_addresses", ["0.0.0.0"], "not all of them"),
        ("pgbouncer_allowed_clients", ["app1"], "must be addresses"),
        ("pgbouncer_default_pool_size", 0, "from 1 to 1000"),
        ("pgbouncer_max_client_conn", 10, "would be idle"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    variables_for: Callable[..., dict[str, Any]], variable: str, value: Any, why: str
) -> None:
    [fault] = inspect_role(ROLE, variables_for(ROLE, "12", pgbouncer_enabled=True, **{variable: value}))
    assert root_of(fault) == variable
    assert why in fault.why
