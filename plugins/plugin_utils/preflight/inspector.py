"""The variables of one role on one host, compared with their specification."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import Any

from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.template import Templar

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.bounds import (
    WHOLE,
    is_secret,
    judge_bounds,
    reserved_key,
)
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import Fault, origin
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.suggestions import (
    TYPES,
    describe,
    show,
    suggest_name,
    suggest_type,
)

SECRET_LENGTH = 16
# A secret made of nothing but these words is one that stands in somebody's manual.
KNOWN_WORDS = (
    "a|the|my|your|this|it|to|is|not|please|put|in|here|change|changed|replace|me|set|todo|fix|x|qwerty|"
    "password|passwd|pass|passphrase|secret|secrets|token|key|value|string|default|example|sample|dummy|"
    "placeholder|insecure|unsafe|test|testing|demo|admin|root|user|django|postgres|postgresql|redis|letmein"
)
# What templating puts before the words that a role or an inventory has for a fault.
NOISE = re.compile(r"^Error while evaluating conditional: |The filter plugin '[\w.]+\.mandatory' failed: ")
# What the wiring says where a group is empty; it holds no value, so that it can be told of secrets too.
EMPTY_GROUP = re.compile(r"no host of the site is in the group (\w+)")


class Inspector:
    """Collects the faults of one role's variables on one host."""

    def __init__(
        self,
        role: str,
        roles: Iterable[str],
        options: Mapping[str, Any],
        variables: Mapping[str, Any],
        templar: Templar,
        outcomes: Outcomes | None = None,
    ) -> None:
        """Take the role's name, the names of all roles, the role's options and the host's variables."""
        self._outcomes = outcomes or Outcomes()
        self._role = role
        self._roles = sorted(roles, key=len, reverse=True)
        self._options = options
        self._variables = variables
        self._templar = templar
        self.faults: list[Fault] = []

    def inspect_options(self) -> None:
        """Hold each option's value to its specification."""
        for name, spec in self._options.items():
            if name in self._variables:
                value = self._variables[name]
                resolved = self._once(name, value, partial(self._inspect, name, value, spec))
                if resolved is not ...:
                    self._templar.available_variables[name] = resolved  # the checks need not work it out again
            elif spec.get("required"):
                self._add(name, "is required and not set")

    def inspect_names(self) -> None:
        """Find names that look like the role's variables and are none."""
        for name, value in self._variables.items():
            if not isinstance(name, str) or name in self._options or name.startswith("__"):
                continue
            if isinstance(value, dict) and {"changed", "failed"} <= value.keys():
                continue  # a result that a task has registered is no configuration
            owner = next((role for role in self._roles if name.startswith(f"{role}_")), None)
            if owner == self._role:
                fix = suggest_name(name, self._options)
                self._add(name, "is not a variable of this role", origin(name), fix)
            elif owner is None and (meant := self._meant(name)):
                self._add(name, "is not a variable of any role", origin(name), f"did you mean {meant}?")

    def inspect_checks(self, checks: list[Any]) -> None:
        """Evaluate the role's checks, but for those of variables that have a fault already."""
        faulty = {re.split(r"[.\[]", fault.variable)[0] for fault in self.faults}
        for number, check in enumerate(checks):
            known = isinstance(check, dict) and check.keys() <= {"that", "variable", "fail_msg", "fix"}
            if not known or "that" not in check:
                raise AnsibleActionFail(f"a check of {self._role} has that, variable, fail_msg and fix alone")
            expressions = check["that"] if isinstance(check["that"], list) else [check["that"]]
            name = check.get("variable") or ""
            mentioned = {name, *re.findall(r"\w+", " ".join(map(str, expressions)))}
            if faulty.isdisjoint(mentioned):
                # Its variable is named too, as what it was read from is told.
                written = ["{{" + str(text) + "}}" for text in (*expressions, name or "true")]
                value = [*written, check.get("fail_msg"), check.get("fix")]
                self._once(str(number), value, partial(self._check, name, expressions, check))

    def _once(self, what: str, value: Any, find: Callable[[], Any]) -> Any:
        """Find faults of a value, or have those of a host on which it is the same; without any, return what it is."""

        def added() -> tuple[list[Fault], Any]:
            before = len(self.faults)
            result = find()
            found = self.faults[before:]
            del self.faults[before:]
            return found, ... if found else result

        faults, result = self._outcomes.of(what, value, self._variables, added, self._templar)
        self.faults += faults
        return result

    def _check(self, name: str, expressions: list[Any], check: Mapping[str, Any]) -> None:
        spec = self._options.get(name, {})
        try:
            broken = [text for text in expressions if not self._templar.evaluate_conditional(text)]
        except AnsibleError as error:
            text = " and ".join(map(str, expressions))
            self._add_error(name, error, spec, f"cannot be checked by '{text}'")
            return
        if not broken:
            return
        try:
            why = self._templar.template(check.get("fail_msg", f"does not hold: {broken[0]}"))
            fix = self._templar.template(check.get("fix", ""))
            value = self._variables.get(name)
            shown = show(self._templar.template(value), is_secret(spec)) if name in self._variables else ""
        except AnsibleError as error:
            self._add_error(name, error, spec, "has a fault, and its message cannot be written")
            return
        self._add(name, str(why), origin(value), str(fix), shown)

    def _inspect(
        self,
        path: str,
        value: Any,
        spec: Mapping[str, Any],
        secret: bool = False,
        where: str = "",
        resolved: bool = False,
    ) -> Any:
        """Hold a value and its parts to the specification, resolving them one by one to find every fault.

        Return it resolved, or what is left of it where there is a fault. The parts of what a template has come to are
        `resolved` with it.
        """
        secret = secret or bool(spec.get("no_log"))
        where = origin(value) or where
        if not resolved and not isinstance(value, dict | list):
            resolved = True
            try:
                value = self._templar.template(value)
            except AnsibleValueOmittedError:
                if spec.get("required"):
                    self._add(path, "is required and omitted", where)
                return ...
            except AnsibleError as error:
                self._add_error(path, error, {"no_log": secret}, "cannot be resolved", where)
                return ...
        bounds = spec.get("bounds") or {}
        if problem := self._judge(path, value, spec, secret) or self._judge_bounds(value, spec):
            why, fix = problem
            hidden = secret or is_secret(spec) or bool(bounds.get("secret"))
            self._add(path, why, where, fix, show(value, hidden))
        elif isinstance(value, list):
            element = {name: spec[name] for name in ("choices", "options") if name in spec}
            element["type"] = spec.get("elements", "raw")
            element["bounds"] = {name: own for name, own in bounds.items() if name not in WHOLE}
            parts = [
                self._inspect(f"{path}[{index}]", item, element, secret, where, resolved)
                for index, item in enumerate(value)
            ]
            return [part for part in parts if part is not ...]
        elif isinstance(value, dict):
            secret = secret or bool(bounds.get("secret"))
            self._inspect_keys(path, value, bounds, secret, where)
            return self._inspect_dict(path, value, spec.get("options"), secret, where, resolved, bounds)
        return value

    @staticmethod
    def _judge_bounds(value: Any, spec: Mapping[str, Any]) -> tuple[str, str] | None:
        if isinstance(value, str) and "\0" in value:
            return "holds a NUL, which no file of configuration and no process can be given", "take it out"
        # What is empty is the default and has a meaning of its own, or a fault already.
        if value == "" or (isinstance(value, list) and not value and value == spec.get("default")):
            return None
        return judge_bounds(value, spec.get("bounds") or {})

    def _inspect_keys(
        self, path: str, value: Mapping[Any, Any], bounds: Mapping[str, Any], secret: bool, where: str
    ) -> None:
        """Hold the keys of a dictionary to their bounds, and refuse those that belong to the kit."""
        for key in value:
            keys = bounds.get("keys") or {}
            problem = reserved_key(key, bounds) or self._judge_bounds(str(key), {"bounds": keys})
            if problem:
                shown = "" if isinstance(value[key], str) and "{" in value[key] else show(value[key], secret)
                self._add(f"{path}.{show(str(key), False)[1:-1]}", problem[0], origin(key) or where, problem[1], shown)

    def _inspect_dict(
        self,
        path: str,
        value: dict[Any, Any],
        options: Mapping[str, Any] | None,
        secret: bool,
        where: str,
        resolved: bool,
        bounds: Mapping[str, Any],
    ) -> dict[Any, Any]:
        parts = {}
        values = {"type": "raw", "bounds": bounds.get("values") or {}}
        for name, item in value.items():
            if options is None:
                parts[name] = self._inspect(f"{path}.{name}", item, values, secret, where, resolved)
            elif name in options:
                parts[name] = self._inspect(f"{path}.{name}", item, options[name], secret, where, resolved)
            else:
                fix = suggest_name(str(name), options) or f"known are: {', '.join(options)}"
                self._add(f"{path}.{name}", "is not an option here", origin(name) or where, fix)
        for name, spec in (options or {}).items():
            if spec.get("required") and name not in value:
                self._add(f"{path}.{name}", "is required and not set", where)
        return {name: part for name, part in parts.items() if part is not ...}

    def _judge(self, name: str, value: Any, spec: Mapping[str, Any], secret: bool) -> tuple[str, str] | None:
        """Return why a resolved value is wrong, and what to write; None where it is right."""
        kind = spec.get("type", "str")
        if kind not in TYPES:
            raise AnsibleActionFail(f"the specification of {self._role} has a type not known here: {kind}")
        if kind == "raw":
            return None
        accepted, words = TYPES[kind]
        if value is None or (isinstance(value, str) and not value.strip()):
            if "default" in spec and value == spec["default"]:
                return None
            what = "null" if value is None else "empty" if value == "" else "blank"
            fix = "leave it out to have the default" if "default" in spec else ""
            return f"is {what}, must be {words}", fix
        if not isinstance(value, accepted) or (isinstance(value, bool) and kind != "bool"):
            return f"must be {words}, is {describe(value)}", "" if secret else suggest_type(value, kind, name)
        if isinstance(value, list | dict):
            bounds = spec.get("bounds") or {}
            may_be_empty = not spec.get("required") or bounds.get("least") == 0
            return None if value or may_be_empty else ("is empty and required", str(bounds.get("fix", "")))
        if (choices := spec.get("choices")) and value not in choices:
            fix = "" if secret else suggest_name(str(value), map(str, choices))
            return f"must be one of {', '.join(map(str, choices))}", fix
        return self._judge_secret(value) if secret and isinstance(value, str) else None

    @staticmethod
    def _judge_secret(value: str) -> tuple[str, str] | None:
        fix = "write one of your own, for example of 32 letters and digits"
        if re.search(r"[\r\n\0]", value):
            return "is a secret and holds a newline", "write it on one line"
        if len(value) < SECRET_LENGTH:
            return f"is a secret of {len(value)} characters, needs {SECRET_LENGTH}", fix
        letters = re.sub(r"[^a-z]", "", value.lower())
        known = value.startswith("django-insecure-") or re.fullmatch(f"({KNOWN_WORDS})*", letters)
        if known or len(set(value)) < 5:
            return "is a secret that everybody knows or can guess", fix
        return None

    def _meant(self, name: str) -> str | None:
        """Return the role's variable that a name means whose prefix is misspelt."""
        for known in self._options:
            suffix = known.removeprefix(self._role)
            prefix = name.removesuffix(suffix)
            if prefix != name and difflib.SequenceMatcher(None, prefix, self._role).ratio() >= 0.8:
                return known
        return None

    def _add(self, variable: str, why: str, where: str = "", fix: str = "", value: str = "") -> None:
        self.faults.append(Fault(variable, why, value, fix, where))

    def _add_error(
        self, variable: str, error: AnsibleError, spec: Mapping[str, Any], why: str, where: str = ""
    ) -> None:
        """Add what templating says; of a secret only a missing name, as other messages may quote it."""
        missing = re.search(r"'(\w+)' is undefined", str(error))
        fix = ""
        if isinstance(error, AnsibleUndefinedVariable) and missing:
            why = f"refers to {missing[1]}, which is not defined"
            if missing[1].startswith("vault_"):
                fix = "run playbooks/secrets.yml for this inventory"
        elif empty := EMPTY_GROUP.search(str(error)):
            why = f"needs a host in the group {empty[1]}, which has none"
            fix = f"name one in the group {empty[1]}, or write here where the service is"
        elif not is_secret(spec):
            why = f"{why}: {NOISE.sub('', str(error))}"
        self._add(variable, why, where, fix)
