"""Who can reach whom: every TCP port of every host from every other, and what happens when the firewall changes."""

from __future__ import annotations

import json
import os
import re
import secrets
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from conftest import PROJECT, Playbooks, recap, wait_until
from testinfra.host import Host

# What changes the firewall does it on hosts that no other needs.
testinfra_hosts = ["ansible://worker"]

# Which group may open which ports of which: what a site needs, said here once more and without the topology.
ALLOWED = [
    ("all", "all", {22}),
    ("all", "edge", {80}),
    ("edge", "app", {8000}),
    ("app", "redis", {6379, 6380}),
    ("worker", "redis", {6379, 6380}),
    ("app", "database", {5432, 6432}),
    ("worker", "database", {5432, 6432}),
    ("database", "database", {5432}),
]
WORLD = {22: "all", 80: "edge"}

# Runs on the hosts. What answers with a reset is closed; what does not answer is asked again, and longer.
SCAN = """
import errno, json, select, socket, sys

def scan(address, ports, seconds):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    open_ports, silent, waiting = [], [], {}
    poll = select.poll()

    def settle(timeout):
        for number, _ in poll.poll(timeout):
            one, port = waiting.pop(number)
            poll.unregister(number)
            if one.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 0:
                open_ports.append(port)
            one.close()

    def give_up():
        while waiting:
            before = len(waiting)
            settle(1000 * seconds)
            if len(waiting) == before:
                break
        for number, (one, port) in waiting.items():
            poll.unregister(number)
            one.close()
            silent.append(port)
        waiting.clear()

    for port in ports:
        one = socket.socket(family, socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
        code = one.connect_ex((address, port))
        if code == errno.EINPROGRESS:
            waiting[one.fileno()] = one, port
            poll.register(one, select.POLLOUT)
            if len(waiting) >= 256:
                settle(0)
            if len(waiting) >= 512:
                give_up()
        else:
            if code == 0:
                open_ports.append(port)
            one.close()
    give_up()
    return open_ports, silent

result = {}
for name, address in json.load(sys.stdin).items():
    found, silent = scan(address, range(1, 65536), 1)
    again, silent = scan(address, silent, 3)
    result[name] = {"open": sorted(found + again), "silent": silent}
print(json.dumps(result))
"""


@pytest.fixture(scope="module")
def groups(host: Host) -> dict[str, list[str]]:
    """Return the hosts of each group; `all` are those of the site."""
    named = host.ansible.get_variables()["groups"]
    groups = {name: named[name] for name in ("database", "redis", "app", "worker", "edge")}
    return groups | {"all": sorted({name for names in groups.values() for name in names})}


@pytest.fixture(scope="module")
def addresses(hosts: dict[str, Host]) -> dict[str, str]:
    """Return where the hosts are reached."""
    return {name: host.ansible.get_variables()["ansible_host"] for name, host in hosts.items()}


def ssh(host: Host, *options: str) -> list[str]:
    """Return the beginning of an ssh command to a host, on a connection of its own."""
    variables = host.ansible.get_variables()
    key = Path(variables["ansible_ssh_private_key_file"]).expanduser()
    trust = ["-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR"]
    alone = ["-o", "ControlMaster=no", "-o", "ControlPath=none", "-o", "IdentitiesOnly=yes", "-o", "BatchMode=yes"]
    return ["ssh", *trust, *alone, "-i", str(key), *options, f"{variables['ansible_user']}@{variables['ansible_host']}"]


def may_reach(source: str, target: str, groups: dict[str, list[str]]) -> set[int]:
    """Return the ports of one host that another may open."""
    ports = [ports for one, other, ports in ALLOWED if source in groups[one] and target in groups[other]]
    return set().union(*ports)


def test_only_what_the_site_needs_answers(
    hosts: dict[str, Host], groups: dict[str, list[str]], addresses: dict[str, str]
) -> None:
    """All 65,535 ports of each host, from each other one."""
    assert len(hosts) > 1

    def scan(source: str) -> dict[str, dict[str, list[int]]]:
        others = {name: address for name, address in addresses.items() if name != source}
        done = subprocess.run(
            [*ssh(hosts[source]), "python3", "-c", f"'{SCAN}'"],
            input=json.dumps(others), capture_output=True, text=True, timeout=900, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)

    with ThreadPoolExecutor(len(hosts)) as pool:
        found = dict(zip(hosts, pool.map(scan, hosts), strict=True))
    pairs = [(source, target) for source in hosts for target in hosts if source != target]
    wrong = {
        f"{source} -> {target}": (sorted(is_open - wanted), sorted(wanted - is_open))
        for source, target in pairs
        if (is_open := set(found[source][target]["open"])) != (wanted := may_reach(source, target, groups))
    }
    assert not wrong, f"open and should not be, should be open and is not: {wrong}"
    silent = {f"{source} -> {target}": found[source][target]["silent"][:5] for source, target in pairs}
    assert not {pair: ports for pair, ports in silent.items() if ports}, (
        "a closed port keeps others of the site waiting"
    )


