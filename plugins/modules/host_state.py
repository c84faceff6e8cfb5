#!/usr/bin/python
"""Tell how a host is: units, releases, replication, queues, certificate, disk, memory, updates. Changes nothing."""

from __future__ import annotations

import contextlib
import glob
import json
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.firewalls import others
from ansible_collections.slipway.kit.plugins.module_utils.postgresql import Cluster
from ansible_collections.slipway.kit.plugins.module_utils.probe import Server, fault_of
from ansible_collections.slipway.kit.plugins.module_utils.redis import redis_cli
from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import AppCommand, last_lines
from ansible_collections.slipway.kit.plugins.module_utils.release.migration_question import (
    conflict_lines,
    find_answer,
    shell_words,
)
from ansible_collections.slipway.kit.plugins.module_utils.release.slots import SLOTS, Service, SlotError, all_services
from ansible_collections.slipway.kit.plugins.module_utils.release.store import read_marker, releases_in_use
from ansible_collections.slipway.kit.plugins.module_utils.systemd.site_units import is_of_site
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import UP, is_restart_pending
from ansible_collections.slipway.kit.plugins.module_utils.threads import allow_threads

DOCUMENTATION = r"""
module: host_state
short_description: Tell how a host is
description:
  - Looks at whatever the host has, and leaves out what it has not. A part that cannot be told is told as a fault.
  - Asks nobody but the host itself, and changes nothing. Each question has a time limit, after which the missing answer
    is the answer.
options:
  application: {description: The application., type: str, required: true}
  parts:
    description: The parts to return; all when it is empty.
    type: list
    elements: str
    default: []
    choices:
      [version, units, starts, silent, failed, enabled, serves, migrations, database, queues, certificate, nginx,
       firewall, firewalls, disk, memory, load, updates, reboot, uptime]
  redis:
    description: How to ask the broker.
    type: dict
    options:
      user: {description: The user., type: str, required: true}
      password: {description: The password., type: str, required: true}
      address: {description: The address., type: str, required: true}
      port: {description: The port., type: int, required: true}
  migrations: {description: Whether the release in use is asked for its migrations., type: bool, default: false}
  web:
    description: How to ask what answers visitors.
    type: dict
    options:
      path: {description: The path to ask for., type: str, required: true}
      status: {description: The status that is expected., type: int, default: 200}
      host: {description: The Host header., type: str, required: true}
      proto: {description: The scheme that visitors use., type: str, required: true}
      port: {description: "The port of Nginx to ask as well; 0 asks none.", type: int, default: 0}
      tls: {description: Whether that port speaks TLS., type: bool, default: false}
author: Slipway contributors
"""


# On a busy host an answer takes longer, by as much as processes have to wait for a processor.
PATIENCE = min(10.0, max(1.0, os.getloadavg()[0] / len(os.sched_getaffinity(0))))
# Seconds after which a question to a service, a command, and a part as a whole count as not answered.
ANSWER = round(8 * min(4, PATIENCE))
COMMAND = round(20 * PATIENCE)
PART = round(60 * PATIENCE)
INODES_SHORT = 70  # percent of the inodes of a file system that are worth a word


def read(path: str) -> str:
    """Return the text of a file, nothing when there is none."""
    try:
        with open(path) as file:
            return file.read()
    except OSError:
        return ""


