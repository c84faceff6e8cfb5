"""What the tests of the three applications share: a site over HTTP, a WebSocket, the inventory, a deployment."""

from __future__ import annotations

import base64
import json
import os
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import requests
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[3]
INVENTORY = PROJECT / "molecule/apps/inventory"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what kills or restarts something after all that only looks."""
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


# Seconds after which a test gives up: much longer than anything takes, so that a busy machine fails no test.
PATIENCE = 180


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until `condition` holds; fail when it does not within PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {PATIENCE} s: {what or condition}")
        time.sleep(0.2)


@dataclass
class Site:
    """The site of one host, as a visitor sees it."""

    address: str

    @property
    def url(self) -> str:
        """Return where the site is."""
        return f"http://{self.address}"

    def get(self, path: str, **options: object) -> requests.Response:
        """Ask for a page, on a connection of its own."""
        return requests.get(self.url + path, timeout=PATIENCE, **options)

    def post(self, path: str, **options: object) -> requests.Response:
        """Send something."""
        return requests.post(self.url + path, timeout=PATIENCE, **options)

    def websocket(self, path: str) -> WebSocket:
        """Open a WebSocket; what the server says of it is its `status`."""
        return WebSocket(socket.create_connection((self.address, 80), timeout=15), self.address, path)


class WebSocket:
    """As much of RFC 6455 as an echo of short texts needs."""

    def __init__(self, connection: socket.socket, host: str, path: str) -> None:
        self.connection = connection
        self.stream = connection.makefile("rb")
        key = base64.b64encode(secrets.token_bytes(16)).decode()
        lines = [f"GET {path} HTTP/1.1", f"Host: {host}", "Upgrade: websocket", "Connection: Upgrade"]
        lines += [f"Sec-WebSocket-Key: {key}", "Sec-WebSocket-Version: 13", "", ""]
        connection.sendall("\r\n".join(lines).encode())
        self.status = int(self.stream.readline().split()[1])
        while self.stream.readline().strip():
            pass

    def send(self, text: str) -> None:
        """Send a text of at most 125 bytes."""
        content, mask = text.encode(), secrets.token_bytes(4)
        assert len(content) < 126
        masked = bytes(byte ^ mask[index % 4] for index, byte in enumerate(content))
        self.connection.sendall(bytes([0x81, 0x80 | len(content)]) + mask + masked)

    def receive(self) -> str:
        """Return the next text of at most 125 bytes."""
        kind, length = self.stream.read(2)
        assert (kind, length < 126) == (0x81, True)
        return self.stream.read(length).decode()

    def close(self) -> None:
        """Hang up."""
        self.stream.close()
        self.connection.close()


@pytest.fixture(scope="module")
def inventory(host: Host) -> dict[str, str]:
    """Return what the inventory says of the host; templates are not resolved, secrets are plain."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def app(inventory: dict[str, str]) -> str:
    """Return the application's name."""
    return inventory["django_app_name"]


@pytest.fixture(scope="module")
def site(inventory: dict[str, str]) -> Site:
    """Return the site of the host."""
    return Site(inventory["ansible_host"])


@pytest.fixture(scope="module")
def manage(host: Host, app: str) -> Callable[..., str]:
    """Return a function that runs a management command on the host and returns what it prints."""

    def run(*arguments: str) -> str:
        return host.check_output(" ".join([f"{app}-manage", *("%s" for _ in arguments)]), *arguments)

    return run


@pytest.fixture
def websocket(site: Site) -> Iterator[Callable[[str], WebSocket]]:
    """Return a function that opens a WebSocket, which is closed after the test."""
    opened = []

    def connect(path: str) -> WebSocket:
        opened.append(site.websocket(path))
        return opened[-1]

    yield connect
    for connection in opened:
        connection.close()


@pytest.fixture(scope="session")
def playbook() -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs a playbook of the project from this machine, with further variables."""

    def run(name: str, host: str, **variables: object) -> subprocess.CompletedProcess[str]:
        command = ["ansible-playbook", "-i", str(INVENTORY), str(PROJECT / "playbooks" / name), "--limit", host]
        settings = {
            "ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"),
            "ANSIBLE_VAULT_PASSWORD_FILE": str(PROJECT / "molecule/shared/vault-password"),
            # Molecule, where it takes its output for a terminal, asks for colours: no test would find its words again.
            "ANSIBLE_FORCE_COLOR": "0",
            "ANSIBLE_NOCOLOR": "1",
        }
        return subprocess.run(
            [*command, "--extra-vars", json.dumps(variables)], cwd=PROJECT, env=os.environ | settings,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, timeout=600, check=False,
        )  # fmt: skip

    return run


def live_unit(host: Host, app: str, service: str) -> str:
    """Return the unit of the slot of `service` (web, celery-quick, ...) that works now."""
    slot = host.check_output("readlink /srv/%s/slots/%s/live", app, service)
    return f"{app}-{service}@{slot}.service"
