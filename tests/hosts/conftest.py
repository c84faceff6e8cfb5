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
from typing import Any, Self

import pytest
import requests
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import get_file_vault_secret
from ansible.plugins.loader import init_plugin_loader
from testinfra import get_host, get_hosts
from testinfra.host import Host
from testinfra.utils.ansible_runner import AnsibleRunner, itergroup

PROJECT = Path(__file__).resolve().parents[2]
# So that tests can import the repository as the collection slipway.kit.
init_plugin_loader([str(PROJECT / "collections")])
APP = "slipway"
GROUPS = ("database", "redis", "app", "worker", "edge")
# Something that is not ours, on a port of a host.
FOREIGN_PORT = 8099
START_FOREIGN = f"systemd-run --quiet --unit foreign python3 -m http.server --directory /mnt {FOREIGN_PORT}"
STOP_FOREIGN = "systemctl stop foreign"
PODMAN = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}


@dataclass(frozen=True)
class Servers:
    """The hosts of one site, by what they do; on a site of one server it is one and the same."""

    inventory: str
    names: dict[str, list[str]]
    """By group, in the order of the inventory."""

    @classmethod
    def around(cls, inventory: str, host: str) -> Self:
        """Return the hosts of the site that a host belongs to, as an inventory on disk has them."""
        known = AnsibleRunner.get_runner(inventory).inventory
        of_the_site = set(itergroup(known, known["_meta"]["hostvars"][host]["topology_site"]))
        return cls(
            inventory, {group: [name for name in itergroup(known, group) if name in of_the_site] for group in GROUPS}
        )

    @property
    def all(self) -> list[str]:
        """Return the names of all hosts of the site, each once."""
        return list(dict.fromkeys(name for group in GROUPS for name in self.names[group]))

    def host(self, name: str) -> Host:
        """Return a host."""
        return get_host(f"ansible://{name}?ansible_inventory={self.inventory}")

    def of(self, group: str) -> list[Host]:
        """Return the hosts of a group."""
        return [self.host(name) for name in self.names[group]]

    def first(self, group: str) -> Host:
        """Return the host that does what is done once: it builds, is the primary, has beat."""
        return self.host(self.names[group][0])


def sites(inventory: str) -> list[Servers]:
    """Return the sites of an inventory, in its order."""
    known = AnsibleRunner.get_runner(inventory).inventory
    found: list[Servers] = []
    for name in dict.fromkeys(name for group in GROUPS for name in itergroup(known, group)):
        servers = Servers.around(inventory, name)
        if servers not in found:
            found.append(servers)
    return found


def meant_for(item: pytest.Item, inventory: str) -> set[str]:
    """Return the hosts of an inventory that a test is meant for: its markers `runs_on` say."""
    everywhere = sites(inventory)
    found = {name for servers in everywhere for name in servers.all}
    for marker in item.iter_markers("runs_on"):
        group, first, site = marker.args[0], marker.kwargs.get("first", False), marker.kwargs.get("site")
        of_sites = everywhere if site is None else [everywhere[site]]
        found &= {name for servers in of_sites for name in servers.names[group][: 1 if first else None]}
    return found


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each worker the tests of a site, one after the other: sites know nothing of each other."""
    # Here, as the hook is called only where the package is.
    from xdist.scheduler import LoadScopeScheduling

    inventory = config.getoption("ansible_inventory")
    first = {f"ansible://{name}": servers.all[0] for servers in sites(inventory) for name in servers.all}

    class BySite(LoadScopeScheduling):
        """Tests that are about no host run in one worker, too."""

        def _split_scope(self, nodeid: str) -> str:
            return next((first[name] for name in first if re.search(rf"{re.escape(name)}[-\]]", nodeid)), "")

    return BySite(config, log)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave each test to the hosts it is meant for; run what kills or restarts something after all that only looks."""
    kept, others, lost = [], [], {}
    for item in items:
        host = item.callspec.params.get("_testinfra_host") if hasattr(item, "callspec") else None
        if not host or not item.get_closest_marker("runs_on"):
            kept.append(item)
            continue
        hosts = meant_for(item, config.getoption("ansible_inventory"))
        case = item.nodeid.replace(host.backend.get_pytest_id(), "")
        if host.backend.host in hosts:
            kept.append(item)
            lost[case] = False
        else:
            others.append(item)
            lost.setdefault(case, bool(hosts))
    # A test that misses the hosts it is meant for is a mistake and not a reason to pass.
    if any(lost.values()) and not config.getoption("hosts"):
        raise pytest.UsageError(
            "\n".join(["not on the hosts they are meant for:", *(case for case in lost if lost[case])])
        )
    config.hook.pytest_deselected(items=others)
    items[:] = sorted(kept, key=lambda item: item.get_closest_marker("disruptive") is not None)


