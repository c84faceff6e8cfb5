#!/usr/bin/env python3
"""Deploys, and other ways to renew a site's processes, under the same load; what visitors see of each is counted.

    python dev/soak/soak.py -i dev/demo

What is measured is the bundled application on a host that site.yml has set up; docs/soak.md says how, and how to read
the table. Leaves the host as the inventory describes it.
"""

from __future__ import annotations

import argparse
import functools
import itertools
import json
import os
import re
import secrets
import shutil
import signal
import subprocess
import sys
import tempfile
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import testinfra
from load import Load, LoadError, Result, find_posts, register
from testinfra.host import Host

PROJECT = Path(__file__).resolve().parents[2]
LOGS = PROJECT / ".cache/soak"
# Beside its first line each page of a release of ours names it.
MARK = '<meta name="soak" content="([0-9a-z-]+)">'
OWN_SOCKET_HOST = "soak.invalid"
# Load on its way in and out of each change.
BEFORE, AFTER = 2.0, 4.0
# At the start, for each core; and for how long that is waited for.
QUIET_LOAD, QUIET_WAIT = 0.25, 180.0
# A command that has a processor when nobody else wants it: the policy, and the least share for its session, for between
# sessions theirs count (sched(7)).
STEP_BACK = ("sh", "-c", 'echo 19 >/proc/self/autogroup; exec chrt --idle 0 "$0" "$@"')
# How much slower than without a deploy the slowest answer may be.
GOAL = 2.0
PHASES = ("deploy", "rollback", "environment", "workers", "reload", "restart", "own-socket")
# Those that Slipway answers for; the others are there to compare.
OURS = PHASES[:4]
TITLES = {
    "baseline": "no change",
    "deploy": "deploy.yml, a new release",
    "rollback": "rollback.yml",
    "environment": "deploy.yml, environment changed",
    "workers": "deploy.yml, number of workers changed",
    "reload": "kill -HUP of gunicorn",
    "restart": "restart, systemd holds the socket",
    "own-socket": "restart, gunicorn holds the socket",
}


class SoakError(Exception):
    """The measurement cannot go on, or what was measured is not what was meant."""


def busy_seconds() -> float:
    """Return the CPU time that this machine has used, of all cores, in seconds."""
    user, nice, system, _idle, _wait, *interrupts = (
        int(word) for word in Path("/proc/stat").read_text(encoding="ascii").splitlines()[0].split()[1:8]
    )
    return (user + nice + system + sum(interrupts)) / os.sysconf("SC_CLK_TCK")


def wait_for_quiet(most: float, seconds: float) -> float:
    """Wait for up to `seconds` until the load average of the last minute is `most` or less; return it."""
    end = time.monotonic() + seconds
    while (now := os.getloadavg()[0]) > most and time.monotonic() < end:
        print(f"waiting for this machine to be quiet: load average {now:.2f}, wanted {most:.2f}", flush=True)
        time.sleep(10)
    return now


def mark_release(source: Path, target: Path, name: str) -> Path:
    """Copy a source tree so that each of its pages names the release."""
    shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".pytest_cache"))
    marked = 0
    for path in (target / "templates").glob("base*.html"):
        text = path.read_text(encoding="utf-8")
        new = text.replace("<head>", f'<head>\n  <meta name="soak" content="{name}">', 1)
        marked += new != text
        path.write_text(new, encoding="utf-8")
    if not marked:
        raise SoakError(f"{source}/templates has no base*.html with a <head>: only the bundled application can be used")
    return target


@dataclass(frozen=True)
class State:
    """What serves."""

    slot: str
    release: str
    pid: int
    workers: frozenset[int]
    nice: int


