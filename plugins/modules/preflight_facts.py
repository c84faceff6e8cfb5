#!/usr/bin/python
"""Tell what a host is, what it has left and who listens on it, as facts, without changing anything.

    slipway.kit.preflight_facts:
      gather_subset: [min, virtual]   # kinds of Ansible's own facts to tell as well: one way to the host, not two
      application: shop               # the name that the site's account, units and folders have or shall have

- what Ansible's own facts say of memory and processors, as `memtotal_mb` and `processor_nproc`; the subset `hardware`
  would look at every disk and device as well;
- `preflight_disk_mb`: MiB that are free on the fullest of the filesystems that the services write to;
- `preflight_ports`: who listens on which TCP port, as {"80": ["nginx (pid 123)"]};
- `preflight_clock`: the seconds since 1970;
- `preflight_user`: the number of the user who asked, 0 for root;
- `preflight_path`: whether root's PATH has the system's programs: su without a login and doas keep the user's, which
  has no /usr/sbin;
- `preflight_taken`: what bears the application's name on the host and is not the site's, each in words; nothing once
  the role base has made the account;
- `preflight_machine`: what two names of one host have in common: its kernel's start, and its first process's namespace;
- `preflight_firewalls`: firewalls beside the site's own that drop what arrives, each in words;
- `preflight_site`: what base has recorded of the site that the host belongs to; without a record, the `application`
  whose account base has made there, if it is another; `error` where the record cannot be read;
- `preflight_login`: the `user` who has logged in, and `has_key`, whether sshd would find a key or an authority for that
  user; empty on a host without sshd, which is not reached by it and needs none;
- `preflight_python`: the version of each Python in the list `pythons`, by path, empty for one that cannot be run.
"""

from __future__ import annotations

import grp
import json
import os
import pwd
import re
import shutil
import subprocess
import time
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.facts.compat import ansible_facts
from ansible.module_utils.facts.hardware.linux import LinuxHardware

from ansible_collections.slipway.kit.plugins.module_utils.firewalls import others

DOCUMENTATION = r"""
module: preflight_facts
short_description: Return what a host is, what resources are free and what listens on it, as facts
description: Changes nothing. The head of the module's file lists the facts.
options:
  gather_subset:
    description: Subsets of the facts of M(ansible.builtin.setup) to return as well.
    type: list
    elements: str
    default: []
  application:
    description: The name that the site's account, units and directories have or shall have.
    type: str
    default: ""
  pythons: {description: Python programs whose version is asked for., type: list, elements: str, default: []}
author: Slipway contributors
"""

FOLDERS = ("/", "/srv", "/var/lib", "/var/lib/postgresql", "/var/lib/redis", "/var/log")
LISTEN = "0A"
# The comment of the account that the role base makes, by which it is known to be the site's.
PURPOSE = "Runs the Django application"
RECORD = Path("/var/lib/slipway-applied/site.json")
UNITS = ("/etc/systemd/system", "/run/systemd/system", "/usr/local/lib/systemd/system", "/usr/lib/systemd/system")
UNIT = r"{}(@|-.*)?\.(automount|mount|path|service|slice|socket|target|timer)"
# What an operator may have prepared: a shared file system for uploads.
PREPARED = {"/srv": {"media"}}


def target(handle: Path) -> str:
    """Return what an open file of a process is; nothing when it is closed meanwhile."""
    try:
        return os.readlink(handle)
    except FileNotFoundError:
        return ""


def listeners() -> dict[str, list[str]]:
    """Return the names and pids of the processes that listen, by port."""
    ports: dict[str, str] = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        try:
            lines = Path(table).read_text(encoding="ascii").splitlines()[1:]
        except OSError:
            continue  # a host without IPv6
        for line in lines:
            cells = line.split()
            if cells[3] == LISTEN:
                ports[f"socket:[{cells[9]}]"] = str(int(cells[1].rpartition(":")[2], 16))
    found: dict[str, set[str]] = {port: set() for port in ports.values()}
    for process in Path("/proc").glob("[0-9]*"):
        try:
            sockets = set(filter(None, map(target, (process / "fd").iterdir())))
            # In brackets while systemd, which holds the sockets until then, is about to make it that program.
            name = (process / "comm").read_text(encoding="utf-8", errors="replace").strip().strip("()")
        except OSError:
            continue  # it has ended meanwhile, or is not ours to look at
        for socket in sockets & ports.keys():
            found[ports[socket]].add(f"{name} (pid {process.name})")
    return {port: sorted(names) for port, names in found.items()}


def free_mb(folder: str) -> int:
    """Return the MiB that are free on the filesystem of a folder, or of the one that it will be made in."""
    while not os.path.isdir(folder):
        folder = os.path.dirname(folder)
    found = os.statvfs(folder)
    return found.f_bavail * found.f_frsize // 2**20


def has_key(settings: str, user: str, home: str) -> bool:
    """Tell whether sshd, by what `sshd -T` says, would find a key of a user or an authority that vouches for one."""
    for line in settings.splitlines():
        name, *values = line.split()
        if name in ("authorizedkeyscommand", "trustedusercakeys") and values != ["none"]:
            return True
        if name == "authorizedkeysfile":
            for value in values:
                path = Path(home, value.replace("%h", home).replace("%u", user))
                try:
                    if re.search(rb"^[^#\s]", path.read_bytes(), re.MULTILINE):
                        return True
                except OSError:
                    continue
    return False


