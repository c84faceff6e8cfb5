"""The archive of the collection slipway.kit: the roles and plugins for others, and nothing of an operator."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import trust_as_template
from conftest import RELEASES, ROOT, defaults_of, facts, load_yaml, options_of
from test_preflight import inspect_role

# Roles that work in a play outside of the repository.
ALONE = ("firewall", "hardening", "nginx", "postgresql", "redis")
# What a work tree has besides the project: files of an operator, and what tools leave.
LEFT = (
    ".cache/demo.env",
    ".vault-password",
    ".venv/bin/python",
    "inventories/production/group_vars/all/vault.yml",
    "inventories/production/hosts.yml",
    "molecule/default/inventory/group_vars/all/vault.yml",
)


@pytest.fixture(scope="module")
def archive(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """Return the names in the archive of a work tree that is in use."""
    folder = tmp_path_factory.mktemp("collection")
    tracked = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z"],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout.split("\0")  # fmt: skip
    for name in filter(None, tracked):
        if os.path.lexists(ROOT / name):
            (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / "tree" / name, follow_symlinks=False)
    for name in LEFT:
        (folder / "tree" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "tree" / name).write_text("marker", encoding="utf-8")
    subprocess.run(
        [Path(sys.executable).with_name("ansible-galaxy"), "collection", "build", "tree", "--output-path", "."],
        cwd=folder, capture_output=True, check=True,
    )  # fmt: skip
    (path,) = folder.glob("slipway-kit-*.tar.gz")
    with tarfile.open(path) as tar:
        return tar.getnames()


def test_archive_has_what_others_use_and_nothing_else(archive: list[str]) -> None:
    assert {name.split("/")[0] for name in archive} == {
        *("CHANGELOG.md", "FILES.json", "LICENSE", "MANIFEST.json", "README.md"),
        *("docs", "meta", "playbooks", "plugins", "roles"),
    }
    assert not set(LEFT) & set(archive)
    for role in ALONE:
        assert f"roles/{role}/meta/argument_specs.yml" in archive
    assert "plugins/modules/managed_unit.py" in archive and "meta/runtime.yml" in archive


def test_collections_that_roles_call_are_named() -> None:
    """Whoever installs the archive is told what else is needed."""
    text = "\n".join(path.read_text(encoding="utf-8") for path in ROOT.glob("roles/*/*/*.yml"))
    called = set(re.findall(r"\b((?:ansible|community|containers)\.(?!builtin)[a-z]+)\.[a-z_]+\b", text))
    assert called == set(load_yaml(ROOT / "galaxy.yml")["dependencies"])


def required(role: str) -> set[str]:
    """Return the required options of a role."""
    return {name for name, option in options_of(ROOT / f"roles/{role}").items() if option.get("required")}


def example(role: str) -> dict[str, Any]:
    """Return the variables of the play at the top of a role's README."""
    text = (ROOT / f"roles/{role}/README.md").read_text(encoding="utf-8")
    found = re.match(rf"# {role}\n\nIn a play of your own [^\n]*:\n\n((?:    [^\n]*\n)+)", text)
    assert found, "no play at the top"
    assert found[1].count("\n") <= 10
    (play,) = yaml.safe_load(found[1])
    (named,) = play["roles"]
    assert named.pop("role") == f"slipway.kit.{role}"
    return named


@pytest.mark.parametrize("role", ALONE)
def test_readme_begins_with_a_play_of_all_that_is_required(role: str) -> None:
    assert required(role) <= set(example(role)) <= set(options_of(ROOT / f"roles/{role}"))


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("role", ALONE)
def test_readme_play_passes_the_preflight_of_its_role(role: str, release: str) -> None:
    """Nothing of the wiring and of other roles is needed."""
    path = ROOT / f"roles/{role}"
    secrets = {f"vault_{name}_password": f"{name}-5f0c2a9e71d84b36" for name in ("broker", "cache", "admin")}
    secrets["vault_shop_database_password"] = "5f0c2a9e71d84b36"
    own = defaults_of(path) | (load_yaml(path / "vars/main.yml") or {})
    named = {
        name: trust_as_template(value) if isinstance(value, str) else value for name, value in example(role).items()
    }
    assert not inspect_role(
        path, own | named | secrets | {"ansible_facts": facts(release), "ansible_check_mode": False}
    )