def test_the_world_reaches_the_site_and_ssh_alone(
    hosts: dict[str, Host], groups: dict[str, list[str]], addresses: dict[str, str]
) -> None:
    """From this machine, which is none of the site: whatever listens on an address that others have."""

    def answers(address: str, port: int) -> bool:
        try:
            socket.create_connection((address, port), timeout=2).close()
        except OSError:
            return False
        return True

    closed = 0
    for name, host in hosts.items():
        listening = {
            int(port)
            for line in host.check_output("ss --no-header --listening --tcp --numeric").splitlines()
            for address, _, port in [line.split()[3].rpartition(":")]
            if not address.startswith(("127.", "[::1]"))
        }
        for port in listening:
            wanted = name in groups.get(WORLD.get(port, ""), [])
            assert answers(addresses[name], port) == wanted, f"{name}:{port}"
            closed += not wanted
    assert closed, "nothing listens that must be closed, so nothing was tested"


# What changes


@pytest.fixture
def name(host: Host) -> str:
    """Return the name of the host."""
    return host.ansible.get_variables()["inventory_hostname"]


@pytest.fixture
def firewall(playbook: Playbooks, name: str) -> Iterator[Callable[..., subprocess.CompletedProcess[str]]]:
    """Return what runs the firewall's playbooks on the host with variables changed; leave all as it was."""
    close = str(PROJECT / "playbooks/_firewall_close.yml")

    def run(close_too: bool = True, **variables: Any) -> subprocess.CompletedProcess[str]:
        books = ["_firewall_open.yml", *([close] if close_too else [])]
        return playbook(*books, "--limit", name, "--extra-vars", json.dumps(variables))

    yield run
    result = run()
    assert result.returncode == 0, result.stdout[-3000:]


def table(host: Host) -> str:
    """Return the firewall's rules as the kernel has them, nothing if there are none."""
    return host.run("nft --stateless list table inet slipway").stdout


def comes_in(host: Host) -> bool:
    """Tell whether ssh lets in somebody who comes anew."""
    command = [*ssh(host, "-o", "ConnectTimeout=3"), "true"]
    return subprocess.run(command, capture_output=True, check=False).returncode == 0


def succeeded(result: subprocess.CompletedProcess[str], name: str) -> int:
    """Return how many tasks of a run that has succeeded changed something."""
    assert result.returncode == 0, result.stdout[-3000:]
    return recap(result.stdout)[name]["changed"]


METRICS = {"name": "metrics", "port": 9100, "sources": ["192.0.2.9", "2001:db8::9"]}


