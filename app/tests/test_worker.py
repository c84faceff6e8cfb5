"""Real workers on the real broker."""

import os
import signal
import socket
import socketserver
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from datetime import timedelta
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import redis
from celery.contrib.testing.worker import start_worker
from django.conf import settings
from django.contrib.sessions.models import Session
from django.core import mail
from django.db import connection
from django.test import Client
from django.utils import timezone

from accounts.models import WelcomeEmail
from accounts.tasks import LOST_AFTER, enqueue_emails, send_pending_emails
from config.celery import app
from ops.tasks import clear_expired_sessions
from tests.factories import PASSWORD, make_user
from tests.worker_tasks import RETRIES, kill_the_worker

pytestmark = pytest.mark.django_db(transaction=True)

APP = Path(__file__).resolve().parent.parent


def wait_for(condition: Callable[[], object], what: str, seconds: float = 60) -> None:
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
    """A mail server that takes connections and, while `holding`, never answers them."""

    allow_reuse_address = daemon_threads = True
    request_queue_size = 64

    def __init__(self) -> None:
        self.holding = threading.Event()
        self.held: list[int] = []
        self.delivered: list[str] = []
        super().__init__(("127.0.0.1", 0), MailHandler)


class MailHandler(socketserver.StreamRequestHandler):
    """As much of SMTP as it takes to be handed a message."""

    server: MailServer

    def handle(self) -> None:
        """Talk to one client."""
        if self.server.holding.is_set():
            self.server.held.append(self.client_address[1])
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
def start_process(mail_server: MailServer, tmp_path: Path) -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Return a function that starts a worker as it is deployed, on this test's database and a queue of its own."""
    database = urlsplit(os.environ["DATABASE_URL"])._replace(path=f"/{connection.settings_dict['NAME']}")
    environment = os.environ | {
        "DJANGO_SETTINGS_MODULE": "tests.worker_settings",
        "TEST_QUEUE": settings.CELERY_TASK_DEFAULT_QUEUE,
        "DATABASE_URL": database.geturl(),
        "EMAIL_URL": f"smtp://127.0.0.1:{mail_server.server_address[1]}",
    }
    processes = []

    def start(*, children: int) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [
                *(sys.executable, "-m", "celery", "--app=config", "worker", f"--concurrency={children}"),
                *("--without-gossip", "--without-mingle"),
            ],
            # A session of its own: the whole tree can be killed at once.
            cwd=APP, env=environment, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
        processes.append(process)
        return process

    with (tmp_path / "worker.log").open("wb") as log:
        yield start
        for process in processes:
            # The test is over, and nobody waits for the worker to take its leave.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def children(pid: int) -> list[int]:
    """Return the children of a process."""
    return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


class BrokerSwitch:
    """Stands before the broker, at an address of its own, and is the broker that can be stopped and started again."""

    def __init__(self) -> None:
        url = urlsplit(settings.CELERY_BROKER_URL)
        self.broker = (url.hostname, url.port or 6379)
        self.connections: list[socket.socket] = []
        self.port = 0
        self.listener = self._take_port()
        self.port = self.listener.getsockname()[1]
        credentials = "".join(url.netloc.rpartition("@")[:2])
        self.url = url._replace(netloc=f"{credentials}127.0.0.1:{self.port}").geturl()

    def _take_port(self) -> socket.socket:
        """Return a socket that has the port to itself and, until it listens, refuses who comes."""
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", self.port))
        return listener

    def start(self) -> None:
        """Let everybody through from now on."""
        self.listener.listen()
        threading.Thread(target=self._accept, args=[self.listener], daemon=True).start()

    def stop(self) -> None:
        """Cut all connections, and refuse new ones."""
        for end in (self.listener, *self.connections):
            # This ends what threads wait for; closing alone would not.
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
            end.close()
        self.connections.clear()
        self.listener = self._take_port()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                client, _ = listener.accept()
                server = socket.create_connection(self.broker)
                self.connections += [client, server]
                for source, target in ((client, server), (server, client)):
                    threading.Thread(target=self._pass_on, args=[source, target], daemon=True).start()

    @staticmethod
    def _pass_on(source: socket.socket, target: socket.socket) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                target.sendall(data)
            target.shutdown(socket.SHUT_WR)


@pytest.fixture
def broker(use_broker: Callable[[str], None]) -> Iterator[BrokerSwitch]:
    """Put a switch before the broker, for this process and the workers that it starts."""
    switch = BrokerSwitch()
    switch.start()
    use_broker(switch.url)
    yield switch
    switch.stop()
    switch.listener.close()


def receivers(mail_server: MailServer) -> list[str]:
    """Return the address of each mail that was delivered, sorted."""
    return sorted(line[4:] for mail in mail_server.delivered for line in mail.splitlines() if line.startswith("To: "))


