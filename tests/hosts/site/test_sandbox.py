"""The sandboxes: what each forbids is tried, in a unit that has all that the real one's files and drop-ins say."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator

import pytest
from conftest import APP, main_pid
from testinfra.host import Host

testinfra_hosts = ["ansible://all"]

# Tries things, and tells what came of each: "allowed", or the name of the error. What is allowed leaves nothing behind.
PROBE = r"""
import ctypes, errno, glob, json, mmap, os, socket, sys, tempfile

libc = ctypes.CDLL(None, use_errno=True)

def call(function, *arguments):
    if function(*arguments) == -1:
        raise OSError(ctypes.get_errno(), "")

def apart(attempt):
    "In a process of its own, which it may change."
    child = os.fork()
    if child == 0:
        try:
            attempt()
        except OSError as error:
            os._exit(error.errno)
        os._exit(0)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "")

def write(folder):
    path = os.path.join(folder, ".sandbox-try")
    open(path, "w").close()
    os.unlink(path)

def make_setuid():
    with tempfile.NamedTemporaryFile() as file:
        os.chmod(file.name, 0o4755)

def load_module():
    try:
        call(libc.init_module, b"", ctypes.c_ulong(0), b"")
    except OSError as error:
        # What is said to those who may: this is no module, or the kernel knows none.
        if error.errno not in (errno.ENOEXEC, errno.ENOSYS):
            raise

def see(paths):
    if not paths:
        raise OSError(errno.ENOENT, "")

def read(path):
    with open(path, "rb") as file:
        file.read(1)

ATTEMPTS = {
    "write to /etc": lambda: write("/etc"),
    "write to /usr": lambda: write("/usr/local/bin"),
    "write to /srv": lambda: write("/srv"),
    "write to /var/lib": lambda: write("/var/lib"),
    "look into homes": lambda: see(os.listdir("/home")),
    "change the kernel's settings": lambda: os.close(os.open("/proc/sys/kernel/core_pattern", os.O_WRONLY)),
    "see a device": lambda: os.stat("/dev/kmsg"),
    "see processes of others": lambda: see([p for p in glob.glob("/proc/[0-9]*") if os.stat(p).st_uid != os.getuid()]),
    "read the environment of init": lambda: read("/proc/1/environ"),
    "trace a process": lambda: apart(lambda: call(libc.ptrace, 0, 0, 0, 0)),
    "load a module": load_module,
    "make a user namespace": lambda: apart(lambda: call(libc.unshare, 0x10000000)),
    "make a mount namespace": lambda: apart(lambda: call(libc.unshare, 0x20000)),
    "open a packet socket": lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW).close(),
    "open a raw socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "open a netlink socket": lambda: socket.socket(socket.AF_NETLINK, socket.SOCK_RAW).close(),
    "become another user": lambda: apart(lambda: os.setuid(1 if os.getuid() == 0 else 0)),
    # As servers do that drop rights which they do not have: gunicorn up to 20.1 in each worker.
    "stay the user that it is": lambda: apart(lambda: (os.setgid(os.getgid()), os.setuid(os.getuid()))),
    "make a setuid file": make_setuid,
    "rename the host": lambda: socket.sethostname(os.uname().nodename),
    "write to memory and run it": lambda: mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC),
    "change the personality": lambda: apart(lambda: call(libc.personality, 0x0008)),
    **{f"write to {path}": lambda path=path: write(path) for path in sys.argv[1:]},
}
results = {}
for name, attempt in ATTEMPTS.items():
    try:
        attempt()
        results[name] = "allowed"
    except OSError as error:
        results[name] = errno.errorcode.get(error.errno, str(error))
