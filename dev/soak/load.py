#!/usr/bin/env python3
"""Visitors of a site, so many requests a second, each answer recorded.

    python dev/soak/load.py http://127.0.0.1:8080 --seconds 30 --rate 80

Or around something else, from Python:

    with Load(url, rate=80, sessions=register(url, 16)) as load:
        deploy()
    assert not load.result.failed

The rate is held, whatever the site does (an open loop): a request has a time when it is due, and its latency counts
from then. A site that stalls for a second therefore shows as many slow requests as visitors would have had. Clients
that wait for an answer before they ask again would hide that.

Half of the clients keep their connection, and ask one thing after the other on it; what is due meanwhile waits, and its
clock runs. The other half opens a connection for each request, when it is due.

A connection that is kept may be closed by the server between two requests. It is opened again, and counted, when the
close was seen before a byte of the request was sent. Any later and the request has failed: nothing is ever sent twice.

Only Python's own library is used, and one thread, whose CPU time is part of the result.
"""

from __future__ import annotations

import argparse
import asyncio
import itertools
import json
import math
import re
import secrets
import ssl
import sys
import threading
import time
import urllib.parse
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field

# An answer later than this is none.
TIMEOUT = 15.0
# The site is without service while somebody waits and nobody has had a good answer for so long.
NO_SERVICE = 0.25
MOST_REQUESTS = 1_000_000
# One in ten writes. `{post}` stands for posts of the site, one after the other.
MIX = (
    *("/", "/posts/{post}/", "/posts/", "/shop/", "POST /posts/{post}/comments/"),
    *("/posts/{post}/", "/", "/search/?q=harbour", "/posts/{post}/", "/readyz"),
)
POST_LINK = re.compile(rb'href="/posts/([a-z0-9-]+)/"')
FORM_TOKEN = re.compile(rb'name="csrfmiddlewaretoken" value="([^"]+)"')
FORM = "application/x-www-form-urlencoded"


class LoadError(Exception):
    """The site is not there, or not what was expected of it, before any load began."""


class Failure(Exception):
    """A request that has no good answer; the text is the kind."""


@dataclass(frozen=True)
class Site:
    """Where requests go."""

    host: str
    port: int
    tls: ssl.SSLContext | None
    name: str | None = None

    @classmethod
    def of(cls, url: str, ca: str | None = None, name: str | None = None) -> Site:
        """Take a URL apart; `ca` is a file with its certificate's authority, `name` another name to ask for."""
        parts = urllib.parse.urlsplit(url)
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.path not in ("", "/"):
            raise LoadError(f"{url!r} is not the address of a site, as http://127.0.0.1:8080")
        tls = ssl.create_default_context(cafile=ca) if parts.scheme == "https" else None
        return cls(parts.hostname, parts.port or (443 if tls else 80), tls, name)

    @property
    def authority(self) -> str:
        """What stands in the Host header."""
        if self.name:
            return self.name
        return self.host if self.port == (443 if self.tls else 80) else f"{self.host}:{self.port}"

    @property
    def origin(self) -> str:
        """What a browser says of where a form came from."""
        return f"{'https' if self.tls else 'http'}://{self.authority}"


@dataclass
class Session:
    """A visitor who is logged in: the cookies that say so, and the token of the forms."""

    cookies: dict[str, str] = field(default_factory=dict)
    token: str = ""


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: dict[str, str]
    cookies: dict[str, str]
    body: bytes


@dataclass(frozen=True)
class Record:
    """One request. Times are in seconds since the load began; `error` is empty when the answer was a good one."""

    due: float
    latency: float
    status: int
    error: str
    method: str
    path: str
    kept: bool


def percentile(values: Sequence[float], share: float) -> float:
    """Return the smallest of the sorted values that `share` of them do not exceed; 0.0 of none."""
    return values[max(0, math.ceil(len(values) * share) - 1)] if values else 0.0


def without_service(records: Iterable[Record], least: float = NO_SERVICE) -> float:
    """Return for how many seconds somebody waited and nobody had a good answer, in stretches of `least` and longer."""
    finished = sorted((record.due + record.latency, record.due, not record.error) for record in records)
    # Since when somebody waits, of those who are answered at this place of the list or later.
    waiting = [*itertools.accumulate((due for _, due, _ in reversed(finished)), min)][::-1]
    total, last, begin = 0.0, -math.inf, 0
    for index, (end, _, good) in enumerate(finished):
        if good or index == len(finished) - 1:
            stretch = end - max(last, waiting[begin])
            total += stretch if stretch >= least else 0.0
            last, begin = end, index + 1
    return total


