"""Other firewalls of a host, as nftables tells of them, and whether a port is reached from here."""

from __future__ import annotations

import socket
from pathlib import Path
from typing import Any

import pytest
from conftest import run_action, run_here

from ansible_collections.slipway.kit.plugins.action import edge_reach as reach
from ansible_collections.slipway.kit.plugins.module_utils import firewalls

DROP, REJECT, ACCEPT = {"drop": None}, {"reject": None}, {"accept": None}
COUNTER = {"counter": {"packets": 0, "bytes": 0}}


def match(left: dict[str, Any], right: Any = 22) -> dict[str, Any]:
    return {"match": {"op": "==", "left": left, "right": right}}


def port(number: int) -> dict[str, Any]:
    return match({"payload": {"protocol": "tcp", "field": "dport"}}, number)


SOURCE = match({"payload": {"protocol": "ip", "field": "saddr"}}, "@bad")
INTERFACE = match({"meta": {"key": "iifname"}}, "eth0")
PROTOCOL = match({"meta": {"key": "l4proto"}}, "icmp")
BROKEN = match({"ct": {"key": "state"}}, "invalid")


def ruleset(table: str, chains: dict[str, list[list[dict[str, Any]]]], **base: Any) -> dict[str, Any]:
    """Return what nft says of a table whose first chain is a base chain."""
    family, name = table.split()
    hook = {"type": "filter", "hook": "input", "prio": 0, "policy": "accept"} | base
    parts: list[dict[str, Any]] = [
        {"metainfo": {"json_schema_version": 1}},
        {"table": {"family": family, "name": name}},
    ]
    for number, (chain, rules) in enumerate(chains.items()):
        own = {"family": family, "table": name}
        parts.append({"chain": own | {"name": chain} | (hook if number == 0 else {})})
        parts += [{"rule": own | {"chain": chain, "expr": expr}} for expr in rules]
    return {"nftables": parts}


@pytest.mark.parametrize(
    ("rules", "named"),
    [
        (ruleset("ip filter", {"INPUT": [], "ufw-user-input": []}, policy="drop"), "ufw (the table ip filter"),
        (ruleset("inet filter", {"input": []}, policy="drop"), "the table inet filter"),
        (ruleset("ip filter", {"INPUT": [[port(22), ACCEPT], [COUNTER, REJECT]]}), "the table ip filter"),
        (ruleset("inet own", {"web": [[port(80), DROP]]}), "the table inet own"),
        (ruleset("inet own", {"web": [[INTERFACE, port(80), DROP]]}), "the table inet own"),
        (ruleset("inet raw", {"pre": [[port(80), DROP]]}, hook="prerouting"), "the table inet raw"),
        (
            ruleset("inet firewalld", {"filter_INPUT": [[{"jump": {"target": "zones"}}]], "zones": [[REJECT]]}),
            "firewalld (the table inet firewalld",
        ),
        (
            ruleset("inet loop", {"a": [[{"goto": {"target": "b"}}]], "b": [[{"jump": {"target": "a"}}], [DROP]]}),
            "the table inet loop",
        ),
        # Not of the kind: what lets in, bans some addresses, drops broken packets, or has to do with others.
        (ruleset("inet slipway", {"input": [[DROP]]}, policy="drop"), ""),
        (ruleset("ip filter", {"INPUT": [[port(22), ACCEPT]]}), ""),
        (ruleset("inet f2b", {"input": [[port(22), SOURCE, REJECT]]}), ""),
        (ruleset("inet f2b", {"input": [[SOURCE, {"jump": {"target": "bad"}}]], "bad": [[DROP]]}), ""),
        (ruleset("inet own", {"input": [[PROTOCOL, DROP]]}), ""),
        (ruleset("inet broken", {"input": [[BROKEN, DROP]]}), ""),
        (ruleset("ip docker", {"FORWARD": [[DROP]]}, hook="forward", policy="drop"), ""),
        (ruleset("ip nat", {"PRE": [[DROP]]}, hook="prerouting", type="nat"), ""),
        (ruleset("ip filter", {"INPUT": [], "unused": [[DROP]]}), ""),
        ({"nftables": []}, ""),
    ],
)
def test_table_that_closes_what_the_site_opens_is_named(rules: dict[str, Any], named: str) -> None:
    found = firewalls.closed_tables(rules)
    assert (len(found) == 1 and found[0].startswith(named)) if named else not found, found


@pytest.mark.parametrize(
    ("rules", "closed"),
    [
        ("-P INPUT DROP\n", True),
        ("-P INPUT ACCEPT\n-A INPUT -j REJECT --reject-with icmp-host-prohibited\n", True),
        ("-P INPUT ACCEPT\n-A INPUT -p tcp --dport 80 -j DROP\n", True),
        ("-P INPUT ACCEPT\n-A INPUT -s 192.0.2.7/32 -j DROP\n", False),
        ("-P INPUT ACCEPT\n", False),
    ],
)
def test_rules_of_iptables_before_nftables_are_seen(tmp_path: Path, rules: str, closed: bool) -> None:
    said = {"nft": "", "iptables-legacy": rules}
    tables = tmp_path / "ip_tables_names"
    assert firewalls.others(lambda command: said[command[0]], tables) == []
    tables.write_text("filter\n", encoding="ascii")
    assert bool(firewalls.others(lambda command: said[command[0]], tables)) is closed


@pytest.fixture
def open_port() -> Any:
    """Return a port of this machine where somebody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture
def closed_port() -> Any:
    """Return a port of this machine that is taken, and where nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield taken.getsockname()[1]


def reached(**arguments: Any) -> bool | None:
    """Ask for a port of this machine, as that of the host www, on which there is ufw."""
    facts = {"inventory_hostname": "www", "ansible_facts": {"preflight_firewalls": ["ufw"]}}
    found: bool | None = run_action(reach, variables=facts, address="127.0.0.1", **arguments)["reached"]
    return found


def test_other_host_of_the_site_is_asked_where_this_machine_cannot_tell(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], open_port: int, closed_port: int
) -> None:
    both = {"port": closed_port, "ssh_port": closed_port}
    monkeypatch.setattr(reach.ActionModule, "_low_level_execute_command", lambda _, command: run_here(command))
    monkeypatch.setattr(reach, "problem", lambda *_: "timed out")
    assert reached(port=open_port, ssh_port=closed_port, elsewhere=True) is True
    assert reached(**both, elsewhere=False) is None
    assert "reached" not in capfd.readouterr().err
    assert reached(**both, elsewhere=True) is False
    warned = " ".join(capfd.readouterr().err.split())
    assert "is not reached from another host of the site" in warned
    monkeypatch.setattr(reach.ActionModule, "_low_level_execute_command", lambda *_: {"rc": 255, "stdout": ""})
    assert reached(**both, elsewhere=True) is None


def test_port_that_is_not_reached_is_told_where_this_machine_can_tell(
    capfd: pytest.CaptureFixture[str], open_port: int, closed_port: int
) -> None:

    def ask(port: int, ssh_port: int) -> Any:
        return reached(port=port, ssh_port=ssh_port)

    assert ask(open_port, open_port) is True
    assert ask(closed_port, closed_port) is None
    assert "reached" not in capfd.readouterr().err
    assert ask(closed_port, open_port) is False
    warned = " ".join(capfd.readouterr().err.split())
    assert f"www: port {closed_port} of 127.0.0.1 is not reached" in warned and "the host has ufw" in warned