class Target:
    """The host that is measured: reached as Ansible reaches it."""

    def __init__(self, inventory: str, limit: str, url: str | None) -> None:
        self.inventory = inventory
        found = testinfra.get_hosts([f"ansible://{limit}"], ansible_inventory=inventory)
        if not found:
            raise SoakError(f"{inventory} has no host in {limit}")
        self.host: Host = found[0]
        self.name: str = self.host.backend.host
        variables = self.host.ansible.get_variables()
        self.app: str = variables["django_app_name"]
        self.url = (url or f"http://{variables['ansible_host']}").rstrip("/")
        self.slots = f"/srv/{self.app}/slots/web"

    def run(self, script: str) -> str:
        """Run a shell script as root on the host and return what it printed."""
        result = self.host.run(script)
        if result.rc:
            raise SoakError(f"on {self.name}, {script!r} failed: {(result.stdout + result.stderr).strip()[-500:]}")
        return result.stdout.strip()

    def state(self) -> State:
        """Return what serves now."""
        said = self.run(
            f"slot=$(readlink {self.slots}/live) && echo $slot && readlink -f {self.slots}/$slot/release && "
            f"pid=$(systemctl show -P MainPID {self.app}-web@$slot) && echo $pid && "
            "echo $(pgrep --parent $pid) && ps -o ni= -p $pid"
        ).split("\n")
        slot, release, pid, workers, nice = (line.strip() for line in said)
        return State(slot, Path(release).name, int(pid), frozenset(map(int, workers.split())), int(nice))


@dataclass
class Row:
    """A line of the table: all changes of one kind."""

    name: str
    changes: int = 0
    result: Result = field(default_factory=Result)
    slowest: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)
    busy: float = 0.0
    faults: list[str] = field(default_factory=list)

    def add(self, result: Result, busy: float) -> None:
        """Add one load."""
        self.result += result
        self.slowest.append(result.latencies[-1] if result.records else 0.0)
        self.busy += busy


