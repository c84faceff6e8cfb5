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
from conftest import ROOT, SECRETS, defaults_of, facts, load_yaml

GROUPS = {"database", "redis", "app", "worker", "edge"}


def groups_of(inventory: Path) -> dict[str, list[str]]:
    """Return the hosts of each group of an inventory, as Ansible reads it."""
    command = [Path(sys.executable).with_name("ansible-inventory"), "-i", inventory, "--list"]
    said = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    return {name: group["hosts"] for name, group in said.items() if name != "_meta" and "hosts" in group}


def test_inventory_of_many_hosts_has_the_groups_that_are_tested(inventories: Path) -> None:
    shipped = groups_of(inventories / "inventories/cluster")
    tested = groups_of(inventories / "molecule/cluster/inventory")
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


# What the kit writes beside hosts.yml, and what operators keep there: none of it is an inventory.
OTHERS = (
    *(
        "tls-authority.pem",
        "tls-authority-www.pem",
        "site.pem",
        "site.key",
        "site.crt",
        "ca.p12",
        "id_ed25519",
        "id_ed25519.pub",
    ),
    *(
        "site.conf.j2",
        "app.env",
        "plan.html",
        "report.json",
        "report.xml",
        "vault-password",
        "vault_pass",
        "VAULT",
        "backup.tar.gz",
    ),
    *(
        "deploy.sh",
        "hook",
        "hook.py",
        "hosts.yml.orig",
        "hosts.yml.save",
        "hosts.yml~",
        "README.md",
        "Makefile",
        "site.log",
    ),
    *(
        "tls/site.key",
        "tls/site.pem",
        "tls/dns-auth",
        "tls/dns-cleanup",
        "hooks/after-deploy",
        "templates/hosts.yml.j2",
    ),
    *("files/data.yml", "reports/2026.yml", "ssh/config"),
)
HOOK = "#!/bin/sh\ntouch {}\necho '{{}}'\n"


def test_only_inventories_in_a_directory_are_read(tmp_path: Path, inventories: Path) -> None:
    """Ansible would refuse any other file, and run an executable one as a script that names hosts."""
    before = groups_of(inventories / "inventories/single")
    shutil.copytree(inventories / "inventories/single", tmp_path / "production")
    for name in OTHERS:
        path = tmp_path / "production" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(HOOK.format(tmp_path / "executed"), encoding="utf-8")
        path.chmod(0o755)
    assert groups_of(tmp_path / "production") == before
    assert not (tmp_path / "executed").exists()


@pytest.mark.parametrize("name", ["hosts", "hosts.ini", "more.ini", "hosts.yml", "more.yaml", "hosts.json"])
def test_every_usual_inventory_in_a_directory_is_read(tmp_path: Path, name: str) -> None:
    text = "[edge]\nwww\n" if not name.endswith(("ml", "json")) else json.dumps({"edge": {"hosts": {"www": {}}}})
    (tmp_path / name).write_text(text, encoding="utf-8")
    assert groups_of(tmp_path)["edge"] == ["www"]


def test_inventory_without_a_source_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "production").write_text("[edge]\nwww\n", encoding="utf-8")
    with pytest.raises(subprocess.CalledProcessError) as refused:
        groups_of(tmp_path)
    assert "Completely failed to parse inventory source" in refused.value.stderr


def test_sites_of_one_inventory_have_an_authority_file_each(templar_for: Callable[..., Any]) -> None:
    """Of a default that both sites share, the second site's run would overwrite the first one's."""
    default = defaults_of(ROOT / "roles/tls")["tls_authority_file"]
    files = {
        templar_for({"inventory_dir": "/i", "tls_first_host": first}).template(default) for first in ("www1", "shop1")
    }
    assert files == {"/i/tls-authority-www1.pem", "/i/tls-authority-shop1.pem"}


# Hosts that nobody can ask, and a vault file that was not encrypted.
NOT_THERE = {"topology_offline": True, "topology_plain_secrets": "allow", "topology_disk_mb": 51200}


@pytest.fixture
def copied(tmp_path: Path, inventories: Path) -> Path:
    """Return a copy as the documents say, alone in a folder of its own, with secrets."""
    said = re.findall(r"cp -r (inventories/\w+) ", (ROOT / "docs/scaling.md").read_text(encoding="utf-8"))
    assert said == ["inventories/cluster"]
    subprocess.run(["cp", "-rL", inventories / said[0], tmp_path / "production"], check=True)
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


def test_visitors_of_the_asynchronous_application_wait_longer_than_its_views() -> None:
    """A busy worker makes a page late, and neither an error of the view nor one of Nginx."""
    views = (ROOT / "molecule/apps/asgi/mysite/views.py").read_text(encoding="utf-8")
    conftest = (ROOT / "tests/hosts/apps/conftest.py").read_text(encoding="utf-8")
    (view,) = map(int, re.findall(r"^RESULT_TIMEOUT = (\d+)$", views, re.MULTILINE))
    (client,) = map(int, re.findall(r"^PATIENCE = (\d+)$", conftest, re.MULTILINE))
    proxy = load_yaml(ROOT / "molecule/apps/inventory/group_vars/site_asgi/variables.yml")["nginx_proxy_timeout"]
    assert 120 <= view < proxy < client
    assert set(re.findall(r"get\)\(timeout=(\w+)\)", views)) == {"RESULT_TIMEOUT"}
    assert len(re.findall(r"requests\.(?:get|post)\(self\.url.*timeout=PATIENCE", conftest)) == 2
