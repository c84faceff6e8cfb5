"""Hold the variables of a role to its argument specification and to its checks, and collect every fault.

In a role's tasks/preflight.yml:

    slipway.kit.preflight:
      role: postgresql
      checks:
        - that: 1 <= postgresql_port <= 65535          # an expression, or a list that must all hold
          variable: postgresql_port                    # left out for a check of the host itself
          fail_msg: "must be a port from 1 to 65535"   # may be a template
          fix: "leave it out to have 5432"             # optional

`part: NAME` marks checks beside those of tasks/preflight.yml, which some playbooks run in addition: the options are not
validated again, and the faults of both are listed.

It runs once for all hosts of the play, changes nothing, opens no connection and does not fail: the faults are kept in
the fact __preflight_faults, and preflight_report refuses them all at once. Ansible's own validation is not enough for
that. It converts ("80" is a port, "a,b" a list), lets blank values and misspelt names pass, and stops at the
role where it finds the first fault.

What the specification (meta/argument_specs.yml, entry `main`) means here:
- A type is a type: nothing is converted.
- An empty value (null, "" or blanks) is a fault, unless it is the specification's own default, which gives it
  a meaning. An empty list or dictionary is one only where the option is required.
- `no_log: true` marks a secret: its value is not shown, must be long and not one that everybody knows.
- The bounds of an option stand in meta/bounds.yml beside the specification, which ansible-core and ansible-lint would
  not accept in it: ranges, patterns, and the keys of a dictionary that belong to the kit (see docs/bounds.md).
- No text holds a NUL: neither a file of configuration nor the environment of a process can.
- A variable with the role's prefix that the specification does not know is a fault; names with "__" in front
  are internal and left alone. Where the prefixes of two roles fit, the longer one owns the variable.
"""

from __future__ import annotations

import difflib
import fnmatch
import ipaddress
import json
import os
import platform
import re
import zoneinfo
from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import cache, partial
from pathlib import Path
from typing import Any

import yaml
from ansible import constants as C

# The file and line of a value: there is no public way to them.
from ansible.errors import AnsibleActionFail, AnsibleError, AnsibleUndefinedVariable, AnsibleValueOmittedError
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from jinja2 import Environment
from jinja2.exceptions import TemplateError
from jinja2.nodes import Name

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import Origin, inventory_of, role_directory

FACT = "__preflight_faults"
SECRET_LENGTH = 16
# A secret made of nothing but these words is one that stands in somebody's manual.
KNOWN_WORDS = (
    "a|the|my|your|this|it|to|is|not|please|put|in|here|change|changed|replace|me|set|todo|fix|x|qwerty|"
    "password|passwd|pass|passphrase|secret|secrets|token|key|value|string|default|example|sample|dummy|"
    "placeholder|insecure|unsafe|test|testing|demo|admin|root|user|django|postgres|postgresql|redis|letmein"
)
# What stands before the host in a URL; by ssh a user alone is no secret.
URL_CREDENTIALS = re.compile(r"://[^/\s?#'\"]*:[^/\s?#'\"]+@|(?<!ssh)://[^/\s?#'\"]+@", re.IGNORECASE)
PARSER = Environment(autoescape=True)
# What may read any variable.
READS_ANY = re.compile(r"\b(lookup|query|q)\s*\(\s*['\"](ansible\.builtin\.)?(vars|varnames|template)\b|\bvars\b")
# What templating puts before the words that a role or an inventory has for a fault.
NOISE = re.compile(r"^Error while evaluating conditional: |The filter plugin '[\w.]+\.mandatory' failed: ")
# What is taken to be so of a host that is not asked or does not answer, so that its variables can be inspected.
ASSUMED = {
    "architecture": platform.machine(),
    "distribution": "Debian",
    "distribution_major_version": "12",
    "distribution_release": "bookworm",
    "distribution_version": "12",
    "memtotal_mb": 65536,
    "os_family": "Debian",
    "processor_nproc": 2,
    "python_version": "3.11.2",
    "service_mgr": "systemd",
    "virtualization_role": "guest",
    "virtualization_type": "kvm",
}
MEMORY_UNITS = {"k": 1 / 1024, "m": 1, "g": 1024, "t": 1024**2}
MEMORY_UNITS |= {f"{unit}{more}": size for unit, size in MEMORY_UNITS.items() for more in ("b", "ib")}
TIME_UNITS = {
    **dict.fromkeys(("s", "sec", "second", "seconds"), 1),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60),
    **dict.fromkeys(("h", "hour", "hours"), 3600),
    **dict.fromkeys(("d", "day", "days"), 86400),
}
# What the wiring says where a group is empty; it holds no value, so that it can be told of secrets too.
EMPTY_GROUP = re.compile(r"no host of the site is in the group (\w+)")
# The kinds of values that several roles have.
KINDS = Path(__file__).resolve().parents[1] / "kinds.yml"
KIND_KEYS = {"kind", "min", "max", "besides", "unit", "pattern", "longest", "test", "refuse", "choices"}
KIND_KEYS |= {"must", "fix", "reason", "least", "most", "unique", "keys", "values", "reserved", "secret"}
# What holds for a list or a dictionary as a whole; the rest holds for each element of a list.
WHOLE = {"least", "most", "unique"}
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