class Host:
    """Each method whose name does not begin with an underscore tells a part."""

    def __init__(self, module: AnsibleModule) -> None:
        self._module = module
        self._application: str = module.params["application"]
        self._folder = f"/srv/{self._application}"

    def _run(self, *command: str, limit: int = COMMAND, **options: Any) -> str:
        code, out, err = self._module.run_command(list(command), limit=limit, **options)
        if code != 0:
            raise OSError((err or out).strip().partition("\n")[0] or f"{command[0]} failed")
        return out

    def version(self) -> str | None:
        """The version of Slipway that has set the host up: empty for one without a number, nothing without a record."""
        record = read("/var/lib/slipway-applied/site.json")
        return str(json.loads(record).get("version", "")) if record else None

    def units(self) -> dict[str, str]:
        """The state of each unit of the site that shall run or has failed."""
        listed = json.loads(self._run("systemctl", "list-units", "--all", "--output=json", "--no-pager"))
        # A slot that waits for its turn is loaded only now and then, and no news.
        return {
            unit["unit"]: unit["active"]
            for unit in listed
            if self._is_ours(unit["unit"]) and unit["active"] in (*UP, "failed", "deactivating")
        }

    def starts(self) -> dict[str, dict[str, Any]]:
        """How often systemd has restarted each unit of the site, how it last ended, and since when it is as it is.

        A unit that starts again and again is up for a moment each time. Of a service whose command ends by intention,
        starts after a success are not counted, and it is active between two of them.
        """
        names = sorted(self.units())
        if not names:
            return {}
        wanted = "Id,Type,ActiveState,SubState,Result,NRestarts,StateChangeTimestampMonotonic"
        said = self._run("systemctl", "show", f"--property={wanted}", "--", *names)
        now = time.clock_gettime(time.CLOCK_MONOTONIC)
        services = [service for service in all_services(self._application, self._module) if service.settings["ends"]]
        ending = {service.unit(slot) for service in services for slot in SLOTS}
        found = {}
        for block in said.strip().split("\n\n"):
            unit = dict(line.split("=", 1) for line in block.splitlines() if "=" in line)
            # A job of a timer is activating for as long as it works.
            job = unit.get("Type") == "oneshot" and not is_restart_pending(unit)
            intended = unit["Id"] in ending and unit.get("Result") == "success"
            found[unit["Id"]] = {
                "state": "active" if (job or intended) and unit["ActiveState"] == "activating" else unit["ActiveState"],
                "restarts": 0 if intended else int(unit.get("NRestarts") or 0),
                "result": unit.get("Result", ""),
                "seconds": max(0, int(now - int(unit["StateChangeTimestampMonotonic"] or 0) / 1e6)),
            }
        return found

    def silent(self) -> list[str]:
        """Which services do not answer, or do not do their work, in words; all are asked at once."""
        questions: list[tuple[str, Callable[[], str]]] = []
        for service in all_services(self._application, self._module):
            # What does not run is told of by its unit.
            if service.live and service.is_up(service.live):
                questions.append((service.unit(service.live), lambda service=service: self._ask_service(service)))
        web = self._module.params["web"]
        if web and web["port"]:
            questions.append(("Nginx", lambda: self._ask_web(address="127.0.0.1", port=web["port"], tls=web["tls"])))
        for path in glob.glob("/etc/redis/redis-*.conf"):
            if not path.endswith("-users.conf"):
                instance = os.path.basename(path)[len("redis-") : -len(".conf")]
                questions.append((f"Redis ({instance})", lambda path=path: self._ask_redis(read(path))))
        pooler = read("/etc/pgbouncer/pgbouncer.ini")
        if port := re.search(r"^listen_port\s*=\s*(\d+)", pooler, re.MULTILINE):
            questions.append(("PgBouncer", lambda: self._ask_postgres("PgBouncer", "127.0.0.1", port[1])))
        faults = within(COMMAND + 5, dict(questions))
        return [f"{name}: {fault}" for name, _ in questions if (fault := faults[name])]

    def _ask_service(self, service: Service) -> str:
        """Ask a service for a page, or by its own check; return what is wrong, empty when nothing is."""
        if service.settings["socket"] and self._module.params["web"]:
            return self._ask_web(path=service.settings["socket"])
        try:
            service.check(service.live or "", COMMAND)
        except SlotError as error:
            return " / ".join(str(error).splitlines()[:1] + last_lines(str(error), 1))
        return ""

    def _ask_web(self, **where: Any) -> str:
        web = self._module.params["web"]
        return fault_of(Server(web["host"], web["proto"], ANSWER, **where), web | {"contains": ""})

    @staticmethod
    def _ask_redis(configuration: str) -> str:
        """Ask an instance whether it is there: a refusal, for want of a password, is an answer too."""
        settings = dict(line.split(None, 1) for line in configuration.splitlines() if re.match(r"\w\S* \S", line))
        tls = int(settings.get("tls-port", 0))
        address = settings.get("bind", "127.0.0.1").split()[0].lstrip("-")
        try:
            with socket.create_connection((address, tls or int(settings.get("port", 6379))), ANSWER) as plain:
                context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
                context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
                with context.wrap_socket(plain) if tls else contextlib.nullcontext(plain) as connection:
                    connection.sendall(b"PING\r\n")
                    said = connection.recv(64)
        except TimeoutError:
            return f"no answer within {ANSWER} s"
        except OSError as error:
            return f"no answer ({error.strerror or error})"
        return "" if said[:1] in (b"+", b"-") else "no answer"

    def _ask_postgres(self, name: str, address: str, port: str) -> str:
        """Ask a server of the database or a pooler whether it takes connections."""
        try:
            self._run("pg_isready", "--quiet", f"--host={address}", f"--port={port}", f"--timeout={ANSWER}")
        except OSError:
            return f"{name} takes no connections, or did not answer within {ANSWER} s"
        return ""

    def _is_ours(self, unit: str) -> bool:
        return is_of_site(unit, self._application)

    def failed(self) -> list[str]:
        """The units that have failed, of the whole host."""
        listed = json.loads(self._run("systemctl", "list-units", "--state=failed", "--output=json", "--no-pager"))
        return sorted(unit["unit"] for unit in listed)

    def enabled(self) -> list[str]:
        """The units of the site that start with the host, and do not run."""
        listed = self._run(
            "systemctl", "list-unit-files", "--state=enabled,enabled-runtime", "--no-legend", "--no-pager"
        )
        names = [line.split()[0] for line in listed.splitlines() if line.strip()]
        ours = [name for name in names if self._is_ours(name) and "@." not in name]
        states = self._run("systemctl", "show", "--value", "--property=ActiveState", *ours).split() if ours else []
        return sorted(name for name, state in zip(ours, states, strict=True) if state in ("inactive", "failed"))

    def serves(self) -> dict[str, list[str]]:
        """Which release each service runs."""
        found: dict[str, list[str]] = {}
        for service in all_services(self._application, self._module):
            if service.live and service.is_up(service.live):
                found.setdefault(os.path.basename(service.release(service.live)), []).append(service.name)
        if not found and releases_in_use(self._folder):
            current = os.path.realpath(os.path.join(self._folder, "current"))
            found[os.path.basename(current)] = ["static"]
        return found

    def migrations(self) -> dict[str, Any] | None:
        """How the release in use and the schema of the database differ.

        `pending` migrations are to be applied; `lines` say what differs; with `conflicts` pages fail.
        """
        current = os.path.join(self._folder, "current")
        marker = read_marker(current) if self._module.params["migrations"] else None
        if marker is None:
            return None
        # No command of Django's by that name: all databases that take migrations are looked at.
        question = {"ask": "plan", "command": ["status"], "serving": False, "applies": False}
        manage = marker.get("manage") or ["python", "manage.py"]
        result = AppCommand(self._application, current, [*manage, *shell_words(question)], timeout=COMMAND).run()
        plan = find_answer(result.output)
        if plan is None:
            how = f"no answer within {COMMAND} s" if result.timed_out else " ".join(last_lines(result.output, 1))
            raise OSError(f"the release in use cannot tell: {how}")
        return {
            "pending": len(plan["pending"]),
            "lines": conflict_lines(plan, applies=False),
            "conflicts": len(plan["conflicts"]),
        }

    def database(self) -> dict[str, Any] | None:
        """What PostgreSQL is, its connections, and its replicas or its lag."""
        versions = [int(path.split("/")[3]) for path in glob.glob("/etc/postgresql/*/main/postgresql.conf")]
        if not versions:
            return None
        cluster = Cluster(self._module, max(versions))
        # Before psql, which waits for a server that has stopped in the middle for as long as that takes.
        if self._ask_postgres("PostgreSQL", "/var/run/postgresql", str(cluster.port)):
            raise OSError(f"PostgreSQL takes no connections, or did not answer within {ANSWER} s")
        answer = cluster.answer()
        if answer is None:
            raise OSError("PostgreSQL does not answer")
        replicas = [
            {key: replica[key] for key in ("name", "address", "state")} | {"bytes": replica["lag_bytes"]}
            for replica in answer.get("replicas", [])
        ]
        return {
            **{key: answer[key] for key in ("replica", "connections", "most")},
            "replicas": replicas,
            "seconds": answer.get("lag_seconds", 0),
            "follows": answer.get("receiver", {}).get("status"),
        }

    def queues(self) -> dict[str, int] | None:
        """How many messages wait in each queue of Celery that is not empty: a queue is a list in the broker."""
        redis = self._module.params["redis"]
        if not redis:
            return None
        command = [*redis_cli("broker", redis["address"], redis["port"], redis["user"]), "-n", "1"]
        password = {"REDISCLI_AUTH": redis["password"]}
        cursor, names = "0", []
        while True:
            cursor, *found = self._run(
                *command, "SCAN", cursor, "TYPE", "list", "COUNT", "1000", environ_update=password, limit=ANSWER
            ).split()
            names += found
            if cursor == "0":
                break
        asked = "".join(f'LLEN "{name}"\n' for name in names)
        answers = self._run(*command, data=asked, environ_update=password, limit=ANSWER).split() if names else []
        return {name: int(answer) for name, answer in zip(names, answers, strict=True)}

    def certificate(self) -> int | None:
        """For how many days the certificate is valid."""
        path = f"/etc/{self._application}/tls/live/fullchain.pem"
        if not os.path.exists(path):
            return None
        said = self._run("openssl", "x509", "-noout", "-enddate", "-in", path)
        end = time.mktime(time.strptime(said.strip().partition("=")[2], "%b %d %H:%M:%S %Y %Z")) - time.timezone
        return int((end - time.time()) // 86400)

    def nginx(self) -> dict[str, Any] | None:
        """What operators have said to Nginx."""
        folder = "/etc/nginx/slipway-state"
        if not os.path.isdir(folder):
            return None
        return {
            "drained": re.findall(r"^server (\S+) .*\bdown;$", read(f"{folder}/upstream.conf"), re.MULTILINE),
            "maintenance": 'default "1"' in read(f"{folder}/maintenance.conf"),
            "leaving": os.path.exists("/run/slipway-leaving"),
        }

    def firewall(self) -> bool:
        """Whether the site's firewall drops packets that nobody has asked for."""
        try:
            rules = self._run("nft", "list", "table", "inet", "slipway")
        except OSError:
            return False
        return bool(re.search(r"hook input [^}]*policy drop", rules))

    def firewalls(self) -> list[str]:
        """Firewalls beside the site's own, which may drop what that lets in."""

        def run(command: list[str]) -> str:
            try:
                return self._run(*command)
            except OSError:
                return ""

        return others(run)

    def disk(self) -> dict[str, int]:
        """How full each file system is that holds something of the site, in percent; inodes once they run short."""
        found: dict[int, tuple[str, int]] = {}
        inodes = {}
        for path in ("/", "/var", "/srv", "/var/lib/postgresql", "/var/lib/redis", self._folder):
            if os.path.isdir(path) and (device := os.stat(path).st_dev) not in found:
                status = os.statvfs(path)
                used = status.f_blocks - status.f_bfree
                found[device] = (path, -(-100 * used // max(1, used + status.f_bavail)))
                # A file system of its own kind of inodes, as btrfs, has none to count.
                taken = -(-100 * (status.f_files - status.f_favail) // max(1, status.f_files))
                if taken >= INODES_SHORT:
                    inodes[f"{path} (inodes)"] = taken
        return dict(found.values()) | inodes

    def memory(self) -> dict[str, int]:
        """Memory in MiB: all of it, and what is available."""
        lines = dict(re.findall(r"^(\w+):\s+(\d+) kB", read("/proc/meminfo"), re.MULTILINE))
        return {"all": int(lines["MemTotal"]) // 1024, "available": int(lines["MemAvailable"]) // 1024}

    def load(self) -> list[float]:
        """The load of the last minute, and the number of cores."""
        return [round(os.getloadavg()[0], 2), float(len(os.sched_getaffinity(0)))]

    def updates(self) -> int:
        """How many packages have a newer version, by the lists of packages as they are."""
        said = self._run("apt-get", "--simulate", "dist-upgrade", limit=PART - 5)
        return sum(line.startswith("Inst ") for line in said.splitlines())

    def reboot(self) -> list[str]:
        """Why the host needs to be restarted."""
        reasons = ["a package asks for it"] if os.path.exists("/run/reboot-required") else []
        kernels = [os.path.basename(path).removeprefix("vmlinuz-") for path in glob.glob("/boot/vmlinuz-*")]
        newest = max(kernels, key=lambda name: [int(part) for part in re.findall(r"\d+", name)], default="")
        if newest and newest != os.uname().release:
            reasons.append(f"kernel {newest} is installed, {os.uname().release} runs")
        old = sorted(set(self._outdated()))
        if old:
            reasons.append(f"{', '.join(old[:4])}{' and others' if len(old) > 4 else ''} run with replaced libraries")
        return reasons

    @staticmethod
    def _outdated() -> Iterator[str]:
        """Yield the names of processes that run with a library that is no longer on the disk."""
        replaced = re.compile(r" r-xp .* /(usr/)?(lib|lib64|bin|sbin)/\S+ \(deleted\)$", re.MULTILINE)
        for path in glob.glob("/proc/[0-9]*/maps"):
            if replaced.search(read(path)):
                yield read(f"{os.path.dirname(path)}/comm").strip()

    def uptime(self) -> int:
        """For how many seconds the host has been up."""
        # A container has its machine's own /proc/uptime: when PID 1 began tells of both.
        started = int(read("/proc/1/stat").rpartition(")")[2].split()[19]) / os.sysconf("SC_CLK_TCK")
        return int(time.clock_gettime(time.CLOCK_BOOTTIME) - started)


def within(seconds: float, questions: dict[str, Callable[[], Any]]) -> dict[str, Any]:
    """Ask all questions at once, and return the answers; of one that fails its exception, after `seconds` a fault.

    What is asked in vain goes on in a thread that ends with this process.
    """
    answers: dict[str, Any] = {}

    def ask(name: str, question: Callable[[], Any]) -> None:
        try:
            answers[name] = question()
        except Exception as error:  # what cannot be told of one thing leaves the others
            answers[name] = error

    threads = [threading.Thread(target=ask, args=item, daemon=True) for item in questions.items()]
    for thread in threads:
        thread.start()
    until = time.monotonic() + seconds
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))
    late = OSError(f"no answer within {seconds:g} s")
    return {name: answers.get(name, late) for name in questions}


def refuse(msg: str, **_: Any) -> None:
    """Raise what a helper would end the module with."""
    raise OSError(msg)


PARTS = [name for name in vars(Host) if not name.startswith("_")]


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "application": {"type": "str", "required": True},
            "parts": {"type": "list", "elements": "str", "default": [], "choices": PARTS},
            "redis": {
                "type": "dict",
                "options": {
                    "user": {"type": "str", "required": True},
                    "password": {"type": "str", "required": True, "no_log": True},
                    "address": {"type": "str", "required": True},
                    "port": {"type": "int", "required": True},
                },
            },
            "migrations": {"type": "bool", "default": False},
            "web": {
                "type": "dict",
                "options": {
                    "path": {"type": "str", "required": True},
                    "status": {"type": "int", "default": 200},
                    "host": {"type": "str", "required": True},
                    "proto": {"type": "str", "required": True},
                    "port": {"type": "int", "default": 0},
                    "tls": {"type": "bool", "default": False},
                },
            },
        },
        supports_check_mode=True,
    )
    module.run_command_environ_update = {"LC_ALL": "C.UTF-8"}
    allow_threads(module, timeout=COMMAND)
    # What helpers end the module for is the fault of one part here.
    module.fail_json = refuse
    host = Host(module)
    state: dict[str, Any] = {"application": module.params["application"]}
    faults: list[str] = []
    parts = module.params["parts"] or PARTS
    for part, found in within(PART, {part: getattr(host, part) for part in parts}).items():
        if isinstance(found, Exception):
            faults.append(f"{part}: {found}")
        elif found is not None:
            state[part] = found
    module.exit_json(changed=False, state=state, faults=faults)


if __name__ == "__main__":
    main()
