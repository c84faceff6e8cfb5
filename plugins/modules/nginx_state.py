#!/usr/bin/python
"""Keep what operators have said to Nginx on this host: which servers are drained, whether the site is closed."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import time

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically

DOCUMENTATION = r"""
module: nginx_state
short_description: Keep what operators have said to Nginx on this host
description:
  - Writes the files in C(folder) that the configuration of Nginx includes. They are the state themselves; what is not
    said anew stands, so that a server is drained, and the site closed, until somebody takes that back.
  - C(upstream.conf) has the servers of the application, C(maintenance.conf) whether the site is closed,
    C(release.conf) the active release, which is part of the key of kept pages. C(proxies.geo) and
    C(proxies.realip) are for the networks of a CDN that a timer fetches; until then they are empty.
  - Returns in C(ipv6) whether a program on this host can listen by IPv6.
options:
  folder: {description: Where the files are., type: path, required: true}
  application: {description: The application., type: str, required: true}
  servers: {description: The servers of the application., type: list, elements: str, required: true}
  drain: {description: A server that gets no more requests., type: str, default: ""}
  undrain: {description: A server that gets requests again., type: str, default: ""}
  maintenance: {description: "Whether the site is closed; without it, that stays as it is.", type: bool}
  cached: {description: "Whether pages are kept; without it, their key stays as it is.", type: bool}
  fetched: {description: "Whether the networks of a CDN that were fetched stay.", type: bool, default: true}
  settle: {description: Only wait this many seconds until requests to a drained server have ended., type: int}
author: Slipway contributors
"""

HEADER = "# State of this host, kept by Slipway.\n"


class StateError(Exception):
    """What cannot be done, in words for the operator."""


def read(path: str) -> str:
    """Return the text of a file, nothing when there is none."""
    try:
        with open(path) as file:
            return file.read()
    except FileNotFoundError:
        return ""


def drained(text: str) -> set[str]:
    """Return the servers that are drained according to the text of upstream.conf."""
    return set(re.findall(r"^server (\S+) .*\bdown;$", text, flags=re.MULTILINE))


def upstream(servers: list[str], down: set[str]) -> str:
    """Return the text of upstream.conf."""
    if not servers:
        raise StateError(
            "no server is named, and Nginx would have nowhere to send requests: see nginx_upstream_servers"
        )
    live = [server for server in servers if server not in down]
    if not live:
        raise StateError(f"no server would be left: all of {', '.join(servers)} are drained; undrain one first")
    # The only server is always asked: what is known of it a moment ago is no reason to refuse a request.
    how = "max_fails=3 fail_timeout=5s" if len(live) > 1 else "max_fails=0"
    return HEADER + "".join(f"server {name} {how}{' down' if name in down else ''};\n" for name in servers)


def constant(name: str, value: str) -> str:
    """Return the text of a file that gives a variable of Nginx one value."""
    return f'{HEADER}map "" ${name} {{\n    default "{value}";\n}}\n'


def has_ipv6() -> bool:
    """Tell whether a program can listen on all addresses of IPv6: not where the kernel was told to do without."""
    try:
        with socket.socket(socket.AF_INET6) as listener:
            listener.bind(("::", 0))
    except OSError:
        return False
    return True


def wait_for_old_workers(seconds: int) -> int:
    """Wait until the workers that were told to end have ended, and return how many have not."""
    end = time.monotonic() + seconds
    while True:
        listed = subprocess.run(["ps", "-eo", "args"], capture_output=True, text=True, check=True).stdout
        left = listed.count("nginx: worker process is shutting down")
        if not left or time.monotonic() > end:
            return left
        time.sleep(0.2)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "folder": {"type": "path", "required": True},
            "application": {"type": "str", "required": True},
            "servers": {"type": "list", "elements": "str", "required": True},
            "drain": {"type": "str", "default": ""},
            "undrain": {"type": "str", "default": ""},
            "maintenance": {"type": "bool"},
            "cached": {"type": "bool"},
            "fetched": {"type": "bool", "default": True},
            "settle": {"type": "int"},
        },
        supports_check_mode=True,
    )
    # The login's umask does not decide who can enter a directory of the site.
    os.umask(0o022)
    params = module.params
    if params["settle"] is not None:
        left = 0 if module.check_mode else wait_for_old_workers(params["settle"])
        module.exit_json(changed=False, left=left)

    folder = params["folder"]
    paths = {name: os.path.join(folder, f"{name}.conf") for name in ("upstream", "maintenance", "release")}
    before = {name: read(path) for name, path in paths.items()}
    down = (drained(before["upstream"]) | {params["drain"]}) & set(params["servers"]) - {params["undrain"]}
    closed = params["maintenance"]
    if closed is None:
        closed = 'default "1"' in before["maintenance"]
    release = before["release"] or constant("slipway_release", "none")
    if params["cached"] is not None:
        serving = os.path.basename(os.path.realpath(f"/srv/{params['application']}/current"))
        release = constant("slipway_release", serving if params["cached"] else "none")
    try:
        wanted = {
            "upstream": upstream(params["servers"], down),
            "maintenance": constant("slipway_maintenance", str(int(closed))),
            "release": release,
        }
    except StateError as error:
        module.fail_json(msg=str(error))
    unfetched = [
        path
        for path in (f"{folder}/proxies.geo", f"{folder}/proxies.realip")
        if read(path) != HEADER and not (params["fetched"] and os.path.exists(path))
    ]
    changed = [name for name in wanted if wanted[name] != before[name]]
    if (changed or unfetched) and not module.check_mode:
        os.makedirs(folder, mode=0o755, exist_ok=True)
        for name in changed:
            write_atomically(paths[name], wanted[name].encode())
        for path in unfetched:
            write_atomically(path, HEADER.encode())
    module.exit_json(changed=bool(changed or unfetched), drained=sorted(down), maintenance=closed, ipv6=has_ipv6())


if __name__ == "__main__":
    main()
