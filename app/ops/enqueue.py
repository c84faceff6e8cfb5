"""How tasks are handed to the broker, and how they are tried again."""

import logging
from typing import Any, Final

from celery import Task
from django.db import OperationalError as DatabaseError
from kombu.exceptions import OperationalError as BrokerError

logger = logging.getLogger(__name__)

# Retries of a task that its surroundings failed. Mail, file and network errors are kinds of OSError. The longest wait
# stays below the visibility timeout.
RETRIED: Final[dict[str, Any]] = {
    "autoretry_for": (OSError, DatabaseError),
    "retry_backoff": 5,
    "retry_backoff_max": 240,
    "retry_jitter": True,
}


def enqueue(task: Task, ids: list[int], *, waiting: str) -> list[int]:
    """Hand the task to the broker for each id; return those that a broker which is down did not take.

    That is no reason to fail the caller: rows say what waits, and beat tries again. It is tried once, not for each id.

    Args:
        task: Takes an id as its only argument.
        ids: Of the rows.
        waiting: What is logged of those left, after their number.
    """
    for position, pk in enumerate(ids):
        try:
            task.delay(pk)
        except BrokerError as error:
            left = ids[position:]
            logger.warning("Broker down, %d %s: %s", len(left), waiting, error)
            return left
    return []