# Seconds after which a test gives up: much longer than anything takes, so that a busy machine fails no test.
PATIENCE = 180


def wait_until(condition: Callable[[], object], what: str = "") -> None:
    """Wait until `condition` holds; fail when it does not within PATIENCE."""
    end = time.monotonic() + PATIENCE
    while not condition():
        if time.monotonic() > end:
            pytest.fail(f"not within {PATIENCE} s: {what or condition}")
        time.sleep(0.2)


@dataclass
class Site:
    """A site as a visitor sees it."""

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
def inventory(host: Host) -> dict[str, Any]:
    """Return what the inventory says of the host; templates are not resolved, secrets are plain."""
    return host.ansible.get_variables()


@pytest.fixture(scope="module")
def servers(host: Host, request: pytest.FixtureRequest) -> Servers:
    """Return the hosts of the site that the host belongs to."""
    return Servers.around(request.config.getoption("ansible_inventory"), host.backend.host)


def nearest(host: Host, servers: Servers, group: str) -> Host:
    """Return the host itself where it is in a group, else the first of its site that is."""
    return host if host.backend.host in servers.names[group] else servers.first(group)


@pytest.fixture(scope="module")
def database_host(servers: Servers) -> Host:
    """Return the host whose PostgreSQL the application writes to."""
    return servers.first("database")


@pytest.fixture(scope="module")
def redis_host(servers: Servers) -> Host:
    """Return the host with the broker and the cache."""
    return servers.first("redis")


@pytest.fixture(scope="module")
def app_host(host: Host, servers: Servers) -> Host:
    """Return a host with gunicorn: the host itself where it has it."""
    return nearest(host, servers, "app")


@pytest.fixture(scope="module")
def worker_host(host: Host, servers: Servers) -> Host:
    """Return a host with Celery: the host itself where it has it."""
    return nearest(host, servers, "worker")


@pytest.fixture(scope="module")
def edge_host(host: Host, servers: Servers) -> Host:
    """Return a host with Nginx: the host itself where it has it."""
    return nearest(host, servers, "edge")


@pytest.fixture(scope="module")
def site(edge_host: Host) -> Site:
    """Return the site of the host: by its own Nginx where it has one."""
    return Site(f"http://{edge_host.ansible.get_variables()['ansible_host']}")


@pytest.fixture(scope="module")
def manage(app_host: Host) -> Callable[..., str]:
    """Return a function that runs a management command for the site and returns what it prints."""

    def run(*arguments: str) -> str:
        return app_host.check_output(" ".join([f"{APP}-manage", *("%s" for _ in arguments)]), *arguments)

    return run


@pytest.fixture(scope="module")
def articles(manage: Callable[..., str]) -> None:
    """Fill the site as the demonstration does."""
    said = manage("seed_demo", "--admin", "admin")
    assert re.search(r"^seed_demo: (created|nothing to do)", said, flags=re.MULTILINE)


