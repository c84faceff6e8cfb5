"""What ansible-doc shows of the collection's modules, actions, filters and roles, held to what they are."""

from __future__ import annotations

import importlib
import inspect
import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml
from ansible.parsing.dataloader import DataLoader
from ansible.plugins.action import ActionBase
from ansible.template import Templar
from conftest import ROLES, ROOT, load_yaml


def load(kind: str, name: str) -> ModuleType:
    """Import a module or an action of the collection."""
    return importlib.import_module(f"ansible_collections.slipway.kit.plugins.{kind}.{name}")


MODULES = sorted(path.stem for path in ROOT.glob("plugins/modules/*.py") if path.stem != "__init__")
ACTIONS = sorted(path.stem for path in ROOT.glob("plugins/action/*.py") if path.stem != "__init__")
FILTERS = {
    name: function
    for path in ROOT.glob("plugins/filter/*.py")
    for name, function in load("filter", path.stem).FilterModule().filters().items()
}
LOOKUPS = [path.stem for path in ROOT.glob("plugins/lookup/*.py")]
# What an option is, apart from its description and from whether a log may show it.
COMPARED = ("type", "elements", "required", "default", "choices")


class Captured(Exception):
    """Raised in place of a run, with the argument_spec that a plugin has handed to Ansible."""

    def __init__(self, spec: Mapping[str, Any]) -> None:
        """Take the specification."""
        super().__init__()
        self.spec = spec


def document(module: str, section: str = "DOCUMENTATION") -> Any:
    """Return what a module's file documents, as ansible-doc reads it: without importing the file."""
    text = (ROOT / f"plugins/modules/{module}.py").read_text(encoding="utf-8")
    found = re.search(rf'^{section} = r?"""\n(.*?)^"""$', text, re.MULTILINE | re.DOTALL)
    return yaml.safe_load(found[1]) if found else None


def action_of(name: str, arguments: Mapping[str, Any]) -> Any:
    """Return an action as a task has it, in a dry run."""
    task = SimpleNamespace(args=arguments, action=name, async_val=0, check_mode=True, environment=[])
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    return load("action", name).ActionModule(task, connection, None, DataLoader(), Templar(DataLoader(), {}), None)