def test_what_is_in_order_is_left_alone(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    assert succeeded(firewall(), name) == 0
    assert "policy drop" in table(host)


def test_an_inventory_opens_more(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    before = table(host)
    assert succeeded(firewall(firewall_allow=[METRICS]), name) > 0
    opened = set(table(host).splitlines()) - set(before.splitlines())
    assert {" ".join(line.split()) for line in opened} == {
        'ip saddr 192.0.2.9 tcp dport 9100 accept comment "metrics"',
        'ip6 saddr 2001:db8::9 tcp dport 9100 accept comment "metrics"',
    }


def test_what_is_no_longer_needed_is_closed_last(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    """A service that moves is reached at its old place until the new one is there."""
    firewall(firewall_allow=[METRICS])
    first = firewall(close_too=False)
    assert succeeded(first, name) == 1, "the file that says what is wanted, and no rule"
    assert "dport 9100" in table(host)
    assert succeeded(firewall(close_too=False), name) == 0, "a run that was cut here is no other"
    assert "dport 9100" in table(host)
    assert succeeded(firewall(), name) == 1
    assert "dport 9100" not in table(host)


def test_what_was_changed_by_hand_is_put_right(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    before = table(host)
    host.check_output("nft flush chain inet slipway ssh && nft add rule inet slipway openings tcp dport 1-65535 accept")
    assert table(host) != before
    assert succeeded(firewall(), name) == 1
    assert table(host) == before


def test_tables_of_others_are_kept(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    """Without a firewall, too; and that leaves nothing of it."""
    theirs = f"theirs{secrets.token_hex(3)}"
    host.check_output("nft 'add table ip %s; add chain ip %s c; add rule ip %s c counter'", theirs, theirs, theirs)
    try:
        before = host.check_output("nft list table ip %s", theirs)
        assert succeeded(firewall(firewall_allow=[METRICS]), name) > 0
        assert host.check_output("nft list table ip %s", theirs) == before
        assert succeeded(firewall(firewall_enabled=False), name) > 0
        assert table(host) == ""
        assert not host.service("nftables-slipway").is_enabled
        assert host.check_output("nft list table ip %s", theirs) == before
        assert succeeded(firewall(firewall_enabled=False), name) == 0
        assert succeeded(firewall(), name) > 0
        assert host.check_output("nft list table ip %s", theirs) == before
    finally:
        host.check_output("nft delete table ip %s", theirs)


def test_rules_outlive_those_of_nftables_itself(host: Host) -> None:
    """Its service flushes all tables, by the configuration that Debian ships."""
    before = table(host)
    assert "flush ruleset" in host.file("/etc/nftables.conf").content_string
    assert not host.service("nftables").is_running
    try:
        for verb in ("start", "reload", "restart", "stop"):
            host.check_output("systemctl %s nftables", verb)
            assert table(host) == before, verb
    finally:
        host.check_output("systemctl stop nftables")


SHUT = {"firewall_extra_rules": ["tcp dport 22 drop"], "firewall_confirm_seconds": 20}


@pytest.mark.disruptive
def test_rules_that_shut_the_operator_out_are_taken_back(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    before = table(host)
    result = firewall(**SHUT)
    assert result.returncode != 0
    assert "let no new connection of this control node through" in re.sub(r"\s+", " ", result.stdout)
    assert comes_in(host)
    assert table(host) == before
    assert "dport 22 drop" not in host.file("/etc/nftables-slipway/rules.nft").content_string


@pytest.mark.disruptive
def test_the_host_takes_rules_back_by_itself(host: Host, name: str, playbook: Playbooks, firewall: Any) -> None:
    """The run is killed while the operator is shut out."""
    before = table(host)
    watch = "until systemctl --quiet is-active nftables-slipway-revert.timer; do sleep 0.1; done; sleep 1; echo armed"
    with subprocess.Popen([*ssh(host), watch], stdout=subprocess.PIPE, text=True) as watching:
        time.sleep(1)
        run = playbook.start("_firewall_open.yml", "--limit", name, "--extra-vars", json.dumps(SHUT))
        assert watching.stdout is not None
        assert watching.stdout.readline() == "armed\n"
        subprocess.run(["pkill", "-KILL", "-P", str(run.pid)], check=False)
        run.kill()
        run.communicate()
    assert not comes_in(host), "nobody was shut out, so nothing was tested"
    wait_until(lambda: comes_in(host), "the old rules")
    assert table(host) == before
    assert succeeded(firewall(), name) == 1, "the next run finishes what was cut"


@pytest.mark.disruptive
def test_an_operator_who_is_not_named_stays_in(host: Host, name: str, firewall: Callable[..., Any]) -> None:
    result = firewall(firewall_ssh_sources=["192.0.2.0/24"], firewall_ssh_port=2222)
    assert succeeded(result, name) > 0
    assert "firewall_ssh_sources and firewall_ssh_port do not" in re.sub(r"\s+", " ", result.stdout)
    assert comes_in(host)
    rules = " ".join(table(host).split())
    assert 'tcp dport 22 accept comment "Ansible"' in rules
    assert "0.0.0.0/0 tcp dport 22" not in rules


@pytest.mark.disruptive
def test_rules_come_back_with_the_host_and_before_its_network(host: Host, name: str) -> None:
    before = table(host)
    booted = host.check_output("stat -c %Y /proc/1")
    container = f"{host.ansible.get_variables()['test_network_name']}-{name}"
    settings = {"CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf")}
    subprocess.run(["podman", "restart", container], env=os.environ | settings, check=True, capture_output=True)
    wait_until(lambda: comes_in(host), "ssh")
    assert host.check_output("stat -c %Y /proc/1") != booted, "the host was not restarted"
    assert table(host) == before

    def reached(unit: str, what: str) -> int:
        return int(host.check_output("systemctl show --value --property %s %s", what, unit))

    loaded = reached("nftables-slipway.service", "ActiveEnterTimestampMonotonic")
    assert 0 < loaded <= reached("network-pre.target", "ActiveEnterTimestampMonotonic")
    assert loaded < reached("ssh.service", "ActiveEnterTimestampMonotonic")
