"""Templates, rendered by Ansible's own templar for hosts of both releases; what is undefined is a failure."""

from __future__ import annotations

import configparser
import re
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleUndefinedVariable
from ansible.template import Templar, trust_as_template
from conftest import RELEASES, ROLES, ROOT, SECRETS, WIRING, load_yaml
from rendering import USES, Use, render


def ids(use: Use) -> str:
    """Name a case by its role and task."""
    return f"{use.role.name}: {use.task['name']}"


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("use", USES, ids=ids)
def test_template_renders_clean(use: Use, release: str, variables_for: Callable[..., dict[str, Any]]) -> None:
    for path, text, *_ in render(use, variables_for(use.role, release)):
        lines = text.splitlines()
        assert path.endswith(".json") or "Ansible managed" in "\n".join(lines[:3]), f"{path} does not say who owns it"
        assert text.endswith("\n") and not text.endswith("\n\n"), f"{path} does not end with one newline"
        assert not [line for line in lines if line != line.rstrip()], f"{path} has blanks at the end of a line"
        assert not re.search(r"\{\{|\}\}|\{%|%\}|\{#", text), f"{path} has a template left in it"
        if not path.endswith(".py"):
            bare = re.sub(r"^\s*[#;].*$", "", text, flags=re.MULTILINE)
            assert not re.search(r"\b(True|False|None|omit)\b", bare), f"{path} has a value of Python's or Ansible's"


def test_undefined_is_a_failure(variables_for: Callable[..., dict[str, Any]]) -> None:
    """Without its role's variables a template does not render."""
    use = next(use for use in USES if use.role.name == "base")
    variables = variables_for(use.role, "12")
    without = {name: value for name, value in variables.items() if not name.startswith("base_")}
    with pytest.raises(AnsibleUndefinedVariable):
        render(use, without)


def test_every_template_is_used(variables_for: Callable[..., dict[str, Any]]) -> None:
    templates = {path for role in ROLES for path in role.rglob("templates/**/*.j2")}
    assert templates
    assert templates == {
        file.source for use in USES for release in RELEASES for file in render(use, variables_for(use.role, release))
    }


def of_kind(texts: dict[str, str], pattern: str) -> dict[str, str]:
    """Return the rendered files whose path matches, of which there must be some."""
    found = {path: text for path, text in texts.items() if re.search(pattern, path)}
    assert found, f"no file is like {pattern}"
    return found


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize(
    "extra",
    [{}, *({"gunicorn_worker_class": name, "gunicorn_threads": 4} for name in ("sync", "gthread", "gevent"))],
    ids=str,
)
def test_python_compiles(rendered: Callable[..., dict[str, str]], release: str, extra: dict[str, Any]) -> None:
    for path, text in of_kind(rendered(release, **extra), r"\.py$").items():
        compile(text, path, "exec")


@pytest.mark.parametrize("release", RELEASES)
def test_units_are_sections_of_settings(rendered: Callable[..., dict[str, str]], release: str) -> None:
    known = {
        *("service", "socket", "unit", "install", "timer", "journal", "journald", "path", "mount", "slice", "swap"),
        *("manager", "resolve", "time", "link", "match", "network"),
    }
    for path, text in of_kind(rendered(release), r"^/etc/systemd/").items():
        parser = configparser.RawConfigParser(strict=False, delimiters="=", empty_lines_in_values=False)
        parser.optionxform = str  # type: ignore[assignment,method-assign]
        parser.read_string(text, path)
        assert parser.sections(), f"{path} is empty"
        assert {name.lower() for name in parser.sections()} <= known, path
        for section in parser.sections():
            for name in parser[section]:
                assert re.fullmatch(r"[A-Z][A-Za-z0-9]*", name), f"{path}: [{section}] {name}"


@pytest.mark.parametrize("release", RELEASES)
def test_process_that_the_kernel_kills_for_memory_does_not_stop_its_service(
    release: str, rendered: Callable[..., dict[str, str]]
) -> None:
    """Systemd stops a whole unit by default. What replaces its own processes is left to do so."""
    kinds = (
        "/etc/systemd/system/postgresql@",
        "/etc/systemd/system/redis-server@",
        "/etc/systemd/system/nginx.service.d/",
        ".*/services/web/",
        ".*/services/celery",
    )
    for kind in kinds:
        units = of_kind(rendered(release), kind)
        assert any("\nOOMPolicy=continue\n" in text for text in units.values()), (kind, list(units))


