"""Tasks that only the tests' workers know."""

import os
from pathlib import Path

from celery import shared_task

# A worker notices within five seconds that one of its processes ended.
RETRIES = 1


@shared_task(max_retries=RETRIES)
def kill_the_worker(marks: str) -> None:
    """End the process that runs this, as a lack of memory does, after leaving a mark in a file."""
    with Path(marks).open("a") as file:
        file.write("x")
    os._exit(1)
