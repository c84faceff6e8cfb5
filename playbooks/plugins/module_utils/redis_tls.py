"""Whether an instance of Redis on this host speaks TLS, and by which certificates."""

from __future__ import annotations

import re


def certificates(name: str) -> str:
    """Return the file of the certificates that the instance `name` is held to, empty where it speaks no TLS."""
    try:
        with open(f"/etc/redis/redis-{name}.conf") as file:
            found = re.search(r"^tls-cert-file (\S+)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def client_words(name: str) -> list[str]:
    """Return what redis-cli is told besides to reach the instance `name`."""
    path = certificates(name)
    return ["--tls", "--cacert", path] if path else []
