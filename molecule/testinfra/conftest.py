"""What the tests of deployed hosts share: the site over HTTP, its secrets, the control node."""

from __future__ import annotations

import json
import os
import re
import secrets
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import pytest
import requests
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import get_file_vault_secret
from testinfra import get_hosts
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner

PROJECT = Path(__file__).resolve().parents[2]
APP = "slipway"
PODMAN = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Run what kills or restarts something after all that only looks."""
    items.sort(key=lambda item: item.get_closest_marker("disruptive") is not None)


def wait_until(condition: Callable[[], object], seconds: float = 30, what: str = "") -> float:
    """Wait until `condition` holds and return how long it took, in seconds; fail when it does not in time."""
    start = time.monotonic()
    while not condition():
        if time.monotonic() - start > seconds:
            pytest.fail(f"not within {seconds} s: {what or condition}")
        time.sleep(0.2)
    return time.monotonic() - start


@dataclass
class Site:
    """The site of one host, as a visitor sees it."""

    url: str

    def get(self, path: str, **options: object) -> requests.Response:
        """Ask for a page, on a connection of its own."""
        return requests.get(self.url + path, timeout=15, **options)

    def answers(self) -> bool:
        """Tell whether the site works as a whole: a page comes, and all services are there."""
        try:
            return self.get("/").status_code == 200 and self.get("/readyz").status_code == 200
        except requests.RequestException:
            return False

    def post_form(self, path: str, fields: dict[str, str]) -> requests.Response:
        """Fill in the form at `path` and send it, as a browser does."""
        with requests.Session() as browser:
            page = browser.get(self.url + path, timeout=15)
            token = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page.text)
            assert token, f"{path} has no form"
            form = {"csrfmiddlewaretoken": token[1], **fields}
            return browser.post(self.url + path, data=form, timeout=30, headers={"Referer": self.url + path})

    def register(self) -> str:
        """Register a user whom nobody else has and return the email address."""
        name = f"reader{secrets.token_hex(6)}"
        password = secrets.token_urlsafe(16)
        fields = {"username": name, "email": f"{name}@example.com", "password1": password, "password2": password}
        answer = self.post_form("/accounts/register/", fields)
        assert answer.status_code == 200, answer.text[:500]
        assert answer.history, f"the form came back: {answer.text[:3000]}"
        return fields["email"]


@pytest.fixture(scope="module")
def inventory(host: Host) -> dict[str, str]:
    """Return what the inventory says of the host; templates are not resolved, secrets are plain."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def site(inventory: dict[str, str]) -> Site:
    """Return the site of the host."""
    return Site(f"http://{inventory['ansible_host']}")


@pytest.fixture(scope="module")
def manage(host: Host) -> Callable[..., str]:
    """Return a function that runs a management command on the host and returns what it prints."""

    def run(*arguments: str) -> str:
        return host.check_output(" ".join([f"{APP}-manage", *("%s" for _ in arguments)]), *arguments)

    return run


@pytest.fixture(scope="module")
def articles(host: Host) -> None:
    """Fill the site as the demonstration does."""
    said = host.check_output("%s-manage seed_demo --admin admin", APP)
    assert re.search(r"^seed_demo: (created|nothing to do)", said, flags=re.MULTILINE)


@dataclass
class Playbooks:
    """The project's playbooks, run from this machine against the inventory of the scenario."""

    inventory: str

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a playbook."""
        command = ["ansible-playbook", "-i", self.inventory, str(PROJECT / "playbooks" / name), *arguments]
        # Molecule, where it takes its output for a terminal, asks for colours: no test would find its words again.
        settings = {"ANSIBLE_CONFIG": str(PROJECT / "ansible.cfg"), "ANSIBLE_FORCE_COLOR": "0", "ANSIBLE_NOCOLOR": "1"}
        return subprocess.Popen(
            command, cwd=PROJECT, env=os.environ | settings | environment,
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
        )  # fmt: skip

    def __call__(self, name: str, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """Run a playbook to its end."""
        process = self.start(name, *arguments, **environment)
        output, _ = process.communicate(timeout=600)
        return subprocess.CompletedProcess(process.args, process.returncode, output)


@pytest.fixture(scope="session")
def playbook(request: pytest.FixtureRequest) -> Playbooks:
    """Return what runs playbooks against the scenario's inventory."""
    return Playbooks(request.config.getoption("ansible_inventory"))


def hosts_of(playbook: Playbooks, group: str) -> list[Host]:
    """Return the hosts of a group, in the order of the inventory."""
    return get_hosts([f"ansible://{group}?ansible_inventory={playbook.inventory}"])


def podman(host: Host, *words: str) -> None:
    """Have podman do something with a host."""
    variables = host.ansible.get_variables()
    name = f"{variables['test_network_name']}-{variables['inventory_hostname']}"
    subprocess.run(["podman", *words, name], env=os.environ | PODMAN, check=True, capture_output=True)


def sites_of(hosts: list[Host]) -> list[Site]:
    """Return the site as each of some hosts with Nginx serves it."""
    return [Site(f"http://{host.ansible.get_variables()['ansible_host']}") for host in hosts]


def read_vault(playbook: Playbooks) -> dict[str, str]:
    """Return what the inventory's vault file holds now; testinfra has read the inventory once, when it began."""
    path, loader = open_vault(playbook)
    return {name: str(value) for name, value in loader.load_from_file(str(path), cache="none").items()}


