"""How an instance of Redis on this host is asked."""

from __future__ import annotations

import re


def certificates(instance: str) -> str:
    """Return the file of the certificates that an instance is held to, empty where it speaks no TLS."""
    try:
        with open(f"/etc/redis/redis-{instance}.conf") as file:
            found = re.search(r"^tls-cert-file (\S+)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        return ""
    return found[1] if found else ""


def redis_cli(instance: str, address: str, port: int, user: str) -> list[str]:
    """Return what a command of redis-cli begins with; the password goes by the environment, as REDISCLI_AUTH."""
    path = certificates(instance)
    tls = ["--tls", "--cacert", path] if path else []
    return ["redis-cli", "-h", address, "-p", str(port), "--user", user, "--no-auth-warning", *tls]