class Soak:
    """The run."""

    def __init__(
        self, target: Target, source: Path, folder: Path, *, rate: float, clients: int, baseline: float
    ) -> None:
        self.target, self.source, self.folder = target, source, folder
        self.rate, self.baseline_seconds = rate, baseline
        self.clients = clients
        self.run_id = secrets.token_hex(4)
        self.marker = f"soak-{self.run_id}"
        # No two comments are alike, also of two loads.
        self.numbers = itertools.count(1)
        self.rows: dict[str, Row] = {}
        self.served: Path | None = None
        self.previous: Path | None = None
        self.releases = 0
        self.variables: list[str] = []
        self.posts = find_posts(target.url)
        self.sessions = register(target.url, clients, f"{self.marker}-")

    def row(self, name: str) -> Row:
        """Return the line of a kind of change."""
        return self.rows.setdefault(name, Row(name))

    @contextmanager
    def load(self, name: str, host: str | None = None) -> Iterator[Load]:
        """Let visitors come during the body, and add what they saw to the line `name`."""
        busy = busy_seconds()
        load = Load(
            self.target.url, rate=self.rate, clients=self.clients, sessions=self.sessions, posts=self.posts,
            marker=f"{self.marker} {next(self.numbers)}", mark=MARK, host=host,
        )  # fmt: skip
        try:
            with load:
                yield load
        finally:
            self.row(name).add(load.result, busy_seconds() - busy)
        if set(load.result.servers) - {"nginx"}:
            self.row(name).faults.append(f"not Nginx alone answered: {dict(load.result.servers)}")

    def baseline(self) -> None:
        """Measure with nothing else going on."""
        with self.load("baseline"):
            time.sleep(self.baseline_seconds)
        self.say("baseline", f"{self.baseline_seconds:.0f} s")

    def say(self, name: str, what: str) -> None:
        """Tell how the last change went."""
        row = self.row(name)
        print(
            f"  {name:12} slowest {row.slowest[-1] * 1000:6.0f} ms  failed so far {row.result.failed}  {what}",
            flush=True,
        )

    def change(
        self, name: str, act: Callable[[], None], proof: Callable[[State, State], str], host: str | None = None
    ) -> None:
        """Do something under load; `proof` returns what is wrong with the states before and after, or nothing."""
        before, row = self.target.state(), self.row(name)
        start = 0.0
        try:
            with self.load(name, host) as load:
                time.sleep(BEFORE)
                start = time.monotonic()
                act()
                row.seconds.append(time.monotonic() - start)
                time.sleep(AFTER)
            after = self.target.state()
            wrong = proof(before, after) or (self.unseen(load.result) if name in ("deploy", "rollback") else "")
            if wrong:
                row.faults.append(wrong)
            self.say(
                name,
                wrong or f"slot {before.slot} -> {after.slot}, release {before.release[:12]} -> {after.release[:12]}",
            )
        except SoakError as error:
            row.faults.append(str(error))
            print(f"  {name:12} {error}", flush=True)
        row.changes += 1

    def unseen(self, result: Result) -> str:
        """Return a fault when no visitor was shown the active release now."""
        mark = self.served.name if self.served else ""
        return "" if result.marks[mark] else f"nobody was shown release {mark}: {dict(result.marks)}"

    def playbook(self, name: str, *arguments: str) -> None:
        """Run a playbook with less priority than all that is measured."""
        log = LOGS / f"{len(list(LOGS.glob('*.log'))):02}-{name}.log"
        command = [*STEP_BACK, "ansible-playbook", "-i", self.target.inventory, f"playbooks/{name}.yml", *arguments]
        with (
            log.open("w", encoding="utf-8") as output,
            # A session of its own is what a priority can be given to; but then Ctrl-C does not reach it.
            subprocess.Popen(
                command, cwd=PROJECT, env=os.environ | {"ANSIBLE_NOCOLOR": "1"}, start_new_session=True,
                stdout=output, stderr=subprocess.STDOUT,
            ) as process,
        ):  # fmt: skip
            try:
                code = process.wait()
            except BaseException:
                os.killpg(process.pid, signal.SIGTERM)
                raise
        if code:
            text = log.read_text(encoding="utf-8")
            raise SoakError(f"{name}.yml failed ({log}):\n{text[-1500:]}")

    def deploy(self) -> None:
        """Run deploy.yml with the release and the variables of now."""
        source = ["-e", json.dumps({"django_app_source": str(self.served)})] if self.served else []
        self.playbook("deploy", *source, *self.variables)

    def new_release(self) -> None:
        """Deploy a release that was not built before."""
        self.previous, name = self.served, f"{self.run_id}-{self.releases + 1}"
        self.served = mark_release(self.source, self.folder / name, name)
        self.releases += 1

        def proof(before: State, after: State) -> str:
            if after.release == before.release or after.pid == before.pid:
                return f"nothing changed: {before.release}, pid {before.pid}"
            return ""

        self.change("deploy", self.deploy, proof)

    def rollback(self) -> None:
        """Go back to the release before."""
        if not self.previous:
            raise SoakError("there is nothing to go back to: rollback needs two deploys (--deploys)")
        self.served, self.previous = self.previous, None
        self.change(
            "rollback",
            lambda: self.playbook("rollback"),
            lambda before, after: "" if after.release != before.release else f"release {before.release} still serves",
        )

    def new_environment(self) -> None:
        """Change a variable of the application's environment."""
        self.variables += ["-e", json.dumps({"gunicorn_environment": {"SOAK": self.run_id}})]

        def proof(before: State, after: State) -> str:
            has = self.target.run(f"tr '\\0' '\\n' </proc/{after.pid}/environ | grep -c ^SOAK={self.run_id}$ || true")
            return "" if has == "1" and after.release == before.release else "the processes do not have the variable"

        self.change("environment", self.deploy, proof)

    def new_workers(self) -> None:
        """Change the number of gunicorn's workers."""
        wanted = len(self.target.state().workers) + 1
        self.variables += ["-e", json.dumps({"gunicorn_workers": wanted})]
        self.change(
            "workers",
            self.deploy,
            lambda _, after: "" if len(after.workers) == wanted else f"{len(after.workers)} workers, wanted {wanted}",
        )

    def reload(self) -> None:
        """Send SIGHUP, and wait until no worker of before is left."""

        def act() -> None:
            before = self.target.state()
            self.target.run(f"kill -HUP {before.pid}")
            end = time.monotonic() + 60
            while (now := self.target.state().workers) & before.workers or len(now) < len(before.workers):
                if time.monotonic() > end:
                    raise SoakError("workers of before are still there after 60 s")
                time.sleep(0.5)

        self.change(
            "reload", act, lambda a, b: "" if a.pid == b.pid and not a.workers & b.workers else "workers were kept"
        )

    def restart(self) -> None:
        """Restart the unit of the slot that serves."""
        unit = f"{self.target.app}-web@{self.target.state().slot}"
        self.change(
            "restart",
            lambda: self.target.run(f"systemctl restart {unit}") and None,
            lambda a, b: "" if a.pid != b.pid else f"pid {a.pid} was kept",
        )

    @contextmanager
    def own_socket(self) -> Iterator[Callable[[], None]]:
        """Run the release once more behind Nginx, by a gunicorn that makes its socket itself; give its restart."""
        app, slot = self.target.app, f"{self.target.slots}/{self.target.state().slot}"
        unit, site = f"/run/systemd/system/{app}-soak.service", "/etc/nginx/conf.d/soak.conf"
        socket = f"/run/{app}-soak/web.sock"
        public = urllib.parse.urlsplit(self.target.url).netloc
        description = f"""
[Unit]
Description=A gunicorn that holds its socket, to compare with
[Service]
Type=notify
NotifyAccess=all
User={app}
Group={app}
RuntimeDirectory={app}-soak
RuntimeDirectoryMode=0755
RuntimeDirectoryPreserve=restart
Environment=LANG=C.UTF-8
EnvironmentFile={slot}/app.env
EnvironmentFile=-{slot}/process.env
EnvironmentFile={slot}/release/release.env
WorkingDirectory={slot}/release/src
ExecStart={slot}/release/venv/bin/python -m gunicorn --config {slot}/gunicorn.conf.py --bind unix:{socket}
KillMode=mixed
StateDirectory={app}
ReadWritePaths=/srv/{app}/media
"""
        server = f"""
upstream soak {{ server unix:{socket} max_fails=0; keepalive 32; keepalive_timeout 5s; }}
server {{
    listen 80;
    server_name {OWN_SOCKET_HOST};
    location / {{
        proxy_pass http://soak;
        proxy_http_version 1.1;
        proxy_set_header Connection "";
        proxy_set_header Host {public};
        proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for;
        proxy_set_header X-Forwarded-Proto $scheme;
        proxy_redirect off;
    }}
}}
"""
        begin, end = f"cat >{unit} <<'UNIT'{description}UNIT\n", f"cat >{site} <<'SITE'{server}SITE\n"
        try:
            self.target.run(
                f"{begin}{end}systemctl daemon-reload && systemctl start {app}-soak && "
                "nginx -t && systemctl reload nginx"
            )
            pid = f"systemctl show -P MainPID {app}-soak"

            def act() -> None:
                before = self.target.run(pid)
                self.target.run(f"systemctl restart {app}-soak")
                if self.target.run(pid) in (before, "0"):
                    raise SoakError("the gunicorn to compare with did not restart")

            yield lambda: self.change("own-socket", act, lambda a, b: "", host=OWN_SOCKET_HOST)
        finally:
            self.target.run(
                f"rm -f {site} && systemctl reload nginx; systemctl stop {app}-soak; rm -f {unit}; "
                "systemctl daemon-reload"
            )

    def check_writes(self) -> str:
        """Compare the comments in the database with what visitors were told; return what is wrong, or nothing."""
        code = (
            "from blog.models import Comment; "
            f"found = list(Comment.objects.filter(body__startswith='{self.marker} ').values_list('body', flat=True)); "
            "print('stored', len(found), len(set(found)))"
        )
        said = self.target.run(f'{self.target.app}-manage shell -c "{code}"')
        match = re.search(r"stored (\d+) (\d+)", said)
        stored, different = map(int, match.groups()) if match else (0, 0)
        promised = sum(row.result.written for row in self.rows.values())
        sent = sum(record.method == "POST" for row in self.rows.values() for record in row.result.records)
        print(f"comments: {promised} answered as published, {stored} stored, {sent} sent")
        return "" if promised <= stored <= sent and stored == different else "comments were lost or doubled"

    def clean_up(self) -> None:
        """Remove our users and comments, and serve what the inventory says again."""
        code = f"from accounts.models import User; User.objects.filter(username__startswith='{self.marker}-').delete()"
        self.target.run(f'{self.target.app}-manage shell -c "{code}"')
        if self.served or self.variables:
            self.playbook("deploy")