@dataclass
class Result:
    """What came of a load, or of several."""

    records: list[Record] = field(default_factory=list)
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    reopened: int = 0
    late: float = 0.0
    servers: Counter[str] = field(default_factory=Counter)
    marks: Counter[str] = field(default_factory=Counter)
    no_service: float = 0.0

    @property
    def failures(self) -> Counter[str]:
        """How many requests failed, by kind."""
        return Counter(record.error for record in self.records if record.error)

    @property
    def failed(self) -> int:
        """How many requests failed."""
        return self.failures.total()

    @property
    def latencies(self) -> list[float]:
        """All latencies, sorted: of failures too, for their visitors waited as well."""
        return sorted(record.latency for record in self.records)

    @property
    def written(self) -> int:
        """How many requests that write were answered as done."""
        return sum(record.method == "POST" and not record.error for record in self.records)

    def __add__(self, other: Result) -> Result:
        """Take the results of two loads as one; the times of the second follow those of the first."""
        moved = [Record(**(vars(record) | {"due": record.due + self.seconds})) for record in other.records]
        return Result(
            records=self.records + moved,
            seconds=self.seconds + other.seconds,
            cpu_seconds=self.cpu_seconds + other.cpu_seconds,
            reopened=self.reopened + other.reopened,
            late=max(self.late, other.late),
            servers=self.servers + other.servers,
            marks=self.marks + other.marks,
            no_service=self.no_service + other.no_service,
        )

    def summary(self) -> dict[str, object]:
        """Return the figures; times of requests in milliseconds."""
        latencies = self.latencies
        seconds = self.seconds or math.inf
        return {
            "requests": len(self.records),
            "failed": self.failed,
            "failures": dict(self.failures),
            "p50_ms": round(percentile(latencies, 0.5) * 1000, 1),
            "p99_ms": round(percentile(latencies, 0.99) * 1000, 1),
            "max_ms": round(percentile(latencies, 1) * 1000, 1),
            "without_service_s": round(self.no_service, 2),
            "asked_per_s": round(len(self.records) / seconds, 1),
            "served_per_s": round((len(self.records) - self.failed) / seconds, 1),
            "written": self.written,
            "reopened": self.reopened,
            "sent_late_ms": round(self.late * 1000, 1),
            "seconds": round(self.seconds, 1),
            "own_cpu_s": round(self.cpu_seconds, 2),
            "servers": dict(self.servers),
            "marks": dict(self.marks),
        }


