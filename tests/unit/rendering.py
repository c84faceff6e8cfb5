"""What tasks write: their templates, rendered by Ansible's own templar as the action config_files does."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, generate_ansible_template_vars, trust_as_template
from conftest import ROLES, load_yaml


class Use(NamedTuple):
    """A task that renders templates."""

    role: Path
    task: dict[str, Any]


class File(NamedTuple):
    """What a task writes on a host."""

    path: str
    text: str
    source: Path
    mode: str


def tasks_of(tasks: list[Any], inherited: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tasks in a list and in its blocks, each with the variables of the blocks around it."""
    for task in tasks or []:
        variables = inherited | task.get("vars", {})
        if "block" in task:
            for part in ("block", "rescue", "always"):
                yield from tasks_of(task.get(part, []), variables)
        else:
            yield task | {"vars": variables}


USES = [
    Use(role, task)
    for role in ROLES
    for path in sorted(role.glob("tasks/*.yml")) + sorted(role.glob("handlers/*.yml"))
    for task in tasks_of(load_yaml(path), {})
    if task.get("slipway.kit.config_files", {}).get("files") or task.get("slipway.kit.config_files", {}).get("repeat")
]


def render(use: Use, variables: dict[str, Any]) -> list[File]:
    """Return what a task writes, with the files of each item of its loop or of what it repeats."""
    variables = variables | use.task["vars"]
    written = use.task["slipway.kit.config_files"]
    looped = {"each": use.task["loop"], "as": use.task["loop_control"]["loop_var"]} if "loop" in use.task else {}
    repeated = written.get("repeat", {})
    files = [] if looped else texts_of(use, written.get("files", []), variables)
    if repeat := looped | repeated:
        items = Templar(DataLoader(), variables).template(repeat["each"])
        if not items:
            raise AssertionError(f"{use.task['name']!r} is for nothing, so nothing is tested")
        for item in items:
            found = texts_of(use, (repeated or written)["files"], variables | {repeat["as"]: item})
            files += (
                [file._replace(path=file.path.replace("{name}", str(item["name"]))) for file in found]
                if repeated
                else found
            )
    return files


def texts_of(use: Use, files: list[Any], variables: dict[str, Any]) -> list[File]:
    """Return the files of a task's list, rendered."""
    found = []
    templar = Templar(DataLoader(), variables)
    for arguments in templar.template(files):
        source = (use.role / "templates" / arguments["src"]).resolve()
        templar.available_variables |= generate_ansible_template_vars(arguments["src"], str(source))
        # As the action does: it trims blocks.
        text = templar.copy_with_new_env(searchpath=[str(source.parent)]).template(
            trust_as_template(source.read_text(encoding="utf-8")),
            escape_backslashes=False,
            overrides={"trim_blocks": True},
        )
        found.append(File(arguments["dest"], text, source, str(arguments.get("mode"))))
    return found