def spec_of(name: str, monkeypatch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Return the options that a task may give: of the action where it validates them itself, else of the module."""

    def capture(*_: Any, argument_spec: Mapping[str, Any], **__: Any) -> None:
        raise Captured(argument_spec)

    try:
        if name in ACTIONS and "validate_argument_spec" in (ROOT / f"plugins/action/{name}.py").read_text("utf-8"):
            monkeypatch.setattr(ActionBase, "validate_argument_spec", capture)
            monkeypatch.setattr(ActionBase, "_early_needs_tmp_path", lambda _: False)
            action_of(name, {}).run(task_vars={})
        else:
            module = load("modules", name)
            monkeypatch.setattr(module, "AnsibleModule", capture)
            module.main()
    except Captured as captured:
        return captured.spec
    raise AssertionError(f"{name} has validated nothing")


def differences(documented: Mapping[str, Any], spec: Mapping[str, Any], prefix: str = "") -> Iterator[str]:
    """Yield in what documented options and an argument_spec differ, those of their parts too."""
    for name in sorted(documented.keys() | spec.keys()):
        if name not in documented or name not in spec:
            yield f"{prefix}{name} is {'not documented' if name in spec else 'documented and no option'}"
            continue
        text, own = documented[name], spec[name]
        for key in COMPARED:
            said, is_ = (entry.get(key, {"type": "str", "required": False}.get(key)) for entry in (text, own))
            said, is_ = (list(value) if isinstance(value, tuple) else value for value in (said, is_))
            if said != is_:
                yield f"{prefix}{name}: {key} is documented as {said!r} and is {is_!r}"
        if not text.get("description"):
            yield f"{prefix}{name} has no description"
        yield from differences(text.get("options") or {}, own.get("options") or {}, f"{prefix}{name}.")


def test_every_action_has_a_module_that_documents_it() -> None:
    """ansible-doc knows modules alone; Ansible runs the action of the same name in place of the module."""
    assert len(ACTIONS) > 20
    assert sorted(set(ACTIONS) - set(MODULES)) == []


@pytest.mark.parametrize("name", MODULES)
def test_documentation_is_the_argument_spec(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    documentation = document(name)
    assert documentation["module"] == name
    assert documentation["short_description"]
    assert documentation["description"]
    assert list(differences(documentation.get("options") or {}, spec_of(name, monkeypatch))) == []


def test_a_difference_is_found() -> None:
    option = {"type": "int", "default": 5, "description": "A number."}
    spec = {"a": {"type": "int", "default": 5}, "b": {"type": "dict", "options": {"c": {"type": "bool"}}}}
    parts = {"type": "dict", "description": "Parts.", "options": {"c": {"type": "str", "description": "One."}}}
    assert list(differences({"a": option, "b": parts | {"options": {}}}, spec)) == ["b.c is not documented"]
    assert list(differences({"a": option | {"default": 6}, "b": parts}, spec)) == [
        "a: default is documented as 6 and is 5",
        "b.c: type is documented as 'str' and is 'bool'",
    ]
    assert list(differences({"a": option, "b": parts, "z": option}, spec | {"b": parts})) == [
        "z is documented and no option"
    ]


@pytest.mark.parametrize("name", [name for name in MODULES if document(name, "EXAMPLES")])
def test_examples_name_the_module_in_full_and_its_options(name: str) -> None:
    known = document(name).get("options") or {}
    called = [task for task in document(name, "EXAMPLES") if f"slipway.kit.{name}" in task]
    assert called
    for task in called:
        arguments = task[f"slipway.kit.{name}"] or {}
        assert set(arguments) <= set(known)
        assert {option for option, entry in known.items() if entry.get("required")} <= set(arguments)


@pytest.mark.parametrize("name", sorted(set(ACTIONS) & set(MODULES)))
def test_action_without_a_module_is_sent_to_no_host(name: str) -> None:
    """The file of such a module holds documentation alone."""
    text = (ROOT / f"plugins/modules/{name}.py").read_text(encoding="utf-8")
    assert ("this file is sent to no host" in text) == ("AnsibleModule" not in text)


class Recorder(dict[str, Any]):
    """Variables of a host that remember which of a role were read."""

    def __init__(self, values: Mapping[str, Any], read: set[str]) -> None:
        """Take the values and where to remember names."""
        super().__init__(values)
        self.read = read

    def get(self, key: str, default: Any = None) -> Any:
        """Return a value, and remember its name."""
        self.read.add(key)
        return super().get(key, default)

    def __or__(self, other: Any) -> Recorder:
        """Return both, which remember as well."""
        return Recorder(dict(self) | dict(other), self.read)


HIDDEN = {
    "release_build": {
        **dict.fromkeys(("app", "id", "uv", "uv_lock"), "x"),
        "source": {"installation": {}, "scm": {}, "digest": "", "description": "", "archive": ""},
        **{"environment": {}, "nice": 1, "timeout": 1, "settings": {}},
    },
    "release_files": {},
    "release_hooks": {"when": "after_switch", "app": "x", "leader": True},
    "release_source": {"refuse": False},
}


@pytest.mark.parametrize("name", sorted(HIDDEN))
def test_role_variables_that_no_call_names_are_documented(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    read: set[str] = set()
    plugin = load("action", name)
    monkeypatch.setattr(ActionBase, "_early_needs_tmp_path", lambda _: False)
    monkeypatch.setattr(plugin.ActionModule, "_execute_module", lambda *_, **__: {"failed": True})
    sound = {"django_app_source_type": "package"}
    # A git source is cloned nowhere: reading the variables comes first.
    for variables in (
        {"x": 1},
        sound,
        {"django_app_source_type": "git", "django_app_source": "/nonexistent"},
        {"django_app_source_type": "archive", "django_app_source": "/nonexistent"},
        {"django_app_source_type": "folder", "django_app_source": "/nonexistent"},
    ):
        action = action_of(name, HIDDEN[name])
        action.run(task_vars=Recorder(variables, read))
    of_role = {variable for variable in read if variable.startswith("django_app_")}
    assert of_role
    text = " ".join(document(name)["description"])
    assert set(re.findall(r"C\((django_app_\w+)\)", text)) == of_role
    assert "No call names" in text


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_has_a_summary(role: Path) -> None:
    entries = load_yaml(role / "meta/argument_specs.yml")["argument_specs"]
    assert all(entry["short_description"] for entry in entries.values())


@pytest.mark.parametrize("name", sorted(FILTERS))
def test_filter_is_documented_with_its_parameters(name: str) -> None:
    found = load_yaml(ROOT / f"plugins/filter/{name}.yml")
    documentation = found["DOCUMENTATION"]
    options = dict(documentation["options"])
    assert documentation["name"] == name and documentation["short_description"]
    assert options.pop("_input")["description"]
    parameters = list(inspect.signature(FILTERS[name]).parameters)[1:]
    assert list(options) == parameters
    assert documentation.get("positional", "") == ", ".join(parameters)
    assert f"slipway.kit.{name}" in found["EXAMPLES"] and found["RETURN"]["_value"]["description"]


def test_no_documentation_of_a_filter_is_left_behind() -> None:
    assert {path.stem for path in ROOT.glob("plugins/filter/*.yml")} == set(FILTERS)


def ansible_doc(folder: Path, *arguments: str) -> Any:
    """Return what ansible-doc says in a folder without a configuration; a warning of it fails."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    done = subprocess.run(
        [Path(sys.executable).with_name("ansible-doc"), "--json", *arguments],
        cwd=folder, env=environment | {"ANSIBLE_COLLECTIONS_PATH": str(ROOT / "collections")},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "WARNING" not in done.stderr, done.stderr
    return json.loads(done.stdout)


@pytest.mark.parametrize("kind", ["callback", "filter", "lookup", "module", "role"])
def test_ansible_doc_lists_everything_with_a_summary(kind: str, tmp_path: Path) -> None:
    listed = ansible_doc(tmp_path, "--type", kind, "--list", "slipway.kit")
    names = {
        "callback": [path.stem for path in ROOT.glob("plugins/callback/*.py")],
        "filter": list(FILTERS),
        "lookup": LOOKUPS,
        "module": MODULES,
        "role": [role.name for role in ROLES],
    }
    assert sorted(listed) == sorted(f"slipway.kit.{name}" for name in names[kind])
    if kind == "role":
        assert all(entry for role in listed.values() for entry in role["entry_points"].values())
    else:
        assert {name for name, summary in listed.items() if not summary or summary == "UNDOCUMENTED"} == set()


def test_ansible_doc_shows_every_module(tmp_path: Path) -> None:
    shown = ansible_doc(tmp_path, *(f"slipway.kit.{name}" for name in MODULES))
    assert {name for name, page in shown.items() if page["doc"]["short_description"]} == {
        f"slipway.kit.{name}" for name in MODULES
    }


def short_names(text: str) -> list[str]:
    """Return the collection's filters and lookups that Jinja is given by their short names."""
    names = "|".join(sorted(FILTERS, key=len, reverse=True))
    filters = re.findall(rf"(?:\|\s*|\bmap\(\s*['\"])({names})\b(?!\s*\.)", text)
    return filters + re.findall(rf"\b(?:lookup|query|q)\(\s*['\"]({'|'.join(LOOKUPS)})\b", text)


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_role_names_filters_in_full(role: Path) -> None:
    """A play outside of the repository finds the collection's filters and lookups by their full names alone."""
    folders = ("defaults", "meta", "tasks", "templates", "vars")
    files = [path for folder in folders for path in (role / folder).rglob("*") if path.suffix in (".yml", ".j2")]
    assert {f"{path.name}: {name}" for path in files for name in short_names(path.read_text("utf-8"))} == set()


def test_a_short_name_is_found() -> None:
    assert short_names("{{ x | url_path }} {{ y|map('url_path') }}") == ["url_path", "url_path"]
    assert short_names("{{ x | slipway.kit.url_path }} {{ x | map('slipway.kit.url_path') }} {{ url_path }}") == []
    assert short_names("{{ lookup('certificate_faults', x) }}") == ["certificate_faults"]
