"""Who and what this run of Ansible is, and whether another has ended."""

from __future__ import annotations

import getpass
import os
import socket


def started_at(pid: int) -> str:
    """Return when a process here began, in clock ticks since the boot; empty when there is none (proc(5))."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            # The name in parentheses may hold blanks; the 22nd field is the 20th after it.
            return file.read().rpartition(")")[2].split()[19]
    except OSError:
        return ""


def machine() -> str:
    """Return what tells this machine since its boot, and its namespace of processes, from all others."""
    try:
        with open("/proc/sys/kernel/random/boot_id") as file:
            return f"{file.read().strip()} {os.readlink('/proc/self/ns/pid')}"
    except OSError:
        return socket.gethostname()


def this_run() -> dict[str, str]:
    """Return who and what this run of Ansible is, the same in all its processes: an action's parent is the run."""
    pid = os.getppid()
    return {
        "by": f"{getpass.getuser()}@{socket.gethostname()}",
        "machine": machine(),
        "pid": str(pid),
        "started": started_at(pid),
    }


def is_over(run: dict[str, str]) -> bool:
    """Tell whether a run has ended; of another machine's nothing is known, and it counts as going on."""
    return run["machine"] == machine() and run["pid"].isdecimal() and started_at(int(run["pid"])) != run["started"]
