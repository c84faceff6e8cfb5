"""Formats of texts: addresses, ports, time zones, calendars of systemd, configuration of Nginx."""

from __future__ import annotations

import difflib
import ipaddress
import re
import zoneinfo
from collections.abc import Callable


def is_host(text: str) -> bool:
    """Tell whether a text is an address, or a name that DNS or a hosts file can have."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        label = r"[A-Za-z0-9_]([A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?"
        numbers = re.fullmatch(r"[0-9.]+", text)
        return len(text) <= 253 and not numbers and bool(re.fullmatch(rf"{label}([.]{label})*", text))
    return True


def is_address(text: str) -> bool:
    """Tell whether a text is an address of IPv4 or IPv6."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_network(text: str) -> bool | str:
    """Tell whether a text is an address or a network; where it has bits of a host, return the network."""
    try:
        ipaddress.ip_network(text)
    except ValueError:
        try:
            return f"the network is {ipaddress.ip_network(text, strict=False)}"
        except ValueError:
            return False
    return True


def is_port_range(text: str) -> bool:
    """Tell whether a text is a port or a range of ports."""
    parts = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", text)
    return parts is not None and 1 <= int(parts[1]) <= int(parts[2] or parts[1]) <= 65535


def is_server(text: str) -> bool:
    """Tell whether the port at the end of a server's address is one; a unix socket has none."""
    return text.startswith("unix:") or 1 <= int(text.rpartition(":")[2]) <= 65535


def is_listen(text: str) -> bool:
    """Tell whether a text is a path, a port, or an address and a port."""
    if text.startswith("/"):
        return bool(re.fullmatch(r"(/[^/\s\x00]+)+", text)) and ".." not in text.split("/")
    address, _, port = text.rpartition(":")
    host = address.removeprefix("[").removesuffix("]") if address.startswith("[") else address
    return bool(re.fullmatch(r"\d{1,5}", port)) and 1 <= int(port) <= 65535 and (not address or is_host(host))


# Names of time zones that resemble another: an earlier or a later spelling. Where this machine has one of the two alone
# (Debian 13 without tzdata-legacy, an old Debian), the other is no mistake: the hosts have both.
ZONE_SPELLINGS = {
    *("Africa/Asmara", "Africa/Asmera", "America/Atka", "Asia/Kathmandu", "Asia/Katmandu", "Asia/Macao", "Asia/Macau"),
    *("Asia/Rangoon", "Asia/Yangon", "Asia/Thimbu", "Asia/Thimphu", "Atlantic/Faeroe", "Atlantic/Faroe"),
    *("Australia/North", "Europe/Kiev", "Europe/Kyiv", "Pacific/Pohnpei", "Pacific/Ponape"),
}


def is_time_zone(text: str) -> bool | str:
    """Tell whether a text is a time zone; of one that this machine does not know, whether it looks like a mistake.

    Hosts have older names that this machine may lack, as US/Eastern in a package of their own.
    """
    known = zoneinfo.available_timezones()
    if not known or text in known | ZONE_SPELLINGS:
        return True
    near = difflib.get_close_matches(text, known, n=1, cutoff=0.85)
    areas = {"US", "Canada", "Brazil", "Chile", "Mexico", *(name.partition("/")[0] for name in known if "/" in name)}
    if near:
        return f"did you mean {near[0]}?"
    return "/" not in text or text.partition("/")[0] in areas


def is_regex(text: str) -> bool:
    """Tell whether a text is a regular expression."""
    try:
        re.compile(text)
    except re.error:
        return False
    return True


CALENDAR_NAMES = "minutely|hourly|daily|weekly|monthly|quarterly|semiannually|annually|yearly"
DAY = "(mon(day)?|tue(s(day)?)?|wed(nesday)?|thu(r(s(day)?)?)?|fri(day)?|sat(urday)?|sun(day)?)"


def is_calendar(text: str) -> bool:
    """Tell whether a text looks like a calendar event of systemd.time(7); only systemd itself knows for certain."""

    def numbers(part: str, least: int, most: int) -> bool:
        one = r"(\*|\d+(\.\d+)?)((\.\.)(\d+))?(/\d+(\.\d+)?)?"
        if not re.fullmatch(f"{one}(,{one})*", part):
            return False
        values = [
            float(value) for piece in re.split(r"\.\.|,", re.sub(r"/[\d.]+", "", part)) if (value := piece) != "*"
        ]
        return all(least <= value <= most for value in values) and not re.search(r"/0+(\.0*)?(,|$)", part)

    zone = r"( (UTC|[A-Z][A-Za-z0-9_+-]*(/[A-Za-z0-9_+-]+){1,2}))?"
    if re.fullmatch(f"({CALENDAR_NAMES}){zone}", text, re.IGNORECASE):
        return True
    days = rf"(?:{DAY}(?:(?:\.\.|-|,){DAY})*,? ?)?"
    shape = re.fullmatch(rf"(?P<days>{days})(?P<rest>[0-9*/.,:~ -]*){zone}", text, re.IGNORECASE)
    if not shape or not text.strip():
        return False
    date, _, time = shape["rest"].strip().partition(" ")
    if ":" in date:
        date, time = "", date
    if date:
        parts = date.replace("~", "-").split("-")
        limits = [(0, 31), (1, 12), (1970, 2199)]
        if not 2 <= len(parts) <= 3 or not all(
            numbers(part, *limit) for part, limit in zip(reversed(parts), limits, strict=False)
        ):
            return False
    if time:
        parts = time.split(":")
        limits = [(0, 23), (0, 59), (0, 60)]
        if not 2 <= len(parts) <= 3 or not all(
            numbers(part, *limit) for part, limit in zip(parts, limits, strict=False)
        ):
            return False
    return True


def is_balanced(text: str, quotes: str = "\"'") -> bool:
    """Tell whether each brace outside of quotes is closed, and none is closed that was not opened."""
    depth, quote, escaped = 0, "", False
    for letter in text:
        if escaped:
            escaped = False
        elif letter == "\\":
            escaped = True
        elif quote:
            quote = "" if letter == quote else quote
        elif letter in quotes:
            quote = letter
        elif letter in "{}":
            depth += 1 if letter == "{" else -1
            if depth < 0:
                return False
    return depth == 0 and not quote


def is_nginx_config(text: str) -> bool:
    """Tell whether a text is whole directives of Nginx, so that it ends where it is put."""
    bare = re.sub(r"(?m)(^|[\s;{}])#.*$", r"\1", text)
    return is_balanced(re.sub(r"\$\{(\w+)\}", r"$\1", bare)) and bare.rstrip().endswith((";", "}"))


TESTS: dict[str, Callable[[str], bool | str]] = {
    "address": is_address,
    "braces": is_balanced,
    "calendar": is_calendar,
    "host": is_host,
    "listen": is_listen,
    "network": is_network,
    "nginx_config": is_nginx_config,
    "port_range": is_port_range,
    "regex": is_regex,
    "server": is_server,
    "time_zone": is_time_zone,
}