def table(rows: Sequence[Row]) -> str:
    """Return the lines of the table, in milliseconds; what is slowest is held against the slowest without a change."""
    base = max((latency for row in rows if row.name == "baseline" for latency in row.slowest), default=0.0)
    head = (
        "technique",
        "changes",
        "requests",
        "failed",
        "p50",
        "p99",
        "slowest",
        "x no change",
        "no service",
        "takes",
        "cores",
    )
    lines = [head]
    for row in rows:
        figures, slowest = row.result.summary(), max(row.slowest, default=0.0)
        lines.append((
            TITLES[row.name], str(row.changes), str(figures["requests"]), str(figures["failed"]),
            f"{figures['p50_ms']:.0f}", f"{figures['p99_ms']:.0f}", f"{slowest * 1000:.0f}",
            f"{slowest / base:.1f}" if base else "-", f"{row.result.no_service:.1f} s",
            f"{sum(row.seconds) / len(row.seconds):.0f} s" if row.seconds else "-",
            f"{row.busy / row.result.seconds:.1f}" if row.result.seconds else "-",
        ))  # fmt: skip
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.rjust(width) if column else cell.ljust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in lines
    )


def faults(rows: Sequence[Row]) -> list[str]:
    """Return why the run as a whole has failed: a failed request or change of those that Slipway answers for."""
    found = [f"{row.name}: {fault}" for row in rows for fault in row.faults]
    for row in rows:
        if row.name in (*OURS, "baseline") and row.result.failed:
            kinds = ", ".join(f"{count} {kind}" for kind, count in row.result.failures.items())
            found.append(f"{row.name}: {row.result.failed} requests failed ({kinds})")
        if not row.result.records:
            found.append(f"{row.name}: nothing was measured")
    return found


