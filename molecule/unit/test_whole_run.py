"""A part of a playbook is refused before its first task: --tags, --skip-tags, --start-at-task, and --limit at times."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, load_plugin, load_yaml

plugin = load_plugin("playbooks/plugins/callback/whole_run.py")
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))
CONTROL = {"secrets.yml", "promote.yml", "move_redis.yml"}
each_playbook = pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)


def plays_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the file and the hosts of each play of a playbook, and of those that it imports."""
    for play in load_yaml(path):
        if imported := play.get("ansible.builtin.import_playbook"):
            yield from plays_of(path.parent / imported)
        else:
            yield str(path), play["hosts"]


def refusal(path: Path, plays: list[tuple[str, str]] | None = None, **options: Any) -> str:
    """Return what a playbook is refused for with options of the command line, or nothing."""
    nothing = {"tags": ("all",), "skip_tags": (), "start_at_task": None, "subset": None}
    return plugin.refusal(nothing | options, str(path), plays or list(plays_of(path)))


@each_playbook
def test_part_of_a_playbook_is_refused(path: Path) -> None:
    assert not refusal(path)
    for options, named in (
        ({"tags": ["nginx"]}, "--tags nginx"),
        ({"tags": ["all", "never"]}, "--tags never"),
        ({"skip_tags": ["always", "x"]}, "--skip-tags always,x"),
        ({"start_at_task": "Activate*"}, "--start-at-task"),
        ({"start_at_task": ""}, "--start-at-task"),
    ):
        said = refusal(path, **options)
        assert said.startswith(f"{named} is refused: {path.name}"), options
        assert "Run it whole" in said


@each_playbook
def test_limit_that_leaves_out_the_control_node_is_refused(path: Path) -> None:
    said = refusal(path, subset="app1")
    assert bool(said) == (path.name in CONTROL), said
    assert not refusal(path, subset="app1:localhost")


def test_playbooks_of_others_keep_their_tags(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    plays = [(str(own), "all")]
    assert not refusal(own, plays, tags=["x"], skip_tags=["y"], start_at_task="z", subset="a")
    plays += plays_of(ROOT / "playbooks/deploy.yml")
    assert not refusal(own, plays, tags=["x"])
    assert "without preflight and without the deploy lock" in refusal(own, plays, start_at_task="z")


@pytest.mark.parametrize(
    ("playbook", "option"),
    [
        ("deploy.yml", ("--tags", "x")),
        ("deploy.yml", ("--skip-tags", "always")),
        ("deploy.yml", ("--start-at-task", "Deploy*")),
        ("secrets.yml", ("--limit", "app1")),
    ],
)
def test_a_run_ends_before_its_first_task(
    playbook: str, option: tuple[str, str], run_playbook: Callable[..., Any]
) -> None:
    path = ROOT / "playbooks" / playbook
    done = run_playbook("-i", "app1,", path, *option, ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert done.returncode == 1
    assert f"{option[0]}" in done.stderr and f"is refused: {playbook}" in done.stderr
    assert "Nothing was changed on any host. docs/operating.md" in done.stderr
    assert "PLAY" not in done.stdout and "Traceback" not in done.stdout + done.stderr
