"""How an instance of Redis on this host is asked."""

from __future__ import annotations

import re


def redis_cli(instance: str, address: str, port: int, user: str) -> list[str]:
    """Return what a command of redis-cli begins with; the password goes by the environment, as REDISCLI_AUTH."""
    try:
        with open(f"/etc/redis/redis-{instance}.conf") as file:
            certificate = re.search(r"^tls-cert-file (\S+)$", file.read(), re.MULTILINE)
    except FileNotFoundError:
        certificate = None
    tls = ["--tls", "--cacert", certificate[1]] if certificate else []
    return ["redis-cli", "-h", address, "-p", str(port), "--user", user, "--no-auth-warning", *tls]
