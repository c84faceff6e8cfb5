"""Real workers on the real broker."""

import os
import signal
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import WelcomeEmail
from config.celery import app
from ops.tasks import clear_expired_sessions
from tests.factories import PASSWORD, make_user

pytestmark = pytest.mark.django_db(transaction=True)

APP = Path(__file__).resolve().parent.parent


def wait_for(condition: Callable[[], object], what: str, seconds: float = 20) -> None:
    """Wait until the condition holds, or fail."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, f"no {what} within {seconds} s"
        time.sleep(0.05)


@pytest.fixture
def worker() -> Iterator[None]:
    """Run a worker in a thread of this process."""
    with start_worker(app, pool="solo", loglevel="INFO", perform_ping_check=False):
        yield


def test_a_registration_is_welcomed(client: Client, worker: None) -> None:
    form = {"username": "ada", "email": "ada@example.com", "password1": PASSWORD, "password2": PASSWORD}
    assert client.post("/accounts/register/", form).status_code == 302
    wait_for(lambda: WelcomeEmail.objects.exclude(sent_at=None).exists(), "welcome email")
    assert [message.to for message in mail.outbox] == [["ada@example.com"]]


def test_housekeeping_and_its_result(client: Client, worker: None) -> None:
    now = timezone.now()
    for key, age in (("old", -1), ("new", 1)):
        Session.objects.create(session_key=key, expire_date=now + timedelta(days=age))
    result = clear_expired_sessions.delay()
    assert (result.get(timeout=20), result.state) == (None, "SUCCESS")
    assert [session.pk for session in Session.objects.all()] == ["new"]


class MailServer(socketserver.ThreadingTCPServer):
    """A mail server that never answers its first client and serves the others."""

    allow_reuse_address = daemon_threads = True

    def __init__(self) -> None:
        self.clients: list[int] = []
        self.delivered: list[str] = []
        super().__init__(("127.0.0.1", 0), MailHandler)


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to be handed a message."""

    server: MailServer

    def handle(self) -> None:
        """Talk to one client."""
        self.server.clients.append(self.client_address[1])
        if len(self.server.clients) == 1:
            self.rfile.read()
            return
        self.wfile.write(b"220 ready\r\n")
        for line in self.rfile:
            command = line[:4].strip().upper()
            if command == b"DATA":
                self.wfile.write(b"354 go on\r\n")
                message = b"".join(iter(self.rfile.readline, b".\r\n"))
                self.server.delivered.append(message.decode())
            self.wfile.write(b"221 bye\r\n" if command == b"QUIT" else b"250 ok\r\n")


@pytest.fixture
def mail_server() -> Iterator[MailServer]:
    """Run the mail server in a thread."""
    with MailServer() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def worker_process(mail_server: MailServer, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run a worker with one child as it is deployed, on the database of this test."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "DATABASE_URL": database.geturl(),
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.server_address[1]}",
    }
    command = ["-A", "config", "worker", "--concurrency=1", f"--queues={settings.CELERY_TASK_DEFAULT_QUEUE}"]
    with (tmp_path / "worker.log").open("wb") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "celery", *command], cwd=APP, env=environment, stdout=log, stderr=log
        )
        yield process
        process.terminate()
        process.wait(30)


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_worker_killed_while_it_sends(mail_server: MailServer, worker_process: subprocess.Popen[bytes]) -> None:
    user = make_user()
    WelcomeEmail.objects.create(user=user)
    app.send_task("accounts.tasks.send_welcome_email", [user.pk])
    wait_for(lambda: mail_server.clients, "attempt to send")
    (child,) = children(worker_process.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: WelcomeEmail.objects.exclude(sent_at=None).exists(), "second attempt")
    assert len(mail_server.clients) == 2
    assert len(mail_server.delivered) == 1
    assert f"To: {user.email}" in mail_server.delivered[0]
