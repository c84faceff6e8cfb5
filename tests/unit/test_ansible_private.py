"""The private names of Ansible stand in one file, and the running version has them."""

from __future__ import annotations

import ast
import importlib
import re
from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.playbook import Playbook
from ansible.playbook.play_context import PlayContext
from ansible.playbook.role import Role
from ansible.playbook.task import Task
from ansible.plugins.action import ActionBase
from ansible.plugins.callback import CallbackBase
from ansible.plugins.loader import connection_loader
from ansible.plugins.lookup import LookupBase
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from conftest import ROOT

PRIVATE = ROOT / "plugins/plugin_utils/ansible_private.py"
# The collection links to the repository: no second visit.
PLUGINS = sorted(path for path in ROOT.glob("plugins/**/*.py") if path != PRIVATE)


class Action(ActionBase):
    """An action that does nothing."""

    def run(self, *_: Any, **__: Any) -> dict[str, Any]:
        """Return nothing."""
        return {}


def action() -> Action:
    """Return an action outside of a run."""
    return Action(None, None, None, None, None, None)


def variables() -> VariableManager:
    """Return the variables of an inventory without hosts."""
    loader = DataLoader()
    return VariableManager(loader, InventoryManager(loader, sources=[]))


# By the directory of a plugin: what it inherits is meant for it, whatever the name begins with.
INHERITED = {"action": [action()], "callback": [CallbackBase()], "lookup": [LookupBase]}
OWNERS: dict[str, list[Callable[[], Any]]] = {
    "_connection": [action],
    "_file_name": [lambda: Playbook(DataLoader())],
    "_inventory": [variables, lambda: HostVars(variables()._inventory, variables(), DataLoader())],
    "_make_tmp_path": [action],
    "_role": [Task],
    "_role_path": [Role],
    "_shell": [lambda: connection_loader.get("ansible.builtin.local", PlayContext())],
    "_task": [action],
    "_vault": [DataLoader],
}


def private_imports(path: Path) -> list[tuple[str, str]]:
    """Return the modules and names that a file imports from Ansible's private modules."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.ImportFrom)]
    found = [(node.module or "", alias.name) for node in nodes for alias in node.names]
    found = [(module, name) for module, name in found if module.split(".")[0] == "ansible"]
    private = re.compile(r"_(?!_).*|IGNORED")
    return [(module, name) for module, name in found if "._" in module or private.fullmatch(name)]


def private_attributes(path: Path) -> set[tuple[str, str]]:
    """Return the private attributes that a file asks for, each with what it is an attribute of."""
    nodes = [node for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))) if isinstance(node, ast.Attribute)]
    nodes = [node for node in nodes if node.attr.startswith("_") and not node.attr.startswith("__")]
    return {(ast.unparse(node.value), node.attr) for node in nodes}


@cache
def own_names(path: Path) -> set[str]:
    """Return the names that a file defines itself: functions, classes, and what it assigns."""
    nodes = list(ast.walk(ast.parse(path.read_text(encoding="utf-8"))))
    names = {node.name for node in nodes if isinstance(node, ast.FunctionDef | ast.ClassDef)}
    stored = [node for node in nodes if isinstance(getattr(node, "ctx", None), ast.Store)]
    names |= {node.attr for node in stored if isinstance(node, ast.Attribute)}
    return names | {node.id for node in stored if isinstance(node, ast.Name)}


@pytest.mark.parametrize(("module", "name"), private_imports(PRIVATE))
def test_imported_name_is_there(module: str, name: str) -> None:
    assert hasattr(importlib.import_module(module), name)


def test_owner_of_every_private_attribute_is_known() -> None:
    assert {name for _, name in private_attributes(PRIVATE)} == OWNERS.keys()


@pytest.mark.parametrize("name", OWNERS)
def test_attribute_is_there(name: str) -> None:
    for owner in OWNERS[name]:
        assert hasattr(owner(), name), f"{type(owner()).__name__} has no {name} any more"


@pytest.mark.parametrize("path", PLUGINS, ids=lambda path: str(path.relative_to(ROOT / "plugins")))
def test_plugin_uses_no_other_private_name(path: Path) -> None:
    """What a plugin inherits it may use, if the running version has it."""
    assert not private_imports(path)
    inherited = set().union(*(dir(base) for base in INHERITED.get(path.parent.name, ())), *map(own_names, PLUGINS))
    own = {"self", "cls", "super()"}
    used = private_attributes(path)
    assert {name for owner, name in used if owner in own} <= inherited
    assert not [f"{owner}.{name}" for owner, name in used if owner not in own and name in OWNERS]
