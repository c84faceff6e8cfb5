"""How the two ways of a technique are measured: by turns, on the same data, and nothing that they change is kept."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from statistics import median
from typing import Any

from django.db import connection, transaction

# No measurement may hold a process of the site for long: after the deadline of a comparison nothing begins, and a
# statement that began before it is ended by PostgreSQL after STATEMENT_SECONDS.
DEADLINE_SECONDS = 12.0
STATEMENT_SECONDS = 5.0
# A median of fewer says nothing.
LEAST_RUNS = 3
RUNS = 15
BUDGET_SECONDS = 4.0
# Whoever has this lock of PostgreSQL measures; two at once would measure each other.
LOCK = 0x6C6162


class CannotMeasure(Exception):
    """There is nothing to compare, for the reason that the message gives."""


@dataclass
class Figures:
    """What one way costs."""

    queries: int = 0
    # Milliseconds that the queries took, seen from the application, in one run of its own.
    database_ms: float = 0.0
    # Milliseconds of the whole, the median of the runs.
    total_ms: float = 0.0
    # Of the values that PostgreSQL sent.
    bytes_read: int = 0
    # Of the answer.
    bytes_answered: int = 0
    runs: int = 0
    # How often each statement was made.
    statements: dict[str, int] = field(default_factory=dict)


@dataclass
class Comparison:
    """What the two ways cost."""

    naive: Figures
    optimised: Figures

    @property
    def ratio(self) -> float:
        """Return how many times as fast the optimised way is."""
        return self.naive.total_ms / self.optimised.total_ms


def _size_of_result(cursor: Any) -> int:
    result = cursor.pgresult
    if result is None:
        return 0
    return sum(
        len(result.get_value(row, column) or b"") for row in range(result.ntuples) for column in range(result.nfields)
    )


def _observe(call: Callable[[], Any], figures: Figures) -> None:
    """Run once and note the queries. Watching costs time, so this run is not one of those that are timed."""

    def watch(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        began = time.perf_counter()
        result = execute(sql, params, many, context)
        figures.database_ms += (time.perf_counter() - began) * 1000
        figures.queries += 1
        figures.statements[sql] = figures.statements.get(sql, 0) + 1
        figures.bytes_read += _size_of_result(context["cursor"].cursor)
        return result

    with connection.execute_wrapper(watch):
        answer = call()
    figures.bytes_answered = len(answer if isinstance(answer, bytes) else repr(answer).encode())


def _time(call: Callable[[], Any]) -> float:
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began) * 1000


def _undone(call: Callable[[], Any]) -> Any:
    """Return the answer of a call, of which the database keeps nothing."""
    with transaction.atomic():
        answer = call()
        transaction.set_rollback(True)
    return answer


@contextmanager
def alone() -> Iterator[Callable[[], None]]:
    """Enter a transaction that only one process at a time can be in, and of which nothing is kept.

    Yields:
        What raises CannotMeasure when DEADLINE_SECONDS are over. Statements do so by themselves.

    Raises:
        CannotMeasure: Another one is in it, or its time is over.
    """
    deadline = time.perf_counter() + DEADLINE_SECONDS

    def refuse_late() -> None:
        if time.perf_counter() > deadline:
            raise CannotMeasure(f"It takes longer than the {DEADLINE_SECONDS:g} s that a comparison may take here.")

    def check(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: dict[str, Any]) -> Any:
        if not sql.startswith("ROLLBACK"):
            refuse_late()
        return execute(sql, params, many, context)

    with transaction.atomic():
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_try_advisory_xact_lock(%s)", [LOCK])
            if not cursor.fetchone()[0]:
                raise CannotMeasure("Somebody else measures at this moment. Try again in a few seconds.")
            cursor.execute(f"SET LOCAL statement_timeout = {int(STATEMENT_SECONDS * 1000)}")
        with connection.execute_wrapper(check):
            yield refuse_late
        transaction.set_rollback(True)


def compare(
    naive: Callable[[], Any], optimised: Callable[[], Any], *, runs: int = RUNS, budget: float = BUDGET_SECONDS
) -> Comparison:
    """Measure two ways of doing the same.

    Args:
        naive: The one; returns what it made.
        optimised: The other, which has to return the same.
        runs: How many times each is timed at most.
        budget: Seconds after which no further run begins, unless there are fewer than LEAST_RUNS.

    Raises:
        CannotMeasure: Somebody else measures, the two do not do the same, or it takes longer than DEADLINE_SECONDS.
    """
    figures = {naive: Figures(), optimised: Figures()}
    times: dict[Callable[[], Any], list[float]] = {naive: [], optimised: []}
    began = time.perf_counter()
    with alone() as refuse_late:
        # What the first runs bring into caches, of PostgreSQL and of Redis, is there for the others.
        answers = [_undone(call) for call in (naive, optimised)]
        if answers[0] != answers[1]:
            raise CannotMeasure("The two ways gave different answers: the data changed between them. Try again.")
        for call, noted in figures.items():
            _undone(partial(_observe, call, noted))
        while (done := len(times[naive])) < LEAST_RUNS or (done < runs and time.perf_counter() - began < budget):
            for call, measured in times.items():
                refuse_late()
                measured.append(_undone(partial(_time, call)))
    for call, noted in figures.items():
        noted.total_ms, noted.runs = median(times[call]), len(times[call])
    return Comparison(naive=figures[naive], optimised=figures[optimised])
