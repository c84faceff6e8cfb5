"""What was found on one host, reused for the hosts on which nothing can be different."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import cache
from typing import Any

from ansible.errors import AnsibleError
from ansible.template import Templar
from jinja2 import Environment
from jinja2.exceptions import TemplateError
from jinja2.nodes import Name

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import Origin

PARSER = Environment(autoescape=True)
# What may read any variable.
READS_ANY = re.compile(r"\b(lookup|query|q)\s*\(\s*['\"](ansible\.builtin\.)?(vars|varnames|template)\b|\bvars\b")


@cache
def names_in(text: str) -> frozenset[str] | None:
    """Return the variables that a text names, if it is a template; None where that cannot be told."""
    if "{" not in text:
        return frozenset()
    if READS_ANY.search(text):
        return None
    try:
        return frozenset(node.name for node in PARSER.parse(text).find_all(Name))
    except TemplateError:
        return None


class Outcomes:
    """Remembers what was found on one host for the others on which nothing can be different.

    What an expression says depends on the variables that it names, on those that these name, and so on. Where all of
    them are the same on two hosts, so is what it says. On a hundred hosts of three kinds that is most of what there is.
    A variable that names the host itself, as to tell whether the database is here, is the same where it comes to the
    same.
    """

    # Where a value itself names no others, though it looks as if; hostvars and groups are the same for all.
    PLAIN = ("ansible_facts", "groups", "hostvars", "vars")

    def __init__(self) -> None:
        """Begin with nothing."""
        self._named: dict[int, tuple[Any, frozenset[str] | None]] = {}
        self._values: dict[str, list[Any]] = {}
        self._found: dict[Any, Any] = {}
        self._host: Templar | None = None
        self._results: dict[str, int] = {}

    def of(
        self,
        what: Any,
        value: Any,
        variables: Mapping[str, Any],
        find: Callable[[], Any],
        templar: Templar | None = None,
    ) -> Any:
        """Return what `find` finds of a value, or what it found on a host with the same variables."""
        key = self._key(what, value, variables, templar)
        if key is None:
            return find()
        if key not in self._found:
            self._found[key] = find()
        return self._found[key]

    def _key(self, what: Any, value: Any, variables: Mapping[str, Any], templar: Templar | None) -> Any:
        names: set[str] = set()
        comes_to = set()
        todo = [self._names(value)]
        while todo:
            named = todo.pop()
            if named is None:
                return None
            for name in named - names:
                if name in variables and name not in self.PLAIN:
                    below = self._names(variables[name])
                    if templar and below and "inventory_hostname" in below and (same := self._comes_to(name, templar)):
                        comes_to.add((name, same))
                        continue
                    todo.append(below)
                names.add(name)
        known = frozenset((name, self._same(name, variables.get(name, ...))) for name in names)
        return what, self._same(what, value), known, frozenset(comes_to)

    def _comes_to(self, name: str, templar: Templar) -> int:
        """Return a number for what a variable comes to on the host of the templar; 0 when it cannot be resolved."""
        if self._host is not templar:
            self._host, self._results = templar, {}
        if name not in self._results:
            try:
                self._results[name] = 1 + self._same(
                    f"{name} comes to", templar.template(templar.available_variables[name])
                )
            except AnsibleError:
                self._results[name] = 0
        return self._results[name]

    def _same(self, name: str, value: Any) -> int:
        """Return a number for the value, which is the same for values that nobody can tell apart."""
        values = self._values.setdefault(name, [])
        for number, other in enumerate(values):
            if other is value or (
                type(other) is type(value) and Origin.get_tag(other) == Origin.get_tag(value) and other == value
            ):
                return number
        values.append(value)
        return len(values) - 1

    def _names(self, value: Any) -> frozenset[str] | None:
        """Return the variables that a value names; None where that cannot be told."""
        if id(value) not in self._named:
            self._named[id(value)] = value, self._parse(value)
        return self._named[id(value)][1]

    def _parse(self, value: Any) -> frozenset[str] | None:
        if isinstance(value, Mapping | list | tuple):
            parts = [*value.keys(), *value.values()] if isinstance(value, Mapping) else value
            named = [self._names(part) for part in parts]
            return None if None in named else frozenset().union(*named)  # type: ignore[arg-type]
        return names_in(value) if isinstance(value, str) else frozenset()
