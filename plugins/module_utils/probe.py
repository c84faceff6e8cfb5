"""Ask a web server for pages as Nginx does, and hold the answers to what is expected of them."""

from __future__ import annotations

import http.client
import re
import socket
import ssl
import time
from typing import Any
from urllib.parse import quote

# For the argument_spec of a module that takes probes.
PROBES = {
    "type": "list",
    "elements": "dict",
    "default": [],
    "options": {
        "path": {"type": "str", "required": True},
        "status": {"type": "int", "default": 200},
        "contains": {"type": "str", "default": ""},
    },
}
# What may stand in a request as it is, the percent sign of an escape included; filter/urls.py is on the control node.
KEPT = "/%:@!$&'()*+,;=~?[]"
BODY_LINES = 5
BODY_BYTES = 2**20


def encoded(path: str) -> str:
    """Return a path as a request can hold it: what is not ASCII, blanks and lone percent signs are percent-encoded."""
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", path), safe=KEPT)


class Server:
    """A web server, reached by a Unix socket or by an address and a port."""

    def __init__(
        self,
        host: str,
        proto: str,
        timeout: float,
        path: str = "",
        address: str = "",
        port: int = 80,
        tls: bool = False,
    ) -> None:
        """Take the Host header, the scheme that the visitor is said to use, seconds to wait, and where it listens.

        At a `path`, a Unix socket, it is asked plainly. With `tls` an address is asked by TLS, for the certificate of
        `host`; whether that one is to be trusted is not a question of the release.
        """
        self.host = host
        self.proto = proto
        self.timeout = timeout
        self.path = path
        self.address = address
        self.port = port
        self.tls = tls

    def get(self, path: str) -> tuple[int, str]:
        """Return status and body of the answer to a request for `path`.

        Raises OSError or http.client.HTTPException when there is none.
        """
        connection = http.client.HTTPConnection(self.address or "localhost", self.port, timeout=self.timeout)
        if self.path:
            connection.sock = socket.socket(socket.AF_UNIX)
            connection.sock.settimeout(self.timeout)
            connection.sock.connect(self.path)
        elif self.tls:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
            context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
            plain = socket.create_connection((self.address, self.port), self.timeout)
            connection.sock = context.wrap_socket(plain, server_hostname=self.host.partition(":")[0])
        headers = {"Host": self.host, "X-Forwarded-Proto": self.proto, "User-Agent": "slipway", "Connection": "close"}
        try:
            connection.request("GET", encoded(path), headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.read(BODY_BYTES).decode(errors="replace")
        finally:
            connection.close()


def first_lines(text: str) -> str:
    """Return the first lines of a body that say something, on one line."""
    return " / ".join([line.strip() for line in text.splitlines() if line.strip()][:BODY_LINES])[:500]


def fault_of(server: Server, probe: dict[str, Any]) -> str:
    """Return what is wrong with the answer to one probe, in words; empty when it is as expected."""
    asked = f"GET {probe['path']} (Host {server.host}, X-Forwarded-Proto {server.proto})"
    try:
        status, body = server.get(probe["path"])
    except (OSError, ValueError, http.client.HTTPException) as error:  # ValueError: a Host that no header can hold
        reason = "no answer" if isinstance(error, TimeoutError) else f"no answer ({error or type(error).__name__})"
        return f"{asked}: {reason} within {server.timeout:g} s"
    if status != probe["status"]:
        return f"{asked}: answered {status} instead of {probe['status']}: {first_lines(body)}"
    if probe["contains"] not in body:
        return f"{asked}: the answer does not contain {probe['contains']!r}: {first_lines(body)}"
    return ""


def first_fault(server: Server, probes: list[dict[str, Any]], attempts: int = 1) -> str:
    """Return the first fault of the probes, empty when there is none; each is tried `attempts` times at the most."""
    for probe in probes:
        for attempt in range(attempts):
            if attempt:
                time.sleep(1)
            fault = fault_of(server, probe)
            if not fault:
                break
        else:
            return fault
    return ""