@dataclass
class Playbooks:
    """The project's playbooks, run from this machine against the inventory of the scenario."""

    inventory: str
    only: tuple[str, ...] = ()
    """The hosts that they are kept to; all of the inventory without."""

    def start(self, name: str, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start a playbook."""
        limit = ["--limit", ":".join(self.only)] if self.only else []
        command = ["ansible-playbook", "-i", self.inventory, *limit, str(PROJECT / "playbooks" / name), *arguments]
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


@pytest.fixture(scope="module")
def site_playbook(servers: Servers) -> Playbooks:
    """Return what runs playbooks against the site of the host alone."""
    return Playbooks(servers.inventory, tuple(servers.all))


def hosts_of(playbook: Playbooks, group: str) -> list[Host]:
    """Return the hosts of a group, in the order of the inventory."""
    return get_hosts([f"ansible://{group}?ansible_inventory={playbook.inventory}"])


@pytest.fixture(scope="session")
def hosts(playbook: Playbooks) -> dict[str, Host]:
    """Return all hosts of the scenario by name."""
    return {host.backend.host: host for host in hosts_of(playbook, "test_hosts")}


def podman(host: Host, *words: str) -> None:
    """Have podman do something with a host."""
    variables = host.ansible.get_variables()
    name = f"{variables['test_network_name']}-{variables['inventory_hostname']}"
    subprocess.run(["podman", *words, name], env=os.environ | PODMAN, check=True, capture_output=True)


def lets_in(host: Host) -> bool:
    """Tell whether the host can be logged in to: until it has booted, ssh is an error and not an answer."""
    try:
        return host.run("true").succeeded
    except RuntimeError:
        return False


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


def state_of(host: Host) -> str:
    """Return a digest of what a run could change: packages, files, and our services with their processes."""
    return host.check_output(
        "{ dpkg-query -W; systemctl list-unit-files --no-legend;"
        " find /etc /srv /opt /usr/local /var/lib/slipway-applied -type f -printf '%p %s %m %u %T@\\n' | sort;"
        " systemctl list-units --plain --no-legend --state running,listening,waiting"
        " 'slipway*' 'nginx*' 'redis*' 'postgres*' 'pgbouncer*' | cut -d ' ' -f 1"
        " | xargs --no-run-if-empty systemctl show --property Id,MainPID; } | sha256sum"
    )


def changes(output: str) -> list[str]:
    """Return what a playbook changed, each as "host: task"."""
    found, task = [], ""
    for line in output.splitlines():
        if named := re.match(r"(?:TASK|RUNNING HANDLER) \[(.+)\]", line):
            task = named[1]
        elif changed := re.match(r"changed: \[([^\s\]]+)", line):
            found.append(f"{changed[1]}: {task}")
    assert bool(found) == any(counts["changed"] for counts in recap(output).values()), output[-4000:]
    return found


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


POSTGRESQL = {"12": "postgresql@15-main.service", "13": "postgresql@17-main.service"}


def unit_of(host: Host, service: str) -> str:
    """Return the unit that runs a service on the host."""
    if service == "postgresql":
        return POSTGRESQL[host.system_info.release.split(".")[0]]
    if service in ("web", "celery-default", "celery-beat"):
        return live_unit(host, service)
    return f"{service}.service"


def services_of(servers: Servers, name: str) -> list[str]:
    """Return the services that run on a host of the site."""
    services = {
        "database": ["postgresql"],
        "redis": ["redis-server@broker", "redis-server@cache"],
        "app": ["web"],
        "worker": ["celery-default"],
        "edge": ["nginx"],
    }
    own = [service for group in GROUPS if name in servers.names[group] for service in services[group]]
    return own + (["celery-beat"] if name in servers.names["worker"][:1] else [])


@pytest.fixture
def start_workers(servers: Servers) -> Iterator[Callable[[], None]]:
    """Keep the Celery workers of the site stopped until the test calls this."""

    def each(action: str) -> None:
        for worker in servers.of("worker"):
            worker.check_output("systemctl %s %s-celery-default", action, APP)

    each("stop")
    yield lambda: each("start")
    each("start")


def restart(host: Host) -> None:
    """Restart a host as if by its power button, and do not wait for it."""
    variables = host.ansible.get_variables()
    # The connection that ssh keeps may not learn that the host is gone, and what is sent on it would be waited for.
    options = variables["ansible_ssh_common_args"].split()
    address = f"{variables['ansible_user']}@{variables['ansible_host']}"
    subprocess.run(["ssh", *options, "-O", "exit", address], check=False, capture_output=True)
    container = f"{variables['test_network_name']}-{variables['inventory_hostname']}"
    settings = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}
    subprocess.run(["podman", "restart", container], env=os.environ | settings, check=True, capture_output=True)


def redis_command(host: Host, inventory: dict[str, str], instance: str, *command: str, user: str = "admin") -> str:
    """Run a Redis command as one of the users; return what Redis says, errors too."""
    port = {"broker": 6379, "cache": 6380}[instance]
    password = {
        "admin": inventory["vault_redis_admin_password"],
        "celery": inventory["vault_redis_broker_password"],
        "django": inventory["vault_redis_cache_password"],
    }[user]
    return redis_as(host, port, user, password, *command)


# By TLS where the host speaks it.
REDIS_CLI = f"redis-cli $(test -e {(pem := '/etc/redis/slipway-tls.pem')} && echo --tls --cacert {pem})"


def redis_as(host: Host, port: int, user: str, password: str, *command: str) -> str:
    """Run a Redis command as `user` with `password`; return what Redis says, errors too."""
    words = " ".join("%s" for _ in command)
    result = host.run(
        f"REDISCLI_AUTH=%s {REDIS_CLI} -p %s --user %s --no-auth-warning {words} 2>&1",
        password,
        str(port),
        user,
        *command,
    )
    return result.stdout.strip()


def mail_to(servers: Servers, address: str) -> int:
    """Return how many mails to `address` the workers of the site have delivered."""
    script = "grep -rhF -- %s /var/lib/%s/mail | wc -l"
    return sum(int(worker.check_output(script, f"To: {address}", APP)) for worker in servers.of("worker"))


def memory_share(inventory: dict[str, Any], group: str) -> int:
    """Return the MiB that a host has for a group, as the shipped weights share out what the system leaves of them."""
    weights = {"database": 40, "redis": 10, "app": 30, "worker": 15, "edge": 5}
    own = sum(weight for name, weight in weights.items() if name in inventory["group_names"])
    return (inventory["topology_memory_mb"] - 256) * weights[group] // own


def to_json(text: str) -> object:
    """Return the last line of `text` as JSON."""
    return json.loads(text.strip().splitlines()[-1])