def login_uid(process: str = "self", processes: Path = Path("/proc")) -> int:
    """Return the user id of who has logged in: of the nearest ancestor that is not root's, as su names nobody."""
    while process != "0":
        try:
            status = (processes / process / "status").read_text(encoding="utf-8", errors="replace")
        except OSError:
            break  # it has ended meanwhile
        found = dict(line.partition(":")[::2] for line in status.splitlines())
        if uid := int(found["Uid"].split()[0]):
            return uid
        process = found["PPid"].strip()
    return 0


def login(sshd: str | None) -> dict[str, object]:
    """Return who has logged in, and whether a key would do."""
    user = os.environ.get("SUDO_USER") or os.environ.get("DOAS_USER") or pwd.getpwuid(login_uid()).pw_name
    if not sshd:
        return {}
    question = [sshd, "-T", "-C", f"user={user},host=localhost,addr=127.0.0.1"]
    settings = subprocess.run(question, capture_output=True, text=True, check=False).stdout
    return {"user": user, "has_key": has_key(settings, user, pwd.getpwnam(user).pw_dir)}


def python_version(path: str) -> str:
    """Return the version of a Python, empty if it cannot be run."""
    question = [path, "-I", "-c", "import platform; print(platform.python_version())"]
    try:
        return subprocess.run(question, capture_output=True, text=True, check=True, timeout=30).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def machine() -> str:
    """Return what tells this host from all others, containers of one kernel and clones of one image too."""
    try:
        start = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
        return f"{start} {os.stat('/proc/1/ns/mnt').st_ino}"
    except OSError:
        return ""


def output(command: list[str]) -> str:
    """Return what a command says; nothing where it is not there or fails."""
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""


def account(name: str) -> pwd.struct_passwd | None:
    """Return the account of a name, if there is one."""
    try:
        return pwd.getpwnam(name)
    except KeyError:
        return None


def has_group(name: str) -> bool:
    """Tell whether there is a group of a name."""
    try:
        return bool(grp.getgrnam(name))
    except KeyError:
        return False


def is_ours(found: pwd.struct_passwd) -> bool:
    """Tell whether the role base has made an account."""
    return found.pw_gecos.partition(",")[0] == PURPOSE and found.pw_dir == f"/var/lib/{found.pw_name}"


def own_account(name: str) -> str:
    """Return the application's name where the role base has made its account on this host, or nothing."""
    found = account(name) if name else None
    return name if found and is_ours(found) else ""


def taken(name: str, root: Path = Path("/")) -> list[str]:
    """Return in words what bears the application's name and is not the site's."""
    if not name or own_account(name):
        return []
    found = account(name)
    said = [f"the account {name} (user id {found.pw_uid}, home {found.pw_dir})"] if found else []
    said += [f"the group {name}"] if has_group(name) else []
    for folder in UNITS:
        path = root / folder.lstrip("/")
        names = os.listdir(path) if path.is_dir() else []
        units = sorted(unit for unit in names if re.fullmatch(UNIT.format(re.escape(name)), unit))
        said += [f"the unit {folder}/{unit}" for unit in units[:2]]
        said += [f"{len(units) - 2} more units there"] if len(units) > 2 else []
    for folder in ("/etc", "/srv", "/var/lib", "/run"):
        path = root / folder.lstrip("/") / name
        # An empty one is nobody's.
        if path.is_dir() and set(os.listdir(path)) - PREPARED.get(folder, set()):
            said.append(f"the directory {folder}/{name}")
        elif os.path.lexists(path) and not path.is_dir():
            said.append(f"{folder}/{name}")
    command = f"usr/local/sbin/{name}-manage"
    return said + ([f"/{command}"] if os.path.lexists(root / command) else [])


def site(name: str, record: Path = RECORD) -> dict[str, object]:
    """Return what is recorded of the site, or known by an account that the role base has made for another one."""
    try:
        found = json.loads(record.read_text(encoding="utf-8"))
        return found if isinstance(found, dict) else {"error": f"{record} holds no record of a site"}
    except FileNotFoundError:
        others = [one.pw_name for one in pwd.getpwall() if is_ours(one) and os.path.isdir(f"/etc/{one.pw_name}")]
        return {"application": others[0]} if others and name and name not in others else {}
    except (OSError, ValueError) as error:
        return {"error": f"{record} cannot be read: {error}"}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "gather_subset": {"type": "list", "elements": "str", "default": []},
            "application": {"type": "str", "default": ""},
            "pythons": {"type": "list", "elements": "str", "default": []},
        },
        supports_check_mode=True,
    )
    subset = module.params["gather_subset"]
    hardware = LinuxHardware(module)
    module.exit_json(
        changed=False,
        ansible_facts=(ansible_facts(module, subset) if subset else {})
        | hardware.get_memory_facts()
        | hardware.get_cpu_facts()
        | {
            "preflight_disk_mb": min(map(free_mb, FOLDERS)),
            "preflight_ports": listeners(),
            "preflight_clock": time.time(),
            "preflight_user": os.geteuid(),
            "preflight_path": shutil.which("runuser") is not None,
            "preflight_account": own_account(module.params["application"]),
            "preflight_taken": taken(module.params["application"]),
            "preflight_machine": machine(),
            "preflight_firewalls": others(output),
            "preflight_site": site(module.params["application"]),
            "preflight_login": login(module.get_bin_path("sshd")),
            "preflight_python": {path: python_version(path) for path in module.params["pythons"]},
        },
    )


if __name__ == "__main__":
    main()
