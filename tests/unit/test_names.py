"""Plugins, tasks and tests call the parts of the collection slipway.kit by their full names."""

from __future__ import annotations

import re
from importlib import import_module
from typing import Any

import pytest
from ansiblelint.file_utils import get_all_files
from conftest import ROOT, load_yaml
from test_policy import TASKS, name_of, tracked

from ansible_collections.slipway.kit.plugins.plugin_utils.source.tree import LEFT_OUT, list_files

LINK = ROOT / "collections/ansible_collections/slipway/kit"
ACTIONS = {path.stem for path in tracked("plugins/action/*.py", "plugins/modules/*.py")}
FILTERS = {
    name
    for path in tracked("plugins/filter/*.py")
    for name in import_module(f"ansible_collections.slipway.kit.plugins.filter.{path.stem}").FilterModule().filters()
}
# Ways around an import.
DETOURS = ("sys.modules", "action_loader", "filter_loader", "module_loader", "__path__", "spec_from_file_location")


@pytest.mark.parametrize("detour", DETOURS)
def test_plugins_and_tests_import(detour: str) -> None:
    """What is loaded in another way is what no editor, no linter and no other loader of modules finds."""
    found = {name_of(path) for path in tracked("plugins/*.py", "tests/*.py", "dev/*.py") if detour in path.read_text()}
    assert found <= {"tests/unit/test_names.py"}


def test_what_the_plugins_share_is_imported_by_full_name() -> None:
    own = "|".join(path.stem for path in tracked("plugins/module_utils/*.py", "plugins/plugin_utils/*.py"))
    short = re.compile(rf"^\s*(from|import) (ansible\.module_utils\.({own})\b|\.)", re.MULTILINE)
    assert [name_of(path) for path in tracked("plugins/*.py") if short.search(path.read_text())] == []


def test_tasks_call_modules_by_full_name() -> None:
    assert len(ACTIONS) > 30
    assert [(name_of(path), task["name"]) for path, task in TASKS if ACTIONS & task.keys()] == []
    called = {key.removeprefix("slipway.kit.") for _, task in TASKS for key in task if key.startswith("slipway.kit.")}
    assert called and called <= ACTIONS


def test_files_of_the_kit_use_filters_by_full_name() -> None:
    """An installed collection has no filter_plugins; that setting is for what operators write."""
    short = re.compile(rf"(\||map\(['\"])\s*({'|'.join(FILTERS)})\b(?!\.)")
    paths = [path for path in tracked("roles", "playbooks") if path.suffix in (".yml", ".j2") and not path.is_symlink()]
    assert len(paths) > 100
    assert [(name_of(path), found[2]) for path in paths for found in short.finditer(path.read_text())] == []


def test_operators_use_filters_by_short_name(templar_for: Any) -> None:
    from ansible.template import trust_as_template

    templar = templar_for({"password": "a/b"})
    for name in ("url_quote", "slipway.kit.url_quote"):
        assert templar.template(trust_as_template(f"{{{{ password | {name} }}}}")) == "a%2Fb"


def test_a_walk_through_a_checkout_ends() -> None:
    """The link leads to the repository itself: what follows links to directories would never end there."""
    assert LINK.is_symlink() and LINK.resolve() == ROOT
    assert [path for path in tracked("collections") if path != LINK] == []
    settings = load_yaml(ROOT / ".ansible-lint")
    found = get_all_files(ROOT, exclude_paths=settings["exclude_paths"])
    assert ROOT / "playbooks/site.yml" in found
    assert [path for path in found if "ansible_collections" in path.parts and ".venv" not in path.parts] == []
    # An application whose source is a checkout of this repository.
    packed = list(list_files(ROOT, LEFT_OUT))
    assert [path for path in packed if path.startswith("collections/")] == [str(LINK.relative_to(ROOT))]
