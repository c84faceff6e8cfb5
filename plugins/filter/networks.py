"""Filters for addresses, networks and ports, as a firewall needs them."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from ansible.errors import AnsibleFilterError

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


def network_faults(sources: Iterable[str]) -> list[str]:
    """Return what is no address and no network, each with what was probably meant."""
    faults = []
    for source in sources:
        try:
            ipaddress.ip_network(source)
        except ValueError:
            try:
                faults.append(f"{source} (the network is {ipaddress.ip_network(source, strict=False)})")
            except ValueError:
                faults.append(str(source))
    return faults


def networks(sources: Iterable[str], version: int) -> list[str]:
    """Return the addresses and networks of one version of IP, in order and without what others contain.

    A set of nftables takes none that overlap.
    """
    try:
        every = [ipaddress.ip_network(source) for source in sources]
    except ValueError as error:
        raise AnsibleFilterError(str(error)) from error
    collapsed: Iterable[Network] = ipaddress.collapse_addresses(one for one in every if one.version == version)
    return [str(one.network_address) if one.prefixlen == one.max_prefixlen else str(one) for one in collapsed]


def port_range(port: int | str) -> tuple[int, int] | None:
    """Return the first and the last port of what names one or a range; None when it names none."""
    found = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", str(port), re.ASCII)
    if isinstance(port, bool) or not found:
        return None
    first, last = int(found[1]), int(found[2] or found[1])
    return (first, last) if 1 <= first <= last <= 65535 else None


def port_faults(ports: Iterable[int | str]) -> list[str]:
    """Return what is no port and no range of ports."""
    return [str(port) for port in ports if port_range(port) is None]


def open_to_all(openings: Iterable[Mapping[str, Any]], private_ports: Iterable[int]) -> list[str]:
    """Return which private ports are open to everybody; what has another fault is left out."""
    found = []
    for opening in openings:
        ports = port_range(opening["port"])
        if ports is None or network_faults(opening["sources"]):
            continue
        # Two halves of the world are the world.
        if any(one.endswith("/0") for version in (4, 6) for one in networks(opening["sources"], version)):
            known = (port for port in private_ports if isinstance(port, int))
            found += [f"{port} ({opening['name']})" for port in known if ports[0] <= port <= ports[1]]
    return found


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., list[str]]]:
        """Return the filters by name."""
        return {
            "network_faults": network_faults,
            "networks": networks,
            "open_to_all": open_to_all,
            "port_faults": port_faults,
        }