def add_to_vault(playbook: Playbooks, secrets: dict[str, str]) -> None:
    """Write further secrets into the inventory's vault file."""
    path, loader = open_vault(playbook)
    lines = "".join(f"{name}: '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in secrets.items())
    path.write_bytes(loader._vault.encrypt(loader._vault.decrypt(path.read_bytes()).decode() + lines))


def open_vault(playbook: Playbooks) -> tuple[Path, DataLoader]:
    """Return the inventory's vault file, and a loader that can read it."""
    loader = DataLoader()
    password = get_file_vault_secret(os.environ["ANSIBLE_VAULT_PASSWORD_FILE"], loader=loader)
    password.load()
    loader.set_vault_secrets([("default", password)])
    return Path(playbook.inventory) / "group_vars/all/vault.yml", loader


def forget_inventory(playbook: Playbooks) -> None:
    """Have tests that follow read the inventory anew: testinfra does once, and a secret has changed since."""
    AnsibleRunner.get_runner(playbook.inventory).__dict__.pop("inventory", None)


class Background:
    """Threads that do something again and again while something else is done, until they are told to stop."""

    _stop: threading.Event
    _threads: list[threading.Thread]

    def __enter__(self) -> Self:
        """Let them begin."""
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Let them finish."""
        self._stop.set()
        for thread in self._threads:
            thread.join()


class Visitors(Background):
    """Clients that ask for pages and send forms, again and again, while something else is done.

    Half of them keep their connections. Every eighth request is a POST of the registration form with nothing in it,
    which comes back with 200.
    """

    PATHS = ("/posts/", "/", "/shop/", "/posts/", "/shop/hot/", "/posts/", "/")
    FORM = "/accounts/register/"

    def __init__(self, *sites: Site, count: int = 4) -> None:
        """Take the sites that are asked in turn, and the number of clients."""
        self.answers: list[str] = []
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._ask, args=(sites[n // 2 % len(sites)].url, n % 2 == 0)) for n in range(count)
        ]

    def _ask(self, url: str, keep_alive: bool) -> None:
        with requests.Session() as session:
            found = re.search(
                r'name="csrfmiddlewaretoken" value="([^"]+)"', session.get(url + self.FORM, timeout=15).text
            )
            assert found
            form = {"csrfmiddlewaretoken": found[1]}
            turn = 0
            while not self._stop.is_set():
                turn += 1
                headers = {} if keep_alive else {"Connection": "close"}
                try:
                    if turn % 8:
                        path = self.PATHS[turn % len(self.PATHS)]
                        answer = session.get(url + path, timeout=15, headers=headers)
                    else:
                        answer = session.post(url + self.FORM, form, timeout=15, headers=headers)
                    self.answers.append(str(answer.status_code))
                except requests.RequestException as error:
                    self.answers.append(repr(error))
                self._stop.wait(0.2)


def recap(output: str) -> dict[str, dict[str, int]]:
    """Return the recap of a playbook's output: host, and its counts by name."""
    lines = re.findall(r"^(\S+)\s+: (ok=\d+ .*)$", output, flags=re.MULTILINE)
    assert lines, output[-4000:]
    return {host: {k: int(v) for k, v in re.findall(r"(\w+)=(\d+)", counts)} for host, counts in lines}


def journal(host: Host, unit: str, lines: int = 30) -> str:
    """Return the last lines that a unit wrote, for the message of a failing test."""
    return host.run("journalctl -u %s -n %s --no-pager -o cat", unit, str(lines)).stdout


def main_pid(host: Host, unit: str) -> int:
    """Return the pid of a unit's main process, 0 when it has none."""
    return int(host.check_output("systemctl show -P MainPID %s", unit))


def live_unit(host: Host, service: str) -> str:
    """Return the unit of the slot of `service` (web, celery-default, ...) that works now."""
    slot = host.check_output("readlink /srv/%s/slots/%s/live", APP, service)
    return f"{APP}-{service}@{slot}.service"


@pytest.fixture
def worker_stopped(host: Host) -> Iterator[None]:
    """Keep the host's Celery worker stopped during the test."""
    host.check_output("systemctl stop %s-celery-default", APP)
    yield
    host.check_output("systemctl start %s-celery-default", APP)


def redis_command(host: Host, inventory: dict[str, str], instance: str, *command: str, user: str = "admin") -> str:
    """Run a Redis command as one of the users; return what Redis says, errors too."""
    port = {"broker": 6379, "cache": 6380}[instance]
    password = {
        "admin": inventory["vault_redis_admin_password"],
        "celery": inventory["vault_redis_broker_password"],
        "django": inventory["vault_redis_cache_password"],
    }[user]
    return redis_as(host, port, user, password, *command)


def redis_as(host: Host, port: int, user: str, password: str, *command: str) -> str:
    """Run a Redis command as `user` with `password`; return what Redis says, errors too."""
    words = " ".join("%s" for _ in command)
    result = host.run(
        f"REDISCLI_AUTH=%s redis-cli -p %s --user %s --no-auth-warning {words} 2>&1",
        password,
        str(port),
        user,
        *command,
    )
    return result.stdout.strip()


def mail_to(host: Host, address: str) -> int:
    """Return how many mails to `address` the worker has delivered."""
    found = host.run("grep -rlF -- %s /var/lib/%s/mail", f"To: {address}", APP).stdout.split()
    return sum(int(host.check_output("grep -cF -- %s %s", f"To: {address}", path)) for path in found)


def to_json(text: str) -> object:
    """Return the last line of `text` as JSON."""
    return json.loads(text.strip().splitlines()[-1])
