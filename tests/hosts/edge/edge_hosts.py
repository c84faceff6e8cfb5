"""What the tests of the edge share: its two hosts, the host outside, what Nginx wrote down, load."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path

import requests
from conftest import PROJECT, Background, Playbooks, Site
from testinfra import get_host
from testinfra.host import Host

EDGES = {"first": "10.89.17.11", "third": "10.89.17.13"}
APPS = {"first": "10.89.17.11", "second": "10.89.17.12"}
CDN = Site("http://10.89.17.14")


def connect(playbook: Playbooks, name: str) -> Host:
    """Return a host of the scenario."""
    return get_host(f"ansible://{name}?ansible_inventory={playbook.inventory}")


def log_of(host: Host, word: str) -> list[dict]:
    """Return the entries of the access log with a word in them."""
    lines = host.run("grep -F -- %s /var/log/nginx/access.log", word).stdout.splitlines()
    return [json.loads(line) for line in lines]


def visit(host: Host, url: str, *options: str) -> tuple[int, str]:
    """Ask for a page from a host; return status and head of the answer."""
    words = " ".join("%s" for _ in options)
    said = host.check_output(f"curl -sS -o /dev/null -D - --max-time 15 {words} %s", *options, url)
    return int(said.split()[1]), said


def container(name: str, *command: str) -> None:
    """Have podman do something with a host."""
    settings = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}
    subprocess.run(
        ["podman", *command, f"slipway-edge-{name}"], env=os.environ | settings, check=True, capture_output=True
    )


def source(folder: Path, name: str, change: Callable[[Path], None]) -> list[str]:
    """Return the words that have a deploy take a copy of the application that `change` has changed."""
    copy = folder / name
    shutil.copytree(PROJECT / "app", copy, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
    change(copy)
    return ["--extra-vars", f"django_app_source={copy}"]


class Load(Background):
    """Clients that ask the edges for pages, half of them on connections that they keep."""

    def __init__(self, *urls: str, count: int = 8) -> None:
        """Take the pages that are asked for in turn."""
        self.answers: list[tuple[float, str]] = []
        self._asking: dict[int, float] = {}
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(n, urls[n % len(urls)], n // len(urls) % 2 == 0), daemon=True)
            for n in range(count)
        ]

    def _ask(self, number: int, url: str, keep_alive: bool) -> None:
        with requests.Session() as session:
            headers = {} if keep_alive else {"Connection": "close"}
            while not self._stop.is_set():
                begun = self._asking[number] = time.monotonic()
                try:
                    answer = str(session.get(url, timeout=60, headers=headers).status_code)
                except requests.RequestException as error:
                    answer = repr(error)
                del self._asking[number]
                self.answers.append((begun, answer))
                self._stop.wait(0.05)

    def failed(self, since: float = 0) -> list[str]:
        """Return what went wrong with requests that began after a time."""
        return [answer for begun, answer in self.answers if begun >= since and answer != "200"]

    def __exit__(self, *_: object) -> None:
        """Let them finish; who has no answer by then gets none."""
        self._stop.set()
        end = time.monotonic() + 15
        for thread in self._threads:
            thread.join(max(0.0, end - time.monotonic()))
        self.answers += [(begun, "no answer") for begun in self._asking.values()]
