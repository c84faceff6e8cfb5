"""Filters for URLs, paths, host names and sizes, as an operator may write them and as each program reads them."""

from __future__ import annotations

import ipaddress
import re
import unicodedata
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import quote, unquote

from ansible.errors import AnsibleFilterError

LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?", re.IGNORECASE)
# What may stand in a request as it is (RFC 3986), the percent sign of an escape included.
KEPT = "/%:@!$&'()*+,;=~?[]"
UNITS = {"": 1, "k": 2**10, "m": 2**20, "g": 2**30}


def url_ascii(text: str) -> str:
    """Return a path or a URL with what a request cannot hold percent-encoded; escapes that are there stay.

    Characters beyond ASCII are encoded as UTF-8 (RFC 3987). A percent sign that begins no escape is one itself. The
    host of a URL is not looked at.
    """
    return quote(re.sub(r"%(?![0-9A-Fa-f]{2})", "%25", str(text)), safe=KEPT)


def url_path(text: str) -> str:
    """Return the path of what a request asks for as Nginx compares it: decoded, without the query."""
    path = re.split(r"[?#]", str(text), maxsplit=1)[0]
    try:
        return unquote(path, errors="strict")
    except UnicodeDecodeError:
        return path


def paths_below(paths: Iterable[str], places: Iterable[str]) -> list[str]:
    """Return the paths that one of the places takes, each with the place.

    A place is as Nginx takes it after `location`: a prefix, as `/static/`, or one exact path, as `= /old/`.
    """
    known = [(place.startswith("= "), url_path(place.removeprefix("= "))) for place in places]
    found = []
    for path in paths:
        asked = url_path(path)
        for exact, place in known:
            if asked == place or (not exact and asked.startswith(place)):
                found.append(f"{path} (below {place})" if asked != place else str(path))
                break
    return found


def size_bytes(text: str | int) -> int:
    """Return the bytes of a size in Nginx's notation, as 16k."""
    found = re.fullmatch(r"(\d+)([kmg]?)", str(text).lower(), re.ASCII)
    if not found:
        raise AnsibleFilterError(f"{text!r} is no size, as 16k or 10m")
    return int(found[1]) * UNITS[found[2]]


def host_port(address: str, port: int) -> str:
    """Return an address or a name with a port, an IPv6 address in brackets."""
    return f"[{address}]:{port}" if ":" in str(address) and not str(address).startswith("[") else f"{address}:{port}"


def punycode(name: str) -> str:
    """Return a name as DNS has it, each label that is not ASCII as `xn--` and its Punycode (RFC 5891)."""
    labels = unicodedata.normalize("NFC", name.lower()).split(".")
    return ".".join(label if label.isascii() else f"xn--{label.encode('punycode').decode('ascii')}" for label in labels)


def is_ipv6(text: str) -> bool:
    """Tell whether a text is an IPv6 address."""
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def host_fault(name: str) -> str:
    """Return why a name cannot be the Host of a request, empty when it can."""
    text = str(name)
    if "://" in text:
        return "leave the scheme out"
    if text.startswith("["):
        return "" if text.endswith("]") and is_ipv6(text[1:-1]) else "no IPv6 address stands in the brackets"
    if is_ipv6(text):
        return f"an IPv6 address stands in brackets: [{text}]"
    if not text.isascii():
        return f"DNS and browsers have it as {punycode(text)}: write that"
    if "_" in text:
        return "Django and certificate authorities refuse an underscore in a host name"
    bare = text.removeprefix("*.")
    if "*" in bare:
        return "an asterisk stands for the first label alone, as *.example.com"
    if len(text) > 253:
        return "longer than 253 characters"
    return "" if all(map(LABEL.fullmatch, bare.split("."))) else "not a host name"


def host_faults(names: Iterable[str]) -> list[str]:
    """Return the names that cannot be the Host of a request, each with the reason; `*.example.com` can."""
    return [f"{name} ({fault})" for name in names if (fault := host_fault(name))]


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = (url_ascii, url_path, paths_below, size_bytes, host_port, host_faults)
        return {function.__name__: function for function in functions}
