"""A service: counts in a file until it is told to stop, and says so then."""

import os
import signal
import time

from django.conf import settings
from django.core.management.base import BaseCommand


class Command(BaseCommand):
    """Count."""

    help = "Count in STATE/ticks, once a quarter of a second; SIGTERM ends it."

    def handle(self, *arguments: object, **options: object) -> None:
        """Count until SIGTERM."""
        stopped = False

        def stop(*_: object) -> None:
            nonlocal stopped
            stopped = True

        signal.signal(signal.SIGTERM, stop)
        number = 0
        while not stopped:
            number += 1
            told = os.environ.get("ONLY_TICK", "")
            (settings.STATE / "ticks").write_text(f"{os.getpid()} {number} {told}\n", encoding="utf-8")
            time.sleep(0.25)
        (settings.STATE / "tick-stopped").write_text(f"{os.getpid()}\n", encoding="utf-8")
