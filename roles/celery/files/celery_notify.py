"""Run Celery, and tell systemd when a worker takes tasks or beat begins to tick (sd_notify(3))."""

from __future__ import annotations

import os
import socket
import sys

from celery import maybe_patch_concurrency

# Before anything else is imported: gevent replaces parts of the standard library.
maybe_patch_concurrency()

from celery.__main__ import main  # noqa: E402 (see above)
from celery.signals import beat_init, worker_ready  # noqa: E402 (see above)


def notify_ready(**_: object) -> None:
    """Send READY=1 to the socket that systemd named; do nothing when it named none."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if address:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notification:
            notification.sendto(b"READY=1", address.replace("@", "\0", 1) if address[0] == "@" else address)


worker_ready.connect(notify_ready, weak=False)
beat_init.connect(notify_ready, weak=False)
sys.path.insert(0, os.getcwd())
main()
