"""How a value is shown, and what was probably meant by it."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from typing import Any

# What stands before the host in a URL; by ssh a user alone is no secret.
URL_CREDENTIALS = re.compile(r"://[^/\s?#'\"]*:[^/\s?#'\"]+@|(?<!ssh)://[^/\s?#'\"]+@", re.IGNORECASE)
MEMORY_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2}
MEMORY_UNITS |= {f"{unit}{more}": size for unit, size in MEMORY_UNITS.items() for more in ("b", "ib")}
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "str": ((str,), "text"),
    "path": ((str,), "a path"),
    "int": ((int,), "a whole number"),
    "float": ((int, float), "a number"),
    "bool": ((bool,), "true or false"),
    "list": ((list,), "a list"),
    "dict": ((dict,), "a dictionary"),
    "raw": ((object,), "anything"),
}


def describe(value: Any) -> str:
    """Say in words what a value is."""
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true or false"
    for kinds, words in TYPES.values():
        if isinstance(value, kinds):
            return words
    raise AssertionError(value)


def show(value: Any, secret: bool) -> str:
    """Write a value on one line without the credentials in its URLs, or of a secret only its length."""
    if secret:
        return f"{len(value)} characters, not shown" if isinstance(value, str) else "not shown"
    text = URL_CREDENTIALS.sub("://***@", json.dumps(value, ensure_ascii=False, default=str))
    return text if len(text) <= 80 else text[:79] + "…"


def suggest_number(text: str, name: str) -> str:
    """Say which whole number was meant by a text with a unit, or by one that is a number for others than YAML."""
    if re.fullmatch(r"\d+(\.\d*)?[eE]\+?\d+", text) and float(text).is_integer():
        return f"write {int(float(text))}"
    parts = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([A-Za-z]+)", text)
    if not parts:
        return ""
    unit = parts[2].lower()
    units, words = (MEMORY_UNITS, "MiB") if name.endswith("_mb") else (TIME_UNITS, "seconds")
    for ending, seconds in (("_minutes", 60), ("_days", 86400)):
        if name.endswith(ending):
            units, words = {key: size / seconds for key, size in TIME_UNITS.items()}, ending[1:]
    if unit not in units:
        return ""
    number = float(parts[1]) * units[unit]
    return f"write {-(-number // 1):.0f}, the number of {words}"


def suggest_type(value: Any, kind: str, name: str = "") -> str:
    """Say how the value would have to be written."""
    if kind in ("str", "path"):
        if isinstance(value, bool):
            return "write it in quotes: without them YAML takes yes, no, on and off for true or false"
        return f'write it in quotes: "{value}"' if isinstance(value, int | float) else ""
    if not isinstance(value, str):
        return ""
    text = value.strip()
    if kind == "list":
        return f"write a list: [{', '.join(part.strip() for part in text.split(',') if part.strip())}]"
    if kind == "bool" and text.lower() in ("yes", "on", "true", "1", "no", "off", "false", "0"):
        return f"write {str(text.lower() in ('yes', 'on', 'true', '1')).lower()} without quotes"
    if kind == "int" and re.fullmatch(r"-?\d+", text):
        return f"write it without quotes: {int(text)}"
    if kind == "int":
        return suggest_number(text, name)
    if kind == "float" and re.fullmatch(r"-?\d+(\.\d+)?", text):
        return f"write it without quotes: {float(text)}"
    return ""


def suggest_name(name: str, known: Iterable[str], cutoff: float = 0.6) -> str:
    """Say which known name was probably meant: the nearest whose likeness, from 0 to 1, is at least the cutoff."""
    return "".join(f"did you mean {near}?" for near in difflib.get_close_matches(name, known, n=1, cutoff=cutoff))