print(json.dumps(results))
"""
# By the error one sees that it is the sandbox that forbids, and not that the user is nobody special.
FORBIDDEN = {
    "write to /etc": ["EROFS"],
    "write to /usr": ["EROFS"],
    "write to /srv": ["EROFS"],
    "write to /var/lib": ["EROFS"],
    "look into homes": ["ENOENT", "EACCES"],
    "change the kernel's settings": ["EROFS", "EACCES", "ENOENT"],
    "see a device": ["ENOENT"],
    "see processes of others": ["ENOENT"],
    "read the environment of init": ["ENOENT", "EACCES"],
    "trace a process": ["EPERM"],
    "load a module": ["EPERM"],
    "make a user namespace": ["EPERM"],
    "make a mount namespace": ["EPERM"],
    "open a packet socket": ["EAFNOSUPPORT"],
    "open a raw socket": ["EPERM", "EAFNOSUPPORT"],
    "open a netlink socket": ["EAFNOSUPPORT"],
    # In a view of its own user and root alone there is no other to become.
    "become another user": ["EPERM", "EINVAL"],
    "make a setuid file": ["EPERM"],
    "rename the host": ["EPERM"],
    "write to memory and run it": ["EPERM", "EACCES"],
    "change the personality": ["EPERM"],
}
# Root's group sees all processes, without a hand on them.
ROOT_SEES = "see processes of others"
# What all of the application's services need.
STAY = "stay the user that it is"
# What a service needs of that, and why.
NEEDED = {
    # Its first process is root, and makes workers that are not.
    "nginx": {"become another user", ROOT_SEES},
    # Queries are compiled.
    "postgresql": {"write to memory and run it"},
}
# The most that systemd-analyze may say. With which addresses a service may speak (IPAddressDeny=) is not among what is
# done: a kernel with cgroup v1 does not hold units to it, nor to MemoryMax=, so that neither can be tried everywhere.
LIMITS = {"app": 1.5, "redis": 1.5, "nginx": 3.0, "postgresql": 4.0}
# CAP_CHOWN, CAP_DAC_OVERRIDE, CAP_KILL, CAP_SETGID, CAP_SETUID, CAP_NET_BIND_SERVICE
CAPABILITIES = {"nginx": 1 << 0 | 1 << 1 | 1 << 5 | 1 << 6 | 1 << 7 | 1 << 10}
UNIT = "sandbox-try.service"


def kind_of(unit: str) -> str:
    """Return of which kind a unit is: a service that comes with a package, or the application."""
    return next((kind for kind in ("redis", "nginx", "postgresql") if unit.startswith(kind)), "app")


@pytest.fixture(scope="module")
def running(host: Host) -> list[str]:
    """Return the services of ours that run on this host: slots and instances."""
    listed = host.check_output(
        "systemctl list-units --plain --no-legend --type=service --state=running "
        "'%s-*' 'redis-server@*' nginx.service 'postgresql@*'",
        APP,
    )
    units = [line.split()[0] for line in listed.splitlines()]
    assert units, "no service of ours runs here, so nothing is tested"
    return units


@pytest.fixture(scope="module")
def started(host: Host) -> list[str]:
    """Return the services of ours that do something and end: what timers start, and the names for slots."""
    # It fails where there is none, as on a host of the database alone.
    listed = host.run("systemctl list-unit-files --no-legend '%s-*.service' nginx-trusted-proxies.service", APP).stdout
    return [unit for unit in (line.split()[0] for line in listed.splitlines()) if "@" not in unit]


def write(host: Host, path: str, text: str) -> None:
    """Write a file on the host."""
    encoded = base64.b64encode(text.encode()).decode()
    host.check_output("mkdir -p $(dirname %s) && echo %s | base64 -d >%s", path, encoded, path)


@pytest.fixture(scope="module")
def probe(host: Host) -> Iterator[Callable[..., dict[str, str]]]:
    """Return a function that runs PROBE as a unit does its own command, and returns what came of it."""
    # What is run is another, and nothing of the real one's is taken from it when this one ends.
    other = r"(Sockets|Exec(Start|Stop|Reload|StartPre|StartPost|Condition)|PIDFile|Restart\w*|Type|NotifyAccess)"

    def run(unit: str | None, *paths: str) -> dict[str, str]:
        said = host.check_output("systemctl cat %s", unit) if unit else ""
        sections = re.split(r"^(?=\[\w+\]$)", said, flags=re.MULTILINE)
        text = "".join(section for section in sections if section.startswith("[Service]"))
        text = re.sub(rf"^{other}=(.*\\\n)*.*\n?", "", text, flags=re.MULTILINE)
        text = text.replace("%i", unit.partition("@")[2].removesuffix(".service") if unit else "")
        # Redis may run nothing but itself. That is its package's doing, and the rest is tried all the same.
        own = "Type=oneshot\nRemainAfterExit=no\nRuntimeDirectoryPreserve=yes\nNoExecPaths=\nExecPaths=\n"
        own += "StandardOutput=truncate:/run/sandbox-try.json\n"
        own += f"ExecStart=/usr/bin/python3 /run/sandbox-try.py {' '.join(paths)}\n"
        write(host, f"/run/systemd/system/{UNIT}", f"{text}\n[Service]\n{own}")
        started = host.run("systemctl daemon-reload && systemctl restart %s", UNIT)
        assert started.succeeded, host.run("journalctl -n 20 -o cat -u %s", UNIT).stdout
        return json.loads(host.check_output("cat /run/sandbox-try.json"))

    write(host, "/run/sandbox-try.py", PROBE)
    yield run
    host.check_output("rm -f /run/systemd/system/%s /run/sandbox-try.* && systemctl daemon-reload", UNIT)


def test_without_a_sandbox_all_of_it_is_allowed(probe: Callable[..., dict[str, str]]) -> None:
    """What is tried can succeed on this host."""
    assert probe(None) == dict.fromkeys([*FORBIDDEN, STAY], "allowed")


def test_what_is_forbidden_is_refused(
    running: list[str], started: list[str], probe: Callable[..., dict[str, str]]
) -> None:
    faults = []
    for unit in running + started:
        needed = NEEDED.get(kind_of(unit), {ROOT_SEES} if unit in started else set())
        for attempt, came in probe(unit).items():
            if attempt in FORBIDDEN and attempt not in needed and came not in FORBIDDEN[attempt]:
                faults.append(f"{unit} may {attempt}: {came}")
    assert not faults


def test_what_is_needed_is_allowed(host: Host, running: list[str], probe: Callable[..., dict[str, str]]) -> None:
    """Each writes to its own folders, and to those of no other."""
    for unit in running:
        folders = {
            "app": [f"/var/lib/{APP}", f"/srv/{APP}/media", "/tmp", "/dev/shm"],
            "nginx": ["/var/log/nginx", "/var/lib/nginx/body", "/run"],
            "postgresql": ["/var/lib/postgresql", "/var/log/postgresql", "/run/postgresql"],
            "redis": ["/var/lib/redis/" + unit.partition("@")[2].removesuffix(".service")],
        }[kind_of(unit)]
        results = probe(unit, *folders)
        assert {folder: results[f"write to {folder}"] for folder in folders} == dict.fromkeys(folders, "allowed"), unit
        assert {results[attempt] for attempt in NEEDED.get(kind_of(unit), [])} <= {"allowed"}, unit
        assert kind_of(unit) != "app" or results[STAY] == "allowed", unit
        if kind_of(unit) == "redis":
            others = [path for path in host.check_output("echo /var/lib/redis/*/").split() if path != f"{folders[0]}/"]
            results = probe(unit, "/etc/redis", *others)
            assert {results[f"write to {path}"] for path in ["/etc/redis", *others]} == {"EROFS"}, unit


def test_what_runs_is_in_it(host: Host, running: list[str]) -> None:
    """A sandbox is given to a process when it starts, and to none that runs already."""
    for unit in running:
        pid = str(main_pid(host, unit))
        status = dict(
            line.split(":\t") for line in host.check_output("cat /proc/%s/status", pid).splitlines() if ":\t" in line
        )
        assert (status["NoNewPrivs"], status["Seccomp"]) == ("1", "2"), unit
        assert int(status["CapBnd"], 16) == CAPABILITIES.get(kind_of(unit), 0), unit
        root = re.search(
            r"^\S+ \S+ \S+ \S+ / (\S+)", host.check_output("cat /proc/%s/mountinfo", pid), flags=re.MULTILINE
        )
        assert root and "ro" in root[1].split(","), f"{unit} can write to all of the disk"


def test_exposure_is_low(host: Host, running: list[str], started: list[str]) -> None:
    faults = {}
    for unit in running + started:
        said = host.run("systemd-analyze security --no-pager %s", unit).stdout
        level = re.search(r"Overall exposure level for \S+: ([\d.]+)", said)
        assert level, said
        # Those that end have root's rights to say something to systemd or to Nginx.
        limit = LIMITS[kind_of(unit)] if unit in running or kind_of(unit) != "app" else 2
        name = unit.removeprefix(f"{APP}-").removesuffix(".service")
        if name == "recover" or host.file(f"/srv/{APP}/slots/{name}").exists:
            limit = 1  # no more than to tell systemd which unit to start, by a socket
        print(f"{unit}: {level[1]}")
        if float(level[1]) > limit:
            faults[unit] = float(level[1])
    assert not faults