@dataclass(frozen=True)
class Fault:
    """What is wrong with one variable, in words for the operator."""

    variable: str
    why: str
    value: str = ""
    fix: str = ""
    where: str = ""


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


def place(path: str, line: int) -> str:
    """Write a file and a line, from here where the file is below."""
    relative = os.path.relpath(path)
    return f"{path if relative.startswith('../') else relative}:{line}"


def origin(value: Any) -> str:
    """Return the file and line that a value was read from, if Ansible knows them."""
    tag = Origin.get_tag(value)
    if tag is None or not tag.path:
        return ""
    return place(tag.path, tag.line_num or 1)


def is_secret(spec: Mapping[str, Any]) -> bool:
    """Tell whether an option is a secret or has one in it."""
    parts = spec.get("options") or {}
    return bool(spec.get("no_log")) or any(is_secret(part) for part in parts.values())


def resolve_bounds(bounds: Any, kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return bounds with those of the kinds that they name; a text is the name of a kind."""
    own = {"kind": bounds} if isinstance(bounds, str) else dict(bounds)
    if unknown := own.keys() - KIND_KEYS:
        raise AnsibleActionFail(f"bounds have no key {', '.join(sorted(unknown))}; docs/bounds.md lists the keys")
    if (kind := own.pop("kind", None)) is not None:
        if kind not in kinds:
            raise AnsibleActionFail(f"there is no kind of values called {kind} in {KINDS}")
        general = resolve_bounds(kinds[kind], kinds)
        refuse = general.get("refuse", {}) | own.get("refuse", {})
        own = general | own | ({"refuse": refuse} if refuse else {})
    for part in ("keys", "values"):
        if part in own:
            own[part] = resolve_bounds(own[part], kinds)
    return own


def unshare(value: Any) -> Any:
    """Return a copy in which what stands in two places by an alias of YAML is two."""
    if isinstance(value, Mapping):
        return {name: unshare(part) for name, part in value.items()}
    return [unshare(part) for part in value] if isinstance(value, list) else value


def add_bounds(options: Mapping[str, Any], bounds: Mapping[str, Any], kinds: Mapping[str, Any]) -> dict[str, Any]:
    """Return options with a key `bounds` each, from bounds by name; `a.b` is the sub-option b of a."""
    result: dict[str, Any] = unshare(options)
    for path, own in bounds.items():
        first, *below = path.split(".")
        try:
            spec = result[first]
            for name in below:
                spec = spec["options"][name]
        except KeyError as error:
            raise AnsibleActionFail(f"meta/bounds.yml has bounds of {path}, which is no option") from error
        spec["bounds"] = resolve_bounds(own, kinds)
    return result


@cache
def load_kinds() -> dict[str, Any]:
    """Return the kinds of values; read without Ansible, which is slower, as they hold no templates."""
    kinds: dict[str, Any] = yaml.load(KINDS.read_bytes(), Loader=yaml.CSafeLoader)
    return kinds


def read_options(role: Path, loader: DataLoader) -> dict[str, Any]:
    """Return the options of a role's specification, with their bounds."""
    path = role / "meta/argument_specs.yml"
    try:
        options = loader.load_from_file(str(path))["argument_specs"]["main"]["options"] or {}
    except (AnsibleError, KeyError, TypeError) as error:
        raise AnsibleActionFail(f"{path} has no options of 'main'") from error
    own = role / "meta/bounds.yml"
    bounds = (loader.load_from_file(str(own)) if own.exists() else None) or {}
    return add_bounds(options, bounds, load_kinds())


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


def judge_range(value: float, bounds: Mapping[str, Any]) -> str | None:
    """Return why a number is out of its bounds."""
    least, most = bounds.get("min"), bounds.get("max")
    inside = (least is None or value >= least) and (most is None or value <= most)
    if inside or value in bounds.get("besides", ()):
        return None
    unit = f" {bounds['unit']}" if "unit" in bounds else ""
    limits = f"{least}{unit} or more" if most is None else f"from {least} to {most}{unit}"
    reason = f" ({bounds['reason']})" if "reason" in bounds else ""
    return str(bounds.get("must") or f"must be {limits}{reason}")


def judge_bounds(value: Any, bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a number, a text or the length of a list is out of its bounds, and what to write."""
    fix = str(bounds.get("fix", ""))
    if isinstance(value, bool) or value is None:
        return None
    if isinstance(value, list):
        return judge_list(value, bounds)
    if not isinstance(value, str | int | float):
        return None
    if {"min", "max"} & bounds.keys():
        if isinstance(value, str):
            return "must be a whole number, is text", suggest_type(value, "int")
        why = judge_range(value, bounds)
        return (why, fix) if why else None
    text = str(value)
    must = str(bounds.get("must", f"must match {bounds.get('pattern', '')}"))
    for pattern, why in (bounds.get("refuse") or {}).items():
        if re.search(pattern, text):
            return str(why), fix
    if len(text) > bounds.get("longest", 65536):
        return f"is longer than {bounds.get('longest', 65536)} characters", fix
    if "pattern" in bounds and not re.fullmatch(bounds["pattern"], text, re.DOTALL):
        return must, fix
    if "choices" in bounds and text not in map(str, bounds["choices"]):
        return must, suggest_name(text, map(str, bounds["choices"])) or fix
    if "test" in bounds and (said := TESTS[bounds["test"]](text)) is not True:
        return must, said or fix
    return None


def judge_list(value: list[Any], bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a list has too few or too many elements, or two that are the same."""
    fix = str(bounds.get("fix", ""))
    if len(value) < bounds.get("least", 0):
        return f"must have {bounds['least']} or more elements", fix
    if len(value) > bounds.get("most", 1000):
        return f"has {len(value)} elements; must have at most {bounds.get('most', 1000)}", fix
    if unique := bounds.get("unique"):
        keys = [item.get(unique) if isinstance(item, Mapping) else item for item in value]
        twice = sorted({str(key) for key in keys if key is not None and keys.count(key) > 1})
        if twice:
            return f"has two of one {unique if isinstance(unique, str) else 'value'}: {', '.join(twice)}", fix
    return None


def reserved_key(key: Any, bounds: Mapping[str, Any]) -> tuple[str, str] | None:
    """Return why a key of a dictionary belongs to the kit, and what to write in its place."""
    for pattern, instead in (bounds.get("reserved") or {}).items():
        if fnmatch.fnmatchcase(str(key).lower(), pattern.lower()):
            if re.fullmatch(r"[a-z]+(_[a-z0-9]+)+", instead):
                return f"is set by {instead}, and not here", f"take it out, and set {instead}"
            return f"is not for this variable: {instead}", "take it out"
    return None


def keep(
    variables: Mapping[str, Any], role: str, faults: Iterable[tuple[str, Fault]], part: str = ""
) -> dict[str, Any]:
    """Return the fact that keeps faults of hosts, in place of those that the same part of the same role had before.

    The name of this run's temporary folder tells its faults from those of an earlier run, which a persistent cache of
    facts would bring back.
    """
    run = os.path.basename(C.DEFAULT_LOCAL_TMP)
    others = [
        fault
        for fault in variables.get("ansible_facts", {}).get(FACT, [])
        if fault["run"] == run and (fault["role"], fault.get("part", "")) != (role, part)
    ]
    found = [{"run": run, "host": host, "role": role, "part": part, **asdict(fault)} for host, fault in faults]
    return {"ansible_facts": {FACT: others + found}}


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
            fix = str((spec.get("bounds") or {}).get("fix", ""))
            return ("is empty and required", fix) if spec.get("required") and not value else None
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


class Remembered(dict[str, Any]):
    """The variables of a host as others see them through hostvars: each is resolved once."""

    def __init__(self, variables: Mapping[str, Any], loader: DataLoader) -> None:
        """Take the host's variables."""
        super().__init__(variables)
        self._templar = Templar(loader, dict(variables))
        self._resolved: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a variable, resolved."""
        if name not in self._resolved:
            self._resolved[name] = self._templar.template(super().__getitem__(name))
        return self._resolved[name]


class Hosts:
    """The variables of all hosts as a role's tasks see them.

    Ansible puts a host's variables together whenever somebody asks for one of them. Where each of a hundred hosts asks
    for the addresses of all others, that is all that it does.
    """

    def __init__(self, variables: Mapping[str, Any], loader: DataLoader) -> None:
        """Take what the task itself is given, which is for one of the hosts."""
        self._known: HostVars = variables["hostvars"]
        self._loader = loader
        self._raw: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, Remembered] = {}
        self._roles: dict[tuple[Path, str], dict[str, Any]] = {}
        own = self.raw(variables["inventory_hostname"])
        # What belongs to the play and the role rather than to the host.
        self._context = {name: value for name, value in variables.items() if name not in own}
        self._hostvars = HostVars(inventory_of(self._known), self, loader)  # type: ignore[arg-type]
        self._context["hostvars"] = self._hostvars

    def raw(self, name: str) -> dict[str, Any]:
        """Return what the inventory and the facts say of a host; those of one that was not asked are assumed."""
        if name not in self._raw:
            self._raw[name] = dict(self._known.raw_get(name))
            self._raw[name]["ansible_facts"] = ASSUMED | self._raw[name].get("ansible_facts", {})
        return self._raw[name]

    def known_facts(self, name: str) -> dict[str, Any]:
        """Return what a host has said of itself."""
        facts: dict[str, Any] = self._known.raw_get(name).get("ansible_facts", {})
        return facts

    def get_vars(self, host: Any, include_hostvars: bool = False) -> Remembered:
        """Return what hostvars shows of a host; HostVars asks for it as it would ask Ansible."""
        if host.name not in self._seen:
            self._seen[host.name] = Remembered(self.raw(host.name), self._loader)
        return self._seen[host.name]

    def variables(self, name: str, *roles: Path) -> dict[str, Any]:
        """Return all variables of a host, with the defaults and the internal variables of roles."""
        defaults: dict[str, Any] = {}
        internal: dict[str, Any] = {}
        for role in roles:
            defaults |= self._of_role(role, "defaults")
            internal |= self._of_role(role, "vars")
        return defaults | self._context | internal | self.raw(name)

    def _of_role(self, role: Path, kind: str) -> dict[str, Any]:
        if (role, kind) not in self._roles:
            path = role / kind / "main.yml"
            found = self._loader.load_from_file(str(path), trusted_as_template=True) if path.exists() else {}
            self._roles[role, kind] = found or {}
        return self._roles[role, kind]


class ActionModule(ActionBase):
    """Collect the faults of a role's variables on all hosts of the play."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave the checks as they are written: each is evaluated for itself, as assert does with `that`."""
        return value if name == "checks" else super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the faults so far, with those of this role, as a fact."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True},
                "part": {"type": "str", "default": ""},
                "checks": {"type": "list", "elements": "raw", "default": []},
            }
        )
        role, part = arguments["role"], arguments["part"]
        path = self.find_role(role)
        options = read_options(path, self._loader)
        roles = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
        hosts = Hosts(variables, self._loader)
        outcomes = Outcomes()
        faults = []
        for host in variables["ansible_play_hosts"]:
            own = hosts.variables(host, path)
            inspector = Inspector(role, roles, options, own, Templar(self._loader, dict(own)), outcomes)
            if not part:
                inspector.inspect_options()
                inspector.inspect_names()
            inspector.inspect_checks(arguments["checks"])
            faults += [(host, fault) for fault in inspector.faults]
        return result | {"changed": False, "faults": len(faults)} | keep(variables, role, faults, part)

    def find_role(self, role: str) -> Path:
        """Return the folder of a role: beside the one that this task is in, or on Ansible's path."""
        own = role_directory(self)
        folders = [os.path.dirname(own)] if own else C.DEFAULT_ROLES_PATH
        for folder in folders:
            if os.path.isdir(os.path.join(folder, role)):
                return Path(folder, role)
        raise AnsibleActionFail(f"there is no role {role} in {', '.join(folders)}")
