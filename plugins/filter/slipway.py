"""Filters that write values in the form their reader wants: PostgreSQL, systemd, a URL; and one for lists of hosts."""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import stringprep
import unicodedata
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import quote

from ansible.errors import AnsibleFilterError

SCRAM_ITERATIONS = 4096

# RFC 4013, section 2.3: what no prepared string may hold (tables of RFC 3454).
PROHIBITED = (
    stringprep.in_table_a1,
    stringprep.in_table_c12,
    stringprep.in_table_c21_c22,
    stringprep.in_table_c3,
    stringprep.in_table_c4,
    stringprep.in_table_c5,
    stringprep.in_table_c6,
    stringprep.in_table_c7,
    stringprep.in_table_c8,
    stringprep.in_table_c9,
)


def saslprep(password: str) -> str:
    """Return the password as PostgreSQL's server and libpq prepare it (RFC 4013, with their exceptions).

    They leave ASCII alone, hold the prohibitions against the mapped text before it is normalised, and take a
    password that may not be prepared as it stands.
    """
    if password.isascii():
        return password
    mapped = "".join(
        " " if stringprep.in_table_c12(char) else char
        for char in password
        if stringprep.in_table_c12(char) or not stringprep.in_table_b1(char)
    )
    if not mapped or any(table(char) for char in mapped for table in PROHIBITED):
        return password
    right_to_left = [stringprep.in_table_d1(char) for char in mapped]
    if any(right_to_left) and (
        not (right_to_left[0] and right_to_left[-1]) or any(stringprep.in_table_d2(char) for char in mapped)
    ):
        return password
    return unicodedata.normalize("NFKC", mapped)


def scram_sha256(password: str, user: str) -> str:
    """Return the verifier that PostgreSQL keeps for a password; sent instead of it, no log has the password.

    RFC 5802 (SCRAM) with SHA-256 by RFC 7677. The same password and user give the same verifier, so that a
    run which changes nothing is seen as such; for that the salt comes from them. As a server tells the salt
    to whoever asks, it is derived by scrypt: guessing a password from it costs more than from the verifier.
    """
    if not isinstance(password, str) or not password or "\0" in password:
        raise AnsibleFilterError("scram_sha256 wants a password that is text and not empty")
    secret = saslprep(password).encode()
    label = b"slipway scram-sha-256 salt\0" + user.encode()
    salt = hashlib.scrypt(secret, salt=label, n=2**14, r=8, p=1, dklen=16)
    salted_password = hashlib.pbkdf2_hmac("sha256", secret, salt, SCRAM_ITERATIONS)
    client_key = hmac.digest(salted_password, b"Client Key", "sha256")
    stored_key = hashlib.sha256(client_key).digest()
    server_key = hmac.digest(salted_password, b"Server Key", "sha256")
    encoded = [base64.b64encode(part).decode("ascii") for part in (salt, stored_key, server_key)]
    return f"SCRAM-SHA-256${SCRAM_ITERATIONS}:{encoded[0]}${encoded[1]}:{encoded[2]}"


def environment_file(variables: Mapping[str, Any]) -> str:
    """Return the lines of a file for systemd's EnvironmentFile=, each value exactly as given.

    Within double quotes systemd (src/basic/env-file.c) and a POSIX shell take all characters as they are but
    for the four that a backslash escapes, so the same file serves both. systemd drops a value with control
    characters other than tab and newline.
    """
    if not isinstance(variables, Mapping):
        raise AnsibleFilterError("environment_file wants a dictionary of names and values")
    lines = []
    for name, value in variables.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", name):
            raise AnsibleFilterError(f"{name!r} cannot be the name of an environment variable")
        if isinstance(value, bool):
            value = str(value).lower()
        elif isinstance(value, int | float):
            value = str(value)
        if not isinstance(value, str):
            raise AnsibleFilterError(f"the value of {name} is not text, a number or a boolean")
        if re.search(r"[\x00-\x08\x0b-\x1f\x7f]", value):
            raise AnsibleFilterError(f"the value of {name} holds a NUL, a carriage return or another control character")
        escaped = re.sub(r'(["\\$`])', r"\\\1", value)
        lines.append(f'{name}="{escaped}"\n')
    return "".join(lines)


def exec_words(words: list[str]) -> str:
    """Return the words of a command as ExecStart= of systemd takes them: each word reaches the program as given.

    Within double quotes systemd interprets backslashes, its specifiers (%) and variables ($) only (systemd.service(5)).
    A word with a line break or another control character is refused: it would end the setting.
    """
    if isinstance(words, str) or not all(isinstance(word, str) for word in words):
        raise AnsibleFilterError("exec_words wants a list of text")
    quoted = []
    for word in words:
        if re.search(r"[\x00-\x1f\x7f]", word):
            raise AnsibleFilterError("a word of a command holds a NUL, a carriage return or another control character")
        escaped = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
        quoted.append(f'"{escaped}"')
    return " ".join(quoted)


def pgpass_field(text: str) -> str:
    """Return text as a field of a password file of PostgreSQL, in which a backslash escapes colons and backslashes."""
    return text.replace("\\", "\\\\").replace(":", "\\:")


def unit_settings(settings: Mapping[str, Any]) -> str:
    """Return settings as lines of a systemd unit.

    True and false become yes and no. A list stands for all values of a setting that takes several, in their order: what
    the unit's own file says of it is dropped first.
    """
    if not isinstance(settings, Mapping):
        raise AnsibleFilterError("unit_settings wants a dictionary of names and values")
    lines = []
    for name, value in settings.items():
        if not isinstance(name, str) or not re.fullmatch(r"[A-Z][A-Za-z0-9]*", name):
            raise AnsibleFilterError(f"{name!r} cannot be the name of a setting of systemd")
        for item in ["", *value] if isinstance(value, list) else [value]:
            text = ("yes" if item else "no") if isinstance(item, bool) else str(item)
            if re.search(r"[\x00-\x1f\x7f]|\\$", text):
                raise AnsibleFilterError(f"the value of {name} is not one line")
            lines.append(f"{name}={text}\n")
    return "".join(lines)


def url_quote(text: str) -> str:
    """Return text percent-encoded for any part of a URL; Jinja's urlencode leaves "/" as it is."""
    return quote(text, safe="")


def kept_in(items: list[str], others: list[str]) -> list[str]:
    """Return the items that are among others, in their order; select('in', others) looks at all others for each."""
    known = set(others)
    return [item for item in items if item in known]


def soft_limit_faults(workers: list[Mapping[str, Any]], limit: int) -> list[str]:
    """Return the workers of Celery whose soft time limit never comes: it is no shorter than their time limit.

    `limit` is the time limit in seconds of a worker that has none of its own.
    """
    return [
        f"{worker.get('name')} ({worker['soft_time_limit']} s)"
        for worker in workers
        if worker.get("soft_time_limit") and worker["soft_time_limit"] >= worker.get("time_limit", limit)
    ]


class FilterModule:
    """Names the filters to Ansible."""

    def filters(self) -> dict[str, Callable[..., Any]]:
        """Return the filters by name."""
        functions = (
            *(scram_sha256, environment_file, exec_words, pgpass_field, unit_settings, url_quote, kept_in),
            soft_limit_faults,
        )
        return {function.__name__: function for function in functions}
