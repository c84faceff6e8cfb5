"""A host that is lost in the middle of a run: the run ends, on all hosts, and says why."""

from __future__ import annotations

import copy
import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT

LOCAL = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
INVENTORY = {"all": {"hosts": dict.fromkeys(("first", "second", "database"), LOCAL)}}
# Nobody listens on this port.
LOSE_SECOND = {
    "name": "Lose second",
    "ansible.builtin.set_fact": {"ansible_connection": "ssh", "ansible_host": "127.0.0.1", "ansible_port": 1},
    "when": "inventory_hostname == 'second'",
}
WORK = {"name": "Work", "ansible.builtin.command": "true"}
REFUSE = {"name": "Fail", "ansible.builtin.fail": {"msg": "the real reason"}, "when": "inventory_hostname == 'first'"}
NEXT = {
    "name": "Next play",
    "hosts": "database",
    "gather_facts": False,
    "tasks": [{"name": "Go on", "ansible.builtin.command": "true"}],
}


def run(tmp_path: Path, *plays: dict[str, Any]) -> subprocess.CompletedProcess[str]:
    """Run plays, without the project's settings."""
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump(INVENTORY))
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump(list(plays), sort_keys=False))
    environment = os.environ | {
        "ANSIBLE_CONFIG": str(tmp_path / "none.cfg"),
        "ANSIBLE_NOCOLOR": "1",
        "HOME": str(tmp_path),
    }
    (tmp_path / "none.cfg").touch()
    return subprocess.run(
        ["ansible-playbook", "-i", "hosts.yml", "playbook.yml"],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )


def release_play(tmp_path: Path, *work: dict[str, Any]) -> dict[str, Any]:
    """Return the play of _release.yml with its own way of failing, and `work` in place of what it does."""
    play = copy.deepcopy(yaml.safe_load((ROOT / "playbooks/_release.yml").read_text())[0])
    block = next(task for task in play["tasks"] if "rescue" in task)
    block["block"] = list(work)
    roll_back = yaml.safe_load((ROOT / "roles/release/tasks/take_back.yml").read_text())
    for task in roll_back:
        if "slipway.kit.release_slots" in task:
            del task["slipway.kit.release_slots"]
            task["ansible.builtin.command"] = "true"
    (tmp_path / "roll_back.yml").write_text(yaml.safe_dump(roll_back))
    for task in block["rescue"] + block["always"]:
        if (role := task.pop("ansible.builtin.import_role", {})).get("tasks_from") == "take_back":
            task["ansible.builtin.import_tasks"] = "roll_back.yml"
        elif role:
            task["ansible.builtin.command"] = "true"
    said = yaml.safe_load((ROOT / "roles/release/vars/main.yml").read_text())["__release_refused"]
    return play | {
        "hosts": "first:second",
        "gather_facts": False,
        "tasks": [block],
        "vars": {"__release_refused": said, "release_maintenance": False},
    }


def guard() -> dict[str, Any]:
    """Return the play that stands between one with a rescue and the next one."""
    tasks = yaml.safe_load((ROOT / "playbooks/tasks/whole_run.yml").read_text())
    return {"hosts": "all", "any_errors_fatal": True, "max_fail_percentage": 0, "gather_facts": False, "tasks": tasks}


def test_next_play_does_not_run(tmp_path: Path) -> None:
    play = yaml.safe_load((ROOT / "playbooks/_database.yml").read_text())[0]
    settings = {name: play[name] for name in ("any_errors_fatal", "max_fail_percentage")}
    first = {"hosts": "first:second", "gather_facts": False, "tasks": [LOSE_SECOND, WORK, WORK]} | settings
    result = run(tmp_path, first, NEXT)
    assert result.returncode != 0 and "UNREACHABLE" in result.stdout
    assert "Go on" not in result.stdout


@pytest.mark.parametrize(
    "work",
    [[LOSE_SECOND, WORK], [REFUSE], [LOSE_SECOND, REFUSE]],
    ids=["lost at work", "refused", "lost in the rollback"],
)
def test_release_that_is_refused_says_so_and_ends_the_run(tmp_path: Path, work: list[dict[str, Any]]) -> None:
    result = run(tmp_path, release_play(tmp_path, *work), guard(), NEXT)
    assert result.returncode != 0 and "The release was refused" in result.stdout
    recap = {line.split()[0]: line for line in result.stdout.partition("PLAY RECAP")[2].splitlines() if ":" in line}
    assert "failed=" in recap["first"] and "failed=0" not in recap["first"], result.stdout
    assert "Go on" not in result.stdout


def test_guard_ends_the_run_where_a_play_has_lost_all_its_hosts(tmp_path: Path) -> None:
    lost = {"hosts": "second", "any_errors_fatal": True, "gather_facts": False, "tasks": [LOSE_SECOND, WORK]}
    result = run(tmp_path, lost, guard(), NEXT)
    assert result.returncode != 0 and "second failed or could not be reached" in " ".join(result.stdout.split())
    assert "Go on" not in result.stdout


@pytest.mark.parametrize(
    "before", [{}, {"slipway_from": "redis9"}, {"slipway_from": "redis2"}], ids=["none", "unknown", "in use"]
)
def test_redis_is_moved_from_a_host_that_had_it_before(tmp_path: Path, before: dict[str, str]) -> None:
    """A name without a host would leave the queue behind, and the host that Redis is on now would lose it."""
    local = {"ansible_connection": "local", "ansible_python_interpreter": "/usr/bin/python3"}
    hosts = {"hosts": {"redis1": local, "redis2": local}, "vars": {"topology_redis_hosts": ["redis2"]}}
    (tmp_path / "hosts.yml").write_text(yaml.safe_dump({"all": hosts}))
    play = yaml.safe_load((ROOT / "playbooks/move_redis.yml").read_text())[0]
    (tmp_path / "playbook.yml").write_text(yaml.safe_dump([play]))
    (tmp_path / "none.cfg").touch()
    results = [
        subprocess.run(
            ["ansible-playbook", "-i", "hosts.yml", "playbook.yml", "-e", json.dumps(given)],
            cwd=tmp_path,
            env=os.environ | {"ANSIBLE_CONFIG": str(tmp_path / "none.cfg"), "ANSIBLE_NOCOLOR": "1"},
            capture_output=True,
            text=True,
            check=False,
        )
        for given in (before, {"slipway_from": "redis1"})
    ]
    said = " ".join(results[0].stdout.split())
    assert (
        results[0].returncode != 0
        and f"slipway_from is {before.get('slipway_from', 'not given')}, which must be the name" in said
    )
    assert results[1].returncode == 0, results[1].stdout
