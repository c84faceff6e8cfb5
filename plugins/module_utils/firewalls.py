"""Firewalls of a host beside the site's own: what drops packets that the table `inet slipway` lets in.

Of several firewalls each has to accept a packet, so a port that the site opens is closed where another one says so.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

OWN = ("inet", "slipway")
NAMES = {"ufw": "ufw", "firewalld": "firewalld", "INPUT_direct": "firewalld"}
DENIES = ("drop", "reject")
Run = Callable[[list[str]], str]


def by_source(rule: Mapping[str, Any]) -> bool:
    """Tell whether a rule is about some addresses only, as those of a banned visitor, or about broken packets."""
    for part in rule["expr"]:
        left = part.get("match", {}).get("left", {})
        payload = left.get("payload", {}) if isinstance(left, dict) else {}
        if payload.get("field") in ("saddr", "daddr", "sport") or payload.get("protocol") == "udp":
            return True
        # An interface may be the one that visitors come by; a state or another protocol is not about them.
        meta = left.get("meta", {}).get("key", "") if isinstance(left, dict) else ""
        if isinstance(left, dict) and ("ct" in left or meta not in ("", "iif", "iifname")):
            return True
        # A match of iptables that nft cannot show in its own terms.
        if part.get("xt", {}).get("type") == "match":
            return True
    return False


def rules_of(chain: str, rules: Mapping[str, list[dict[str, Any]]], seen: set[str]) -> Iterator[dict[str, Any]]:
    """Yield the rules that a packet in a chain may meet, those of the chains that it is sent on to with them."""
    if chain in seen:
        return
    seen.add(chain)
    for rule in rules.get(chain, []):
        yield rule
        if by_source(rule):
            continue
        for part in rule["expr"]:
            for verdict in ("jump", "goto"):
                if verdict in part:
                    yield from rules_of(part[verdict]["target"], rules, seen)


def closed_tables(ruleset: Mapping[str, Any]) -> list[str]:
    """Return the tables, in words, that drop what arrives, of what `nft --json list ruleset` says."""
    parts = ruleset.get("nftables", [])
    chains = [part["chain"] for part in parts if "chain" in part]
    found = []
    for table in dict.fromkeys((chain["family"], chain["table"]) for chain in chains):
        own = [chain for chain in chains if (chain["family"], chain["table"]) == table]
        rules: dict[str, list[dict[str, Any]]] = {}
        for part in parts:
            rule = part.get("rule", {})
            if rule and (rule["family"], rule["table"]) == table:
                rules.setdefault(rule["chain"], []).append(rule)
        for chain in own if table != OWN else []:
            if chain.get("hook") not in ("input", "prerouting") or chain.get("type") != "filter":
                continue
            denied = any(
                not by_source(rule) and any(verdict in part for part in rule["expr"] for verdict in DENIES)
                for rule in rules_of(chain["name"], rules, set())
            )
            if chain.get("policy") == "drop" or denied:
                words = {
                    name for key, name in NAMES.items() if key == table[1] or any(key in one["name"] for one in own)
                }
                said = f"the table {table[0]} {table[1]} of nftables"
                found.append(f"{sorted(words)[0]} ({said})" if words else said)
                break
    return found


def closed_legacy(rules: str) -> bool:
    """Tell whether `iptables-legacy -S INPUT` says that something is dropped for everybody."""
    for line in rules.splitlines():
        words = line.split()
        denies = words[-1] == "DROP" or any(word in line for word in ("-j DROP", "-j REJECT"))
        if denies and not {"-s", "-d", "-m", "!"} & set(words):
            return True
    return False


def others(run: Run, tables: Path = Path("/proc/net/ip_tables_names")) -> list[str]:
    """Return the other firewalls of this host, in words; `run` returns what a command says, nothing if it fails."""
    said = run(["nft", "--json", "list", "ruleset"])
    found = closed_tables(json.loads(said)) if said.startswith("{") else []
    try:
        legacy = "filter" in tables.read_text(encoding="ascii").split()
    except OSError:
        legacy = False
    if legacy and closed_legacy(run(["iptables-legacy", "-S", "INPUT"])):
        found.append("iptables-legacy (its chain INPUT)")
    return found
