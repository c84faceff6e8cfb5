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
    """Return the play of _switch_release.yml with its own way of failing, and `work` in place of what it does."""
    play = copy.deepcopy(yaml.safe_load((ROOT / "playbooks/_switch_release.yml").read_text())[0])
    block = next(task for task in play["tasks"] if "rescue" in task)
    block["block"] = list(work)
    for name in ("roll_back", "refuse"):
        tasks = yaml.safe_load((ROOT / f"roles/release/tasks/{name}.yml").read_text())
        for task in tasks:
            if "slipway.kit.release_slots" in task:
                del task["slipway.kit.release_slots"]
                task["ansible.builtin.command"] = "true"
        (tmp_path / f"{name}.yml").write_text(yaml.safe_dump(tasks))
    for task in block["rescue"] + block["always"]:
        name = task.pop("ansible.builtin.import_role", {}).get("tasks_from", "")
        if name in ("roll_back", "refuse"):
            task["ansible.builtin.import_tasks"] = f"{name}.yml"
        elif name:
            task["ansible.builtin.command"] = "true"
    said = yaml.safe_load((ROOT / "roles/release/vars/main.yml").read_text())["__release_refused"]
    return play | {
        "hosts": "first:second",
        "gather_facts": False,
        "tasks": [block],
        "vars": {"__release_refused": said, "release_maintenance": False, "__switch_operation": "deploy"},
    }


def reopening_play(tmp_path: Path, comparison: str) -> dict[str, Any]:
    """Return a release that fails once the site is closed; `comparison` stands for that of the schema."""
    closed = {"name": "Close the site", "ansible.builtin.set_fact": {"__nginx_said": {"maintenance": True}}}
    play = release_play(tmp_path, closed, REFUSE)
    [attempt] = yaml.safe_load((ROOT / "playbooks/tasks/reopen_site.yml").read_text())
    for task in attempt["block"] + attempt["rescue"]:
        name, said = task.pop("ansible.builtin.import_role")["tasks_from"], task.pop("vars", {})
        if name == "state":
            task["ansible.builtin.set_fact"] = {"__nginx_said": {"maintenance": said["__nginx_maintenance"]}}
        else:
            task["ansible.builtin.command"] = comparison if name == "compare" else "true"
    (tmp_path / "reopen_site.yml").write_text(yaml.safe_dump([attempt]))
    [reopening] = [task for task in play["tasks"][0]["rescue"] if "ansible.builtin.include_tasks" in task]
    reopening["ansible.builtin.include_tasks"] = "reopen_site.yml"
    play["vars"] |= {"release_maintenance": True, "release_serves_edge": True}
    return play


@pytest.mark.parametrize(
    ("comparison", "said", "unsaid"),
    [
        ("true", "The site is open again.", "stays closed"),
        # One host is enough to keep it closed on all.
        ("test {{ inventory_hostname }} = first", "the previous release does not work with the database", "open again"),
    ],
    ids=["works", "does not"],
)
def test_site_that_was_closed_is_opened_if_the_previous_release_works(
    tmp_path: Path, comparison: str, said: str, unsaid: str
) -> None:
    result = run(tmp_path, reopening_play(tmp_path, comparison), guard(), NEXT)
    words = " ".join(result.stdout.split())
    assert result.returncode != 0 and words.count("The release was refused") >= 2, result.stdout
    assert said in words and unsaid not in words
    assert "Go on" not in result.stdout


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
