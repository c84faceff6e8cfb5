"""The firewall: what is open to whom, what an inventory may add to it, and what nft makes of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from ansible.errors import AnsibleFilterError
from conftest import ROOT
from rendering import USES, render
from test_preflight import inspect_role, root_of

from ansible_collections.slipway.kit.plugins.filter import networks

ROLE = ROOT / "roles/firewall"
RULES = "/etc/nftables-slipway/wanted.nft"
WORLD = ["0.0.0.0/0", "::/0"]


def test_what_is_no_network_is_named() -> None:
    sources = ["10.0.0.5", "10.0.0.0/24", "fd00::1", "fd00::/8", *WORLD]
    assert networks.network_faults(sources) == []
    assert networks.network_faults(["10.0.0.5/24", "10.0.0.256", "db.example.com", "10.0.0.0/33", ""]) == [
        "10.0.0.5/24 (the network is 10.0.0.0/24)", "10.0.0.256", "db.example.com", "10.0.0.0/33", "",
    ]  # fmt: skip


def test_networks_are_taken_apart_by_version_and_do_not_overlap() -> None:
    sources = ["10.0.0.7", "10.0.0.0/24", "192.0.2.1", "fd00::1", "192.0.2.1", "fd00::1"]
    assert networks.networks(sources, 4) == ["10.0.0.0/24", "192.0.2.1"]
    assert networks.networks(sources, 6) == ["fd00::1"]
    assert networks.networks([], 4) == []
    with pytest.raises(AnsibleFilterError):
        networks.networks(["db.example.com"], 4)


@pytest.mark.parametrize("port", [1, 65535, "8000", "60000-60100", "1-65535"])
def test_ports_and_ranges_are_taken(port: int | str) -> None:
    assert networks.port_faults([port]) == []


@pytest.mark.parametrize("port", [0, -1, 65536, "", "http", "60100-60000", "1-65536", "1:2", "80,443", True, "٣", None])
def test_what_is_no_port_is_named(port: Any) -> None:
    assert networks.port_faults([port]) == [str(port)]


@pytest.mark.parametrize("sources", [WORLD, ["0.0.0.0/0"], ["::/0"], ["0.0.0.0/1", "128.0.0.0/1"]], ids=str)
def test_a_private_port_that_is_open_to_all_is_found(sources: list[str]) -> None:
    opening = {"name": "range", "port": "5000-6000", "sources": sources}
    assert networks.open_to_all([opening], [5432, 6379]) == ["5432 (range)"]
    assert networks.open_to_all([opening | {"sources": ["10.0.0.0/8"]}], [5432]) == []


def opening(**changed: Any) -> dict[str, Any]:
    """Return an opening that an inventory may add, with something changed."""
    return {"name": "metrics", "port": 9100, "sources": ["10.0.0.9"]} | changed


@pytest.mark.parametrize(
    "variables",
    [
        {},
        {"firewall_allow": [opening(), opening(port="60000-60100", protocol="udp", sources=WORLD)]},
        {"firewall_enabled": False, "firewall_openings": [opening(sources=["db"])], "firewall_reject_sources": ["db"]},
        {"firewall_ssh_sources": ["203.0.113.0/24", "2001:db8::7"], "firewall_ssh_port": 2222},
        {"firewall_extra_rules": ["ip saddr 192.0.2.7 drop", "tcp dport { 1, 2 } accept"]},
    ],
    ids=str,
)
def test_what_works_passes(variables_for: Callable[..., dict[str, Any]], variables: dict[str, Any]) -> None:
    assert inspect_role(ROLE, variables_for(ROLE, "12", **variables)) == []


@pytest.mark.parametrize(
    ("variable", "value", "why"),
    [
        ("firewall_ssh_port", 70000, "a port from 1 to 65535"),
        ("firewall_ssh_sources", [], "nobody could come in"),
        ("firewall_ssh_sources", ["203.0.113.7/24"], "the network is 203.0.113.0/24"),
        ("firewall_allow", [opening(sources=["10.0.0.9/8"])], "the network is 10.0.0.0/8"),
        ("firewall_allow", [opening(sources=["monitor.example.com"])], "must have addresses or networks"),
        ("firewall_allow", [opening(port=0)], "must be a port"),
        ("firewall_allow", [opening(port="100-99")], "must be a port"),
        ("firewall_allow", [opening(name='a"b')], "names of letters"),
        ("firewall_allow", [opening(port=5432, sources=WORLD)], "opens 5432 (metrics) to everybody"),
        (
            "firewall_allow",
            [opening(port="6000-6400", sources=["::/0"])],
            "opens 6379 (metrics), 6380 (metrics), 6381 (metrics) to",
        ),
        ("firewall_allow[0].protocol", [opening(protocol="icmp")], "must be one of tcp, udp"),
        ("firewall_allow[0].sources", [{"name": "a", "port": 1}], "is required"),
        ("firewall_allow[0].port_", [opening(port_=1)], "is not an option here"),
        ("firewall_openings", [opening(sources=["db"])], "wrong are db"),
        ("firewall_openings", [opening(port=5432, sources=WORLD)], "to everybody"),
        ("firewall_reject_sources", ["db"], "wrong are db"),
        ("firewall_extra_rules", ["drop; } chain x {"], "without semicolons"),
        ("firewall_confirm_seconds", 5, "from 20 to 600"),
    ],
    ids=str,
)
def test_what_cannot_work_is_refused(
    variables_for: Callable[..., dict[str, Any]], variable: str, value: Any, why: str
) -> None:
    faults = inspect_role(ROLE, variables_for(ROLE, "12", **{variable.partition("[")[0]: value}))
    assert [
        fault for fault in faults if variable in (fault.variable, root_of(fault)) and why in fault.why + fault.fix
    ], faults


def test_rules_say_who_may_come_in_where(variables_for: Callable[..., dict[str, Any]]) -> None:
    variables = variables_for(
        ROLE,
        "12",
        firewall_ssh_port=2222,
        firewall_ssh_sources=["203.0.113.0/24"],
        firewall_openings=[opening(name="PostgreSQL", port=5432, sources=["fd00::2", "10.0.0.3", "10.0.0.3"])],
        firewall_allow=[opening(name="game", port="60000-60100", protocol="udp", sources=WORLD)],
        firewall_reject_sources=["10.0.0.3"],
        firewall_extra_rules=["ip saddr 192.0.2.7 drop"],
    )
    files = [file for use in USES if use.role == ROLE for file in render(use, variables)]
    [text] = [file.text for file in files if file.path == RULES]
    assert [line for line in text.splitlines() if line.startswith("add rule")] == [
        'add rule inet slipway ssh ip saddr { 203.0.113.0/24 } tcp dport 2222 accept comment "ssh"',
        'add rule inet slipway openings ip saddr { 10.0.0.3 } tcp dport 5432 accept comment "PostgreSQL"',
        'add rule inet slipway openings ip6 saddr { fd00::2 } tcp dport 5432 accept comment "PostgreSQL"',
        'add rule inet slipway openings ip saddr { 0.0.0.0/0 } udp dport 60000-60100 accept comment "game"',
        'add rule inet slipway openings ip6 saddr { ::/0 } udp dport 60000-60100 accept comment "game"',
    ]
    assert text.index("192.0.2.7 drop") < text.index("jump ssh") < text.index("reject with tcp reset")
    assert "flush ruleset" not in text