def verdict(rows: Sequence[Row]) -> list[str]:
    """Return what the slowest answers say, in words."""
    base = max((latency for row in rows if row.name == "baseline" for latency in row.slowest), default=0.0)
    each = ", ".join(f"{s * 1000:.0f}" for row in rows if row.name == "baseline" for s in row.slowest)
    worst = max((latency for row in rows if row.name in OURS for latency in row.slowest), default=0.0)
    said = [f"Slowest answers without a change, one figure for each time: {each} ms."]
    if base and worst:
        met = "within" if worst <= GOAL * base else "NOT within"
        said.append(f"Slowest answer of a deploy: {worst * 1000:.0f} ms, {met} {GOAL:.0f} times the slowest without.")
    return said


def measure(soak: Soak, phases: Sequence[str], deploys: int, repeats: int) -> None:
    """Go through the phases, with measurements of nothing between them."""
    soak.baseline()
    if "deploy" in phases:
        for number in range(deploys):
            soak.new_release()
            if number == deploys // 2 - 1:
                soak.baseline()
    for name, act in (
        ("rollback", soak.rollback),
        ("environment", soak.new_environment),
        ("workers", soak.new_workers),
    ):
        if name in phases:
            act()
    soak.baseline()
    # In turns: what happens to the machine meanwhile happens to both.
    for _ in range(repeats):
        for name, act in (("reload", soak.reload), ("restart", soak.restart)):
            if name in phases:
                act()
    if "own-socket" in phases:
        with soak.own_socket() as restart:
            for _ in range(repeats):
                restart()
    if {"reload", "restart", "own-socket"} & set(phases):
        soak.baseline()