@pytest.mark.parametrize("release", RELEASES)
def test_nginx_is_directives_and_blocks(rendered: Callable[..., dict[str, str]], release: str) -> None:
    for path, text in of_kind(rendered(release), r"^/etc/nginx/").items():
        bare = re.sub(r"(?m)(^|\s)#.*$", "", re.sub(r"\"[^\"\n]*\"|'[^'\n]*'", "x", text)).strip()
        assert re.search(r"[;}]$", bare), f"{path} ends in the middle of a directive"
        depth = 0
        for mark in re.findall(r"(?<!\$)[{}]", re.sub(r"\{\d+(,\d*)?\}", "", bare)):
            depth += 1 if mark == "{" else -1
            assert depth >= 0, f"{path} closes a block that it has not opened"
        assert depth == 0, f"{path} leaves a block open"
        begun = None
        for line in filter(str.strip, bare.splitlines()):
            indent = len(line) - len(line.lstrip())
            # What goes on with a directive is indented; one on the same level tells of a lost semicolon.
            assert begun is None or indent > begun, f"{path}: what stands before {line.strip()!r} does not end"
            begun = None if line.rstrip()[-1] in ";{}" else indent if begun is None else begun


@pytest.mark.parametrize("release", RELEASES)
def test_scripts_parse(rendered: Callable[..., dict[str, str]], release: str) -> None:
    scripts = {path: text for path, text in rendered(release).items() if text.startswith("#!/bin/")}
    assert scripts
    for path, text in scripts.items():
        shell = text.splitlines()[0].removeprefix("#!").strip().split()
        done = subprocess.run([*shell, "-n"], input=text, capture_output=True, text=True, check=False)
        assert done.returncode == 0, f"{path}: {done.stderr}"


def test_releases_differ_where_their_packages_do(rendered: Callable[..., dict[str, str]]) -> None:
    """The version of PostgreSQL is in its paths: a test that rendered one release twice would not see it."""
    assert of_kind(rendered("12"), "^/etc/postgresql/15/main/")
    assert of_kind(rendered("13"), "^/etc/postgresql/17/main/")


def is_secret(task: dict[str, Any], source: Path) -> bool:
    """Tell whether config_files is told not to show what it makes of a template."""
    files = task.get("slipway.kit.config_files", {})
    entries = files.get("files", []) + files.get("repeat", {}).get("files", [])
    return any(entry.get("secret") for entry in entries if str(source).endswith(entry["src"]))


def test_only_files_that_others_cannot_read_hold_a_secret(
    variables_for: Callable[..., dict[str, Any]],
) -> None:
    """The secrets are markers here; a path that has one is written with a mode that shuts others out."""
    found = False
    for use in USES:
        for path, text, source, mode in render(use, variables_for(use.role, "12")):
            plain = text.replace("\\", "")
            for name in SECRETS:
                if f"marker-{name.removeprefix('vault_')}" in plain:
                    found = True
                    assert re.fullmatch(r"0[0-7]{2}0", mode), f"{path} with {name} in it has mode {mode}"
                    assert use.task.get("no_log") or is_secret(use.task, source), (
                        f"the task that writes {path} shows {name}"
                    )
    assert found, "no file holds a secret, so nothing was tested"


LITERAL = r"'(?:[^'\\]|\\.)*'"
REPLACEMENT = re.compile(rf"regex_replace(?:\(|', ){LITERAL}, ({LITERAL})")


def test_replacements_of_regular_expressions_put_back_what_was_found(
    templar_for: Callable[[dict[str, Any]], Templar],
) -> None:
    """A backslash too many or too few makes of a group's number a text or a control character."""
    found = 0
    variables = [*ROOT.glob("roles/*/vars/main.yml"), *ROOT.glob("roles/*/defaults/main.yml")]
    variables += [*ROOT.glob("inventories/single/group_vars/all/*.yml"), *WIRING]
    texts = [(path, text, True) for path in variables for text in strings_in(load_yaml(path))]
    texts += [(path, path.read_text(encoding="utf-8"), False) for path in ROOT.glob("roles/*/templates/**/*.j2")]
    for path, text, is_yaml in texts:
        for literal in REPLACEMENT.findall(text):
            template = trust_as_template("{{ " + literal + " }}")
            replacement = templar_for({}).template(template, escape_backslashes=is_yaml)
            assert not re.search(r"[\x00-\x1f]", replacement), f"{path}: {literal} is {replacement!r}"
            if re.search(r"\d", literal):
                found += 1
                assert "probe" in re.sub("(.+)", replacement, "probe"), f"{path}: {literal} is {replacement!r}"
    assert found


def strings_in(value: Any) -> Iterator[str]:
    """Yield the strings in what a file says."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from strings_in(item)
