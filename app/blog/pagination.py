"""Keyset pagination: every page costs the same, however far down the list it is.

An OFFSET makes the database read and drop all rows before the page; here a page starts at the key of the
last row of the one before, which an index finds at once. New rows at the top move nothing either.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from django.db.models import Model, Q, QuerySet
from django.http import Http404

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Page:
    """The rows of a page, and the cursor of the one that follows, if there is one."""

    rows: list[Any]
    next_cursor: str | None
    is_first: bool


def encode_cursor(row: Model, field: str) -> str:
    """Return the key of a row, fit for a URL: microseconds since 1970 and the id."""
    return f"{(getattr(row, field) - EPOCH) // timedelta(microseconds=1)}_{row.pk}"


def decode_cursor(cursor: str) -> tuple[datetime, int]:
    """Return the time and the id of a cursor, or answer 404 when it is none."""
    try:
        microseconds, pk = map(int, cursor.split("_"))
        moment = EPOCH + timedelta(microseconds=microseconds)
    except (ValueError, OverflowError) as error:
        raise Http404("No such page.") from error
    if not 0 < pk < 2**63:
        raise Http404("No such page.")
    return moment, pk


def paginate(queryset: QuerySet[Any], *, field: str, cursor: str | None, size: int) -> Page:
    """Return a page of a queryset, newest first by a date field and the id."""
    if cursor is not None:
        moment, pk = decode_cursor(cursor)
        # The first condition is implied by the second; it is what lets PostgreSQL start inside the index.
        queryset = queryset.filter(Q(**{f"{field}__lte": moment}), Q(**{f"{field}__lt": moment}) | Q(pk__lt=pk))
    # One row more than shown says whether another page follows.
    rows = list(queryset.order_by(f"-{field}", "-pk")[: size + 1])
    next_cursor = encode_cursor(rows[size - 1], field) if len(rows) > size else None
    return Page(rows=rows[:size], next_cursor=next_cursor, is_first=cursor is None)
