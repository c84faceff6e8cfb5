"""The inventories that are shipped to be copied: complete, sound, and like those that are tested."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, SECRETS, facts

GROUPS = {"database", "redis", "app", "worker", "edge"}


def groups_of(inventory: Path) -> dict[str, list[str]]:
    """Return the hosts of each group of an inventory, as Ansible reads it."""
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", inventory, "--list"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {name: group["hosts"] for name, group in said.items() if name != "_meta" and "hosts" in group}


def test_inventory_of_many_hosts_has_the_groups_that_are_tested(inventories: Path) -> None:
    shipped = groups_of(inventories / "cluster")
    tested = groups_of(inventories / "molecule_cluster")
    assert shipped.keys() - {"all"} == GROUPS == tested.keys() - {"test_hosts", "outside"}
    assert {len(shipped[group]) for group in ("database", "app", "worker", "edge")} == {2}
    # Whatever two hosts are asked of in one they are in the other; the third of a kind is like the second.
    assert {group for group in GROUPS if len(tested[group]) > 1} >= {"database", "app", "edge"}


def test_what_is_decided_for_many_hosts_is_what_is_decided_for_one() -> None:
    """Beside where uploads lie: an operator who grows keeps what is written."""
    one, many = (
        yaml.safe_load((ROOT / f"inventories/{name}/group_vars/all/variables.yml").read_text(encoding="utf-8"))
        for name in ("single", "cluster")
    )
    assert {name: value for name, value in many.items() if name not in ("django_app_media", "base_app_uid")} == one


# Hosts that nobody can ask, and a vault file that was not encrypted.
NOT_THERE = {"topology_offline": True, "topology_plain_secrets": "allow", "topology_disk_mb": 51200}


@pytest.fixture
def copied(tmp_path: Path, inventories: Path) -> Path:
    """Return a copy as the documents say, alone in a folder of its own, with secrets."""
    said = re.findall(r"cp -rL (inventories/\w+) ", (ROOT / "docs/scaling.md").read_text(encoding="utf-8"))
    assert said == ["inventories/cluster"]
    subprocess.run(["cp", "-rL", inventories.parent / said[0], tmp_path / "production"], check=True)
    vault = tmp_path / "production/group_vars/all/vault.yml"
    # What a user writes as it stands is no template.
    vault.write_text(json.dumps({name: {"__ansible_unsafe": value} for name, value in SECRETS.items()}), "utf-8")
    shutil.copytree(ROOT / "app", tmp_path / "app", ignore=shutil.ignore_patterns("__pycache__", ".*"))
    return tmp_path / "production"


def preflight(run_playbook: Callable[..., Any], tmp_path: Path, *arguments: str | Path) -> Any:
    """Run the shipped preflight on hosts that are told beforehand what they are, and so need not be there."""
    found = {f"ansible_{name}": value for name, value in facts("12").items()} | {"cacheable": True}
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": found}]},
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks/preflight.yml")},
    ]
    (tmp_path / "preflight.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    return run_playbook(
        "preflight.yml", *arguments, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), ANSIBLE_GATHERING="explicit"
    )


def test_inventory_of_many_hosts_can_be_copied_alone(
    tmp_path: Path, copied: Path, run_playbook: Callable[..., Any]
) -> None:
    assert not [path for path in copied.rglob("*") if path.is_symlink()]
    source = ("-e", f"django_app_source={tmp_path}/app", "-e", json.dumps(NOT_THERE))
    done = preflight(run_playbook, tmp_path, "-i", copied, *source)
    assert done.returncode == 0, done.stdout + done.stderr
    refused = preflight(run_playbook, tmp_path, "-i", copied, *source, "-e", "django_app_media=local")
    assert refused.returncode != 0
    said = " ".join(refused.stdout.split())
    assert "1. django_app_media (role django_app, on " in said and " 2. " not in said, refused.stdout
    assert "on one of app1, app2, worker1, worker2, edge1, edge2 and be missing on the others" in said