class Connection:
    """One connection of HTTP/1.1."""

    def __init__(self, site: Site) -> None:
        self.site = site
        self._reader: asyncio.StreamReader | None = None
        self._writer: asyncio.StreamWriter | None = None

    @property
    def is_open(self) -> bool:
        """Whether there is a connection that the server has not closed, as far as it is known here."""
        return bool(self._reader and self._writer) and not (self._reader.at_eof() or self._writer.is_closing())

    async def open(self) -> None:
        """Connect."""
        try:
            self._reader, self._writer = await asyncio.open_connection(
                self.site.host, self.site.port, ssl=self.site.tls, limit=1 << 20
            )
        except OSError as error:
            raise Failure(f"no connection: {type(error).__name__}") from error

    def close(self) -> None:
        """Hang up."""
        if self._writer:
            self._writer.close()
        self._reader = self._writer = None

    async def ask(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """Send one request and read its answer; it is sent once, whatever happens."""
        assert self._reader and self._writer  # noqa: S101 (opened before)
        lines = [f"{method} {path} HTTP/1.1", f"Host: {self.site.authority}"]
        lines += [f"{name}: {value}" for name, value in headers.items()]
        if method == "POST":
            lines.append(f"Content-Length: {len(body)}")
        stage = "closed without an answer"
        try:
            self._writer.write("\r\n".join([*lines, "", ""]).encode() + body)
            head = (await self._reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            stage = "answer cut off"
            status = int(head[0].split(" ", 2)[1])
            fields = [line.partition(":")[::2] for line in head[1:] if line]
            answer = {name.lower(): value.strip() for name, value in fields}
            cookies = [value.strip().split(";")[0] for name, value in fields if name.lower() == "set-cookie"]
            content = b"" if method == "HEAD" or status in (204, 304) else await self._read_body(answer)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            raise Failure(stage) from error
        except (ValueError, IndexError, asyncio.LimitOverrunError) as error:
            raise Failure("answer is not HTTP") from error
        if answer.get("connection", "").lower() == "close" or head[0].startswith("HTTP/1.0"):
            self.close()
        return Answer(status, answer, dict(cookie.partition("=")[::2] for cookie in cookies), content)

    async def _read_body(self, headers: dict[str, str]) -> bytes:
        assert self._reader  # noqa: S101 (opened before)
        if "content-length" in headers:
            return await self._reader.readexactly(int(headers["content-length"]))
        if headers.get("transfer-encoding", "").lower() != "chunked":
            return await self._reader.read()
        parts = []
        while size := int((await self._reader.readuntil(b"\r\n")).split(b";")[0], 16):
            parts.append((await self._reader.readexactly(size + 2))[:-2])
        while await self._reader.readuntil(b"\r\n") != b"\r\n":
            pass
        return b"".join(parts)


async def ask_once(
    site: Site, method: str, path: str, session: Session, fields: dict[str, str] | None = None
) -> Answer:
    """Send one request on a connection of its own, keep its cookies in the session and return the answer."""
    body = urllib.parse.urlencode(fields or {}).encode()
    connection = Connection(site)
    headers = {"Connection": "close", "User-Agent": "soak", "Referer": site.origin + path}
    if session.cookies:
        headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
    if fields:
        headers["Content-Type"] = FORM
    try:
        async with asyncio.timeout(60):
            await connection.open()
            answer = await connection.ask(method, path, headers, body)
    except (Failure, TimeoutError) as error:
        raise LoadError(f"{site.origin}{path}: {error or 'no answer within 60 s'}") from error
    finally:
        connection.close()
    session.cookies |= answer.cookies
    return answer


async def _register(site: Site, name: str) -> Session:
    """Register a user by the site's form, which logs them in; return what proves it."""
    session = Session()
    page = await ask_once(site, "GET", "/accounts/register/", session)
    token = FORM_TOKEN.search(page.body)
    if not token:
        raise LoadError(f"{site.origin}/accounts/register/ has no form (status {page.status})")
    password = secrets.token_urlsafe(16)
    fields = {"username": name, "email": f"{name}@example.com", "password1": password, "password2": password}
    fields["csrfmiddlewaretoken"] = token[1].decode()
    answer = await ask_once(site, "POST", "/accounts/register/", session, fields)
    if answer.status != 302 or "sessionid" not in session.cookies:
        raise LoadError(f"{site.origin} registered no {name} (status {answer.status})")
    # Of the greeting that waits for the next page nothing is wanted.
    session.cookies.pop("messages", None)
    session.token = session.cookies["csrftoken"]
    return session


def register(url: str, count: int, prefix: str = "soak", ca: str | None = None) -> list[Session]:
    """Register `count` users of the bundled application, named from `prefix`, and return their sessions."""
    site = Site.of(url, ca)

    async def one_by_one() -> list[Session]:
        return [await _register(site, f"{prefix}{number}") for number in range(count)]

    return asyncio.run(one_by_one())


def find_posts(url: str, count: int = 8, ca: str | None = None) -> list[str]:
    """Return the names of posts that the site lists."""
    page = asyncio.run(ask_once(Site.of(url, ca), "GET", "/posts/", Session()))
    found = [name.decode() for name in dict.fromkeys(POST_LINK.findall(page.body))][:count]
    if page.status != 200 or not found:
        raise LoadError(f"{url}/posts/ lists no posts (status {page.status}); `make demo` makes some")
    return found


class Load:
    """So many requests a second, from `start` until `stop`; or as a context, around what is done meanwhile.

    Args:
        url: The site.
        rate: Requests a second, of all clients together.
        clients: How many there are; every second one keeps its connection.
        sessions: Users for the clients, from `register`. Without them nothing is written: requests that would are
            left out of the mix.
        mix: What the clients ask for, in turn.
        marker: What comments begin with, to be found again.
        mark: An expression with a group, looked for in each page; how often it said what is part of the result.
        most: The number of requests after which no more are sent.
        seconds: The time after which no more are sent.
        ca: A file with the authority of the site's certificate.
        posts: Names of posts for the mix, by default from the site.
        host: What to write into the Host header, by default what the URL says.
    """

    def __init__(
        self,
        url: str,
        *,
        rate: float = 80,
        clients: int = 16,
        sessions: Sequence[Session] = (),
        mix: Sequence[str] = MIX,
        marker: str = "soak",
        mark: str | None = None,
        most: int = MOST_REQUESTS,
        seconds: float = 3600,
        ca: str | None = None,
        posts: Sequence[str] = (),
        host: str | None = None,
    ) -> None:
        if rate <= 0 or clients < 1 or not 0 < most <= MOST_REQUESTS or seconds <= 0:
            raise LoadError(f"rate, clients, seconds and most (up to {MOST_REQUESTS}) must be above 0")
        self.site = Site.of(url, ca, host)
        self.rate, self.clients, self.seconds, self.most = rate, clients, seconds, most
        self.sessions = list(sessions)
        self.mix = [entry for entry in mix if sessions or not entry.startswith("POST ")]
        if not self.mix:
            raise LoadError("there is nothing to ask for; requests that write need sessions")
        needs_posts = any("{post}" in entry for entry in self.mix)
        self._posts = itertools.cycle((posts or find_posts(url, ca=ca)) if needs_posts else [""])
        self._marker = marker
        self._mark = re.compile(mark.encode()) if mark else None
        self._numbers = itertools.count()
        self.result = Result()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="load", daemon=True)
        self._error: BaseException | None = None
        self._start = self._now = 0.0
        self._sent = 0
        # When the load began, by time.time(): to find what happened at the time of a request.
        self.began = 0.0

    def start(self) -> Load:
        """Let the clients begin."""
        self._thread.start()
        return self

    def stop(self) -> Result:
        """Send no more, wait for the answers that are due and return the result."""
        self._stop.set()
        return self.wait()

    def wait(self) -> Result:
        """Wait until the time is over and return the result."""
        self._thread.join()
        if self._error:
            raise LoadError(f"the load ended early: {self._error!r}") from self._error
        return self.result

    def __enter__(self) -> Load:
        """Let the clients begin."""
        return self.start()

    def __exit__(self, *_: object) -> None:
        """Let them finish."""
        self.stop()

    def _run(self) -> None:
        cpu = time.thread_time()
        try:
            asyncio.run(self._all())
        except BaseException as error:  # noqa: BLE001, RUF100 (told to whoever waits for the thread)
            self._error = error
        self.result.cpu_seconds = time.thread_time() - cpu
        self.result.no_service = without_service(self.result.records)

    async def _all(self) -> None:
        self._start, self.began = time.monotonic(), time.time()
        ends = await asyncio.gather(*(self._client(number) for number in range(self.clients)))
        # The time in which requests were due, without that of the last answers.
        self.result.seconds = max(ends)

    def _since_start(self) -> float:
        return time.monotonic() - self._start

    def _is_over(self) -> bool:
        return self._stop.is_set() or self._sent >= self.most or self._since_start() >= self.seconds

    async def _client(self, number: int) -> float:
        """Ask for one thing after the other, at the client's share of the rate; return when it was told to end."""
        kept = Connection(self.site) if number % 2 == 0 else None
        session = self.sessions[number % len(self.sessions)] if self.sessions else None
        # Clients take turns and begin at different places, so that neither requests nor kinds of them come in bursts.
        mix = itertools.islice(itertools.cycle(self.mix), number * 3 % len(self.mix), None)
        pause, due = self.clients / self.rate, number / self.rate
        queue: asyncio.Queue[tuple[float, str] | None] = asyncio.Queue()
        tasks = {asyncio.create_task(self._keep_asking(kept, session, queue))} if kept else set()
        while True:
            # In short steps: `stop` is called from another thread.
            while (left := due - self._since_start()) > 0 and not self._is_over():
                await asyncio.sleep(min(left, 0.2))
            if self._is_over():
                break
            self._sent += 1
            if kept:
                queue.put_nowait((due, next(mix)))
            else:
                tasks = {task for task in tasks if not task.done() or task.result()}
                tasks.add(asyncio.create_task(self._ask_anew(session, due, next(mix))))
            due += pause
        ended = self._since_start()
        queue.put_nowait(None)
        await asyncio.gather(*tasks)
        return ended

    async def _keep_asking(
        self, connection: Connection, session: Session | None, queue: asyncio.Queue[tuple[float, str] | None]
    ) -> None:
        was_open = False
        while item := await queue.get():
            if was_open and not connection.is_open:
                self.result.reopened += 1
            await self._ask(connection, session, *item, kept=True)
            was_open = True
        connection.close()

    async def _ask_anew(self, session: Session | None, due: float, entry: str) -> None:
        self.result.late = max(self.result.late, self._since_start() - due)
        connection = Connection(self.site)
        await self._ask(connection, session, due, entry, kept=False)
        connection.close()

    async def _ask(
        self, connection: Connection, session: Session | None, due: float, entry: str, *, kept: bool
    ) -> None:
        """Send one request and record what came of it."""
        method, path = entry.split(" ", 1) if " " in entry else ("GET", entry)
        path = path.replace("{post}", next(self._posts) if "{post}" in path else "")
        headers, body = {"User-Agent": "soak"}, b""
        # Who keeps the connection is logged in and gets pages of their own; who comes anew is so only to write.
        if session and (kept or method == "POST"):
            headers["Cookie"] = "; ".join(f"{name}={value}" for name, value in session.cookies.items())
        if session and method == "POST":
            text = f"{self._marker} {next(self._numbers)}"
            body = urllib.parse.urlencode({"body": text, "csrfmiddlewaretoken": session.token}).encode()
            headers |= {"Content-Type": FORM, "Referer": self.site.origin + path}
        status, error = 0, ""
        try:
            async with asyncio.timeout_at(asyncio.get_running_loop().time() + TIMEOUT):
                if not connection.is_open:
                    connection.close()
                    await connection.open()
                answer = await connection.ask(method, path, headers, body)
            status = answer.status
            self._look_at(answer, method, path)
        except TimeoutError:
            error = f"no answer within {TIMEOUT:.0f} s"
        except Failure as failure:
            error = str(failure)
        if error:
            connection.close()
        latency = self._since_start() - due
        self.result.records.append(Record(due, latency, status, error, method, path, kept))

    def _look_at(self, answer: Answer, method: str, path: str) -> None:
        """Take down who answered; raise Failure when it is not what was asked for."""
        self.result.servers[answer.headers.get("server", "none").split("/")[0]] += 1
        if method == "POST":
            # The form is taken and leads back to the page; to the login when the session was lost.
            place = answer.headers.get("location", "")
            if answer.status not in (302, 303) or not place.startswith(path.removesuffix("comments/")):
                raise Failure(f"POST answered {answer.status} {place}".rstrip())
        elif answer.status != 200:
            raise Failure(f"status {answer.status}")
        elif not answer.body:
            raise Failure("empty answer")
        if self._mark and (found := self._mark.search(answer.body)):
            self.result.marks[found[1].decode()] += 1


def table(summary: dict[str, object]) -> str:
    """Return figures as lines of a name and a value."""
    shown = {
        name: ", ".join(f"{count} {kind}" for kind, count in value.items()) or "none"
        if isinstance(value, dict)
        else value
        for name, value in summary.items()
    }
    return "\n".join(f"{name:18} {value}" for name, value in shown.items())


def main() -> int:
    """Run a load from the command line; 0 when no request failed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("url", help="the site, as http://127.0.0.1:8080")
    parser.add_argument("--seconds", type=float, default=30, help="how long (default 30)")
    parser.add_argument("--rate", type=float, default=80, help="requests a second, of all clients (default 80)")
    parser.add_argument("--clients", type=int, default=16, help="every second one keeps its connection (default 16)")
    parser.add_argument("--path", action="append", help="ask for this only; may be repeated (default: a mix)")
    parser.add_argument("--read-only", action="store_true", help="register no users and write nothing")
    parser.add_argument("--ca", help="file with the authority of the site's certificate")
    parser.add_argument("--json", action="store_true", help="print JSON, with every request")
    options = parser.parse_args()
    try:
        users = 0 if options.read_only or options.path else options.clients
        sessions = register(options.url, users, f"soak{secrets.token_hex(4)}-", options.ca)
        load = Load(
            options.url, rate=options.rate, clients=options.clients, seconds=options.seconds, sessions=sessions,
            mix=options.path or MIX, ca=options.ca,
        )  # fmt: skip
        with suppress(KeyboardInterrupt):
            load.start().wait()
        result = load.stop()
    except LoadError as error:
        print(error, file=sys.stderr)
        return 2
    if options.json:
        print(json.dumps(result.summary() | {"records": [asdict(record) for record in result.records]}))
    else:
        print(table(result.summary()))
    return 1 if result.failed or not result.records else 0


if __name__ == "__main__":
    sys.exit(main())
