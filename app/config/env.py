"""Typed readers of the process environment that fail loudly and report every fault at once.

They stand on django-environ, which parses the URLs and lets each variable NAME be given as NAME_FILE, a
path whose content is the value. What is added is strictness: django-environ takes a misspelt boolean for
false, replaces a value that starts with a dollar sign by another variable, and stops at the first fault.
"""

import sys
from collections.abc import Callable
from typing import Any, TypeVar
from urllib.parse import urlsplit

import environ
from django.core.exceptions import ImproperlyConfigured
from environ.fileaware_mapping import FileAwareMapping

T = TypeVar("T")

TRUE = {"1", "on", "true", "yes"}
FALSE = {"0", "false", "no", "off"}


def runs_on_gevent() -> bool:
    """Say whether gevent has replaced threads by greenlets, as its workers of gunicorn and Celery do first."""
    monkey = sys.modules.get("gevent.monkey")
    return monkey is not None and monkey.is_module_patched("threading")


class Environment:
    """Reads variables, remembers what is wrong with them, and refuses all of it together.

    A reader answers with the default when the variable is missing or faulty, so that reading goes on;
    ``refuse_faults`` must be called when all are read. No message repeats a value: it may be a secret.
    """

    def __init__(self) -> None:
        self.variables = FileAwareMapping(cache=False)
        self.faults: list[str] = []

    def refuse_faults(self) -> None:
        """Raise ImproperlyConfigured with every fault found so far, if there is any."""
        if self.faults:
            faults = "".join(f"\n  - {fault}" for fault in self.faults)
            raise ImproperlyConfigured(f"The environment is not usable:{faults}")

    def text(self, name: str, default: str = "", *, required: bool = False) -> str:
        """Return the variable without white space around it (files end with a newline); blank is missing."""
        try:
            value = self.variables.get(name, "").strip()
        except OSError as error:
            self.faults.append(f"{name}_FILE cannot be read: {error.strerror}")
            return default
        if not value and required:
            self.faults.append(f"{name} is required: set it, or {name}_FILE to a file that holds it")
        return value or default

    def _parsed(self, name: str, value: str, parse: Callable[[str], T], default: T, expected: str) -> T:
        if not value:
            return default
        try:
            return parse(value)
        except (ValueError, KeyError, ImproperlyConfigured):
            self.faults.append(f"{name} must be {expected}")
            return default

    def flag(self, name: str, default: bool) -> bool:
        """Return a boolean; anything but the listed words is a fault, never a silent false."""

        def parse(value: str) -> bool:
            if value.lower() in TRUE | FALSE:
                return value.lower() in TRUE
            raise ValueError

        return self._parsed(name, self.text(name), parse, default, "true or false")

    def number(self, name: str, default: int, most: int | None = None) -> int:
        """Return an integer of zero or more, up to a limit if there is one."""

        def parse(value: str) -> int:
            if value.isdecimal() and (most is None or int(value) <= most):
                return int(value)
            raise ValueError

        expected = "a whole number, zero or more" if most is None else f"a whole number from 0 to {most}"
        return self._parsed(name, self.text(name), parse, default, expected)

    def choice(self, name: str, default: str, choices: tuple[str, ...]) -> str:
        """Return one of a few words, in upper case."""

        def parse(value: str) -> str:
            return choices[choices.index(value.upper())]

        return self._parsed(name, self.text(name), parse, default, f"one of {', '.join(choices)}")

    def names(self, name: str, *, required: bool = False) -> list[str]:
        """Return a comma-separated list without blanks."""
        return [item.strip() for item in self.text(name, required=required).split(",") if item.strip()]

    def origin(self, name: str) -> str:
        """Return an address such as https://example.org, to which paths are appended, or nothing."""

        def parse(value: str) -> str:
            url = urlsplit(value)
            # Reading the port checks it.
            if url.scheme not in {"http", "https"} or not url.hostname or url.port == 0 or "@" in url.netloc:
                raise ValueError
            if value != f"{url.scheme}://{url.netloc}":
                raise ValueError
            return value

        return self._parsed(name, self.text(name), parse, "", "like https://example.org, without a path")

    def database(self, name: str) -> dict[str, Any]:
        """Return Django's database settings from a postgresql:// URL."""

        def parse(value: str) -> dict[str, Any]:
            # Checked first: django-environ's warning about any other scheme would show the password.
            if not value.startswith(("postgres://", "postgresql://")):
                raise ValueError
            config = environ.Env.db_url_config(value)
            if not config["NAME"]:
                raise ValueError
            return config

        expected = "postgresql://user:password@host:port/name, with the password percent-encoded"
        return self._parsed(name, self.text(name, required=True), parse, {}, expected)

    def redis(self, name: str) -> str:
        """Return a redis:// or rediss:// URL that names its host and its database number."""

        def parse(value: str) -> str:
            url = urlsplit(value)
            # Reading the port checks it.
            if url.scheme not in {"redis", "rediss"} or not url.hostname or url.port == 0:
                raise ValueError
            int(url.path.removeprefix("/"))
            return value

        expected = "redis://user:password@host:port/number, with the password percent-encoded"
        return self._parsed(name, self.text(name, required=True), parse, "", expected)

    def folder_url(self, name: str, default: str) -> str:
        """Return the address below which files are served: a path of this site, or a URL of another one."""

        def parse(value: str) -> str:
            url = urlsplit(value)
            is_url = url.scheme in {"http", "https"} and url.hostname
            # All of the site would be files if the path were "/".
            is_path = not url.scheme and not url.netloc and value.startswith("/") and value != "/"
            if not (is_url or is_path) or url.query or url.fragment or not value.endswith("/"):
                raise ValueError
            return value

        expected = f"a path such as {default} or a URL such as https://cdn.example.com{default}, ending with a slash"
        return self._parsed(name, self.text(name, default), parse, default, expected)

    def email(self, name: str, default: str) -> dict[str, Any]:
        """Return Django's EMAIL_* settings from a URL such as smtp+tls://user:password@host:587."""

        def parse(value: str) -> dict[str, Any]:
            config = environ.Env.email_url_config(value)
            if value.startswith("filemail:"):
                # django-environ drops the slash that makes the path absolute.
                config["EMAIL_FILE_PATH"] = "/" + config["EMAIL_FILE_PATH"].lstrip("/")
            return config

        expected = "smtp://host:25, smtp+tls://user:password@host:587, filemail:///folder or consolemail://"
        return self._parsed(name, self.text(name, default), parse, parse(default), expected)