def test_a_child_killed_while_it_sends(
    mail_server: MailServer, start_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    user = make_user()
    WelcomeEmail.objects.create(user=user)
    mail_server.holding.set()
    enqueue_emails(WelcomeEmail, ids=[user.pk])
    worker = start_process(children=1)
    wait_for(lambda: mail_server.held, "attempt to send")
    mail_server.holding.clear()
    (child,) = children(worker.pid)
    os.kill(child, signal.SIGKILL)
    wait_for(lambda: WelcomeEmail.objects.exclude(sent_at=None).exists(), "second attempt")
    assert len(mail_server.held) == 1
    assert receivers(mail_server) == [user.email]


def killed_in_the_middle(mail_server: MailServer, start: Callable[..., subprocess.Popen[bytes]]) -> list[str]:
    """Promise 50 mails, and kill all processes of a worker that is sending two of them; return the addresses."""
    users = [make_user() for _ in range(50)]
    WelcomeEmail.objects.bulk_create(WelcomeEmail(user=user, enqueued_at=timezone.now()) for user in users)
    enqueue_emails(WelcomeEmail, ids=[user.pk for user in users])
    worker = start(children=2)
    wait_for(lambda: len(mail_server.delivered) >= 15, "mail")
    mail_server.holding.set()
    wait_for(lambda: len(mail_server.held) == 2, "two children that wait for the mail server")
    os.killpg(worker.pid, signal.SIGKILL)
    worker.wait()
    assert 15 <= len(mail_server.delivered) <= 48
    mail_server.holding.clear()
    return sorted(user.email for user in users)


def test_a_worker_killed_with_all_its_children_loses_nothing_and_repeats_nothing(
    mail_server: MailServer, start_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    everybody = killed_in_the_middle(mail_server, start_process)
    start_process(children=2)
    wait_for(lambda: not WelcomeEmail.objects.filter(sent_at=None).exists(), "end of the outbox")
    assert receivers(mail_server) == everybody


def test_what_redis_has_lost_is_in_the_outbox(
    mail_server: MailServer, start_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    everybody = killed_in_the_middle(mail_server, start_process)
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        lost = list(client.scan_iter(f"{settings.CELERY_TASK_DEFAULT_QUEUE}*"))
        assert client.delete(*lost) >= 2
    start_process(children=2)
    send_pending_emails()
    assert len(receivers(mail_server)) < 50, "the messages were not lost"
    WelcomeEmail.objects.filter(sent_at=None).update(enqueued_at=timezone.now() - 2 * LOST_AFTER)
    send_pending_emails()
    wait_for(lambda: not WelcomeEmail.objects.filter(sent_at=None).exists(), "end of the outbox")
    assert receivers(mail_server) == everybody


def test_a_registration_while_the_broker_is_down_is_welcomed_when_it_is_back(
    broker: BrokerSwitch, mail_server: MailServer, start_process: Callable[..., subprocess.Popen[bytes]]
) -> None:
    def register(name: str) -> str:
        email = f"{name}@example.com"
        form = {"username": name, "email": email, "password1": PASSWORD, "password2": PASSWORD}
        assert Client().post("/accounts/register/", form).status_code == 302
        return email

    worker = start_process(children=1)
    first = register("ada")
    wait_for(lambda: receivers(mail_server) == [first], "mail through the switch")
    broker.stop()
    second = register("bea")
    assert WelcomeEmail.objects.get(user__username="bea").enqueued_at is None
    send_pending_emails()
    assert WelcomeEmail.objects.get(user__username="bea").enqueued_at is None
    broker.start()
    send_pending_emails()
    wait_for(lambda: len(mail_server.delivered) == 2, "mail after the broker came back")
    assert receivers(mail_server) == [first, second]
    assert worker.poll() is None, "the worker ended with the broker"


def test_a_task_that_kills_its_worker_ends_and_the_others_go_on(
    mail_server: MailServer, start_process: Callable[..., subprocess.Popen[bytes]], tmp_path: Path
) -> None:
    users = [make_user() for _ in range(10)]
    WelcomeEmail.objects.bulk_create(WelcomeEmail(user=user, enqueued_at=timezone.now()) for user in users)
    marks = tmp_path / "marks"
    poison = kill_the_worker.delay(str(marks))
    enqueue_emails(WelcomeEmail, ids=[user.pk for user in users[:5]])
    worker = start_process(children=1)
    wait_for(poison.ready, "end of the task")
    enqueue_emails(WelcomeEmail, ids=[user.pk for user in users[5:]])
    wait_for(lambda: not WelcomeEmail.objects.filter(sent_at=None).exists(), "end of the outbox")
    assert poison.state == "FAILURE"
    assert marks.read_text() == "x" * (1 + RETRIES)
    assert receivers(mail_server) == sorted(user.email for user in users)
    assert worker.poll() is None
    queue = settings.CELERY_TASK_DEFAULT_QUEUE
    with redis.Redis.from_url(settings.CELERY_BROKER_URL) as client:
        # The last mail is acknowledged a moment after it is sent.
        wait_for(lambda: not client.exists(queue, f"{queue}-unacked"), "empty queue")