def prepare(options: argparse.Namespace) -> tuple[Target, list[str]]:
    """Refuse what cannot be measured; return the target and the phases."""
    phases = [name for name in PHASES if name not in options.skip]
    missing = [f"playbooks/{name}.yml" for name in ("deploy", "rollback") if name in phases]
    if missing := [name for name in missing if not (PROJECT / name).is_file()]:
        raise SoakError(f"{', '.join(missing)} is not there; leave it out with --skip")
    if "rollback" in phases and ("deploy" not in phases or options.deploys < 2):
        raise SoakError("rollback needs a release of before: --deploys 2 or more, or --skip rollback")
    most = QUIET_LOAD * (os.cpu_count() or 1)
    now = wait_for_quiet(most, 0 if options.force else QUIET_WAIT)
    print(f"Load average {now:.2f}; the rule: at most {QUIET_LOAD} for each core at the start, here {most:.2f}.")
    if now > most and not options.force:
        raise SoakError(
            "this machine does something else, and would be measured with it; --force measures all the same"
        )
    target = Target(options.inventory, options.limit, options.url)
    nice = target.state().nice
    if nice and not options.force:
        raise SoakError(
            f"gunicorn runs on {target.name} with nice {nice}: the host was made by a command with less priority, "
            "which all its processes have. Restart it from a shell without, or --force"
        )
    return target, phases


def main() -> int:
    """Run the soak; 0 when no request of a deploy failed and each change did what it says."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n")[0])
    parser.add_argument("-i", "--inventory", default=str(PROJECT / "dev/demo"), help="default: dev/demo")
    parser.add_argument("--limit", default="app", help="group whose first host is looked at (default app)")
    parser.add_argument("--url", help="the site (default: http:// and ansible_host of that host)")
    parser.add_argument("--source", type=Path, default=PROJECT / "app", help="the bundled application's source")
    parser.add_argument("--rate", type=float, default=40, help="requests a second (default 40)")
    parser.add_argument("--clients", type=int, default=16, help="half of them keep their connection (default 16)")
    parser.add_argument("--deploys", type=int, default=10, help="number of new releases (default 10)")
    parser.add_argument("--repeats", type=int, default=5, help="number of reloads and restarts (default 5)")
    parser.add_argument(
        "--baseline", type=float, default=60, help="seconds of each measurement of nothing (default 60)"
    )
    parser.add_argument("--skip", action="append", default=[], choices=PHASES, help="leave out; may be repeated")
    parser.add_argument("--json", type=Path, help="also write the figures there")
    parser.add_argument("--force", action="store_true", help="measure though this machine is busy")
    options = parser.parse_args()
    # Told to end, put the host right first.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    LOGS.mkdir(parents=True, exist_ok=True)
    for old in LOGS.glob("*.log"):
        old.unlink()
    try:
        target, phases = prepare(options)
        print(
            f"{target.url}, {os.cpu_count()} cores with everything on them: the services, the visitors, and Ansible.\n"
            "Ansible has what the others leave of a processor, since in earnest it runs on another machine.\n"
            f"{options.rate:g} requests a second by {options.clients} visitors, timed from when they are due.",
            flush=True,
        )
        with tempfile.TemporaryDirectory(prefix="soak-") as folder:
            soak = Soak(
                target, options.source.resolve(), Path(folder),
                rate=options.rate, clients=options.clients, baseline=options.baseline,
            )  # fmt: skip
            try:
                measure(soak, phases, options.deploys, options.repeats)
                lost = soak.check_writes()
            finally:
                soak.clean_up()
    except (SoakError, LoadError) as error:
        print(f"soak: {error}", file=sys.stderr)
        return 2
    rows = list(soak.rows.values())
    whole = functools.reduce(lambda left, right: left + right, (row.result for row in rows))
    print(f"\n{table(rows)}\n")
    print("\n".join(verdict(rows)))
    print(
        f"The visitors took {whole.cpu_seconds:.1f} s of CPU in {whole.seconds:.0f} s. {whole.reopened} connections "
        f"were opened again. The latest request was sent {whole.late * 1000:.0f} ms after it was due."
    )
    if options.json:
        figures = {
            row.name: {**row.result.summary(), "changes": row.changes, "slowest_s": row.slowest, "took_s": row.seconds}
            for row in rows
        }
        options.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    wrong = [*faults(rows), *([lost] if lost else [])]
    for fault in wrong:
        print(f"FAULT {fault}", file=sys.stderr)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
