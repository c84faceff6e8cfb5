"""vault_secrets and playbooks/secrets.yml: what is missing is generated; nothing else is touched or told."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultLib, VaultSecret
from conftest import INVENTORIES, ROOT, load_yaml, run_action

from ansible_collections.slipway.kit.plugins.action import vault_secrets as plugin

WANTED = [{"name": "vault_one", "length": 40}, {"name": "vault_two"}]
# Comments, order, quoting, text of several lines and what Ansible's loader alone understands.
KEPT = """---
# made by hand
vault_old: 'it''s "old"'
vault_text: |
  two
  lines
vault_unsafe: !unsafe "{{ no template }}"
vault_list: [1, yes, 0x10]
"""


def loader_with(*passwords: tuple[str, str]) -> DataLoader:
    """Return a loader with vault ids and their passwords."""
    loader = DataLoader()
    loader.set_vault_secrets([(name, VaultSecret(password.encode())) for name, password in passwords])
    return loader


@pytest.fixture
def loader() -> DataLoader:
    """Return a loader with one vault password."""
    return loader_with(("default", "open sesame"))


@pytest.fixture
def vault(tmp_path: Path) -> Path:
    """Return the path of a vault file that is not there, nor its folder."""
    return tmp_path / "group_vars/all/vault.yml"


def write(path: Path, text: str, loader: DataLoader) -> None:
    """Write an encrypted file."""
    path.parent.mkdir(parents=True)
    path.write_bytes(loader._vault.encrypt(text))


def read(path: Path, loader: DataLoader) -> str:
    """Return what an encrypted file holds."""
    assert path.read_bytes().startswith(b"$ANSIBLE_VAULT;")
    return loader._vault.decrypt(path.read_bytes()).decode()


def test_new_file(vault: Path, loader: DataLoader) -> None:
    umask = os.umask(0)
    try:
        result = run_action(plugin, loader, path=str(vault), secrets=WANTED)
    finally:
        os.umask(umask)
    assert result == {"changed": True, "path": str(vault), "added": ["vault_one", "vault_two"]}
    assert stat.S_IMODE(vault.stat().st_mode) == 0o600
    assert re.fullmatch(r'---\nvault_one: "[A-Za-z0-9]{40}"\nvault_two: "[A-Za-z0-9]{32}"\n', read(vault, loader))
    assert [path.name for path in vault.parent.iterdir()] == ["vault.yml"]


def test_no_two_secrets_are_the_same(vault: Path, loader: DataLoader) -> None:
    run_action(plugin, loader, path=str(vault), secrets=[{"name": f"vault_{number}"} for number in range(50)])
    assert len(set(re.findall(r'"(\w+)"', read(vault, loader)))) == 50


@pytest.mark.parametrize("end", ["", "\n"])
def test_what_is_there_stays_to_the_letter(vault: Path, loader: DataLoader, end: str) -> None:
    text = KEPT + "vault_two: mine" + end
    write(vault, text, loader)
    result = run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert (result["changed"], result["added"]) == (True, ["vault_one"])
    assert re.fullmatch(re.escape(text.rstrip("\n")) + r'\nvault_one: "\w{40}"\n', read(vault, loader))


def test_nothing_is_missing(vault: Path, loader: DataLoader) -> None:
    run_action(plugin, loader, path=str(vault), secrets=WANTED)
    before = vault.read_bytes()
    result = run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert (result["changed"], result["added"]) == (False, [])
    assert vault.read_bytes() == before


def test_check_mode_writes_nothing(vault: Path, loader: DataLoader) -> None:
    result = run_action(plugin, loader, check=True, path=str(vault), secrets=WANTED)
    assert (result["changed"], result["added"]) == (True, ["vault_one", "vault_two"])
    assert not vault.parent.exists()
    write(vault, KEPT, loader)
    before = vault.read_bytes()
    assert run_action(plugin, loader, check=True, path=str(vault), secrets=WANTED)["changed"]
    assert vault.read_bytes() == before


def test_vault_id_of_the_file_stays(vault: Path) -> None:
    loader = loader_with(("default", "other"), ("site", "open sesame"))
    vault.parent.mkdir(parents=True)
    vault.write_bytes(VaultLib().encrypt(KEPT, VaultSecret(b"open sesame"), vault_id="site"))
    run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert vault.read_bytes().startswith(b"$ANSIBLE_VAULT;1.2;AES256;site\n")
    assert read(vault, loader_with(("site", "open sesame"))).startswith(KEPT)


def test_link_to_the_file_stays(vault: Path, tmp_path: Path, loader: DataLoader) -> None:
    vault.parent.mkdir(parents=True)
    vault.symlink_to(tmp_path / "elsewhere.yml")
    run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert vault.is_symlink()
    assert "vault_one" in read(tmp_path / "elsewhere.yml", loader)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vault_one:\n", "vault_one in .* is empty"),
        ("vault_one: ''\n", "vault_one in .* is empty"),
        ("- hidden\n", "is not a list of variables"),
        ("hidden: [\n", "is not valid YAML"),
        ("{hidden: 1}\n", "cannot be added|not valid YAML"),
        ("hidden: 1\n...\n", "cannot be added|not valid YAML"),
    ],
)
def test_file_that_cannot_be_added_to(vault: Path, loader: DataLoader, text: str, message: str) -> None:
    write(vault, text, loader)
    before = vault.read_bytes()
    with pytest.raises(AnsibleActionFail, match=message) as raised:
        run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert "hidden" not in str(raised.value)
    assert vault.read_bytes() == before


def test_plain_file_is_refused(vault: Path, loader: DataLoader) -> None:
    vault.parent.mkdir(parents=True)
    vault.write_text("vault_one: hidden\n", encoding="utf-8")
    with pytest.raises(AnsibleActionFail, match="is not encrypted: run 'ansible-vault encrypt ") as raised:
        run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert "hidden" not in str(raised.value)
    assert vault.read_text(encoding="utf-8") == "vault_one: hidden\n"


def test_plain_file_where_that_is_asked_for(vault: Path) -> None:
    loader = DataLoader()
    first = run_action(plugin, loader, path=str(vault), encrypted=False, secrets=WANTED)
    assert (
        first["changed"] and not run_action(plugin, loader, path=str(vault), encrypted=False, secrets=WANTED)["changed"]
    )
    assert vault.stat().st_mode & 0o777 == 0o600
    assert set(yaml.safe_load(vault.read_text(encoding="utf-8"))) == {secret["name"] for secret in WANTED}


def test_encrypted_file_is_not_made_plain(vault: Path, loader: DataLoader) -> None:
    write(vault, KEPT, loader)
    before = vault.read_bytes()
    with pytest.raises(AnsibleActionFail, match="is encrypted: run 'ansible-vault decrypt "):
        run_action(plugin, loader, path=str(vault), encrypted=False, secrets=WANTED)
    assert vault.read_bytes() == before


def test_wrong_password_is_refused(vault: Path, loader: DataLoader) -> None:
    write(vault, KEPT, loader)
    with pytest.raises(AnsibleActionFail, match="cannot be decrypted"):
        run_action(plugin, loader_with(("default", "wrong")), path=str(vault), secrets=WANTED)


@pytest.mark.parametrize("secrets", [None, []])
def test_no_password_is_refused(vault: Path, secrets: Any) -> None:
    loader = DataLoader()
    loader.set_vault_secrets(secrets)
    with pytest.raises(AnsibleActionFail, match="no vault password is configured.*--vault-password-file"):
        run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert not vault.exists()


@pytest.mark.parametrize(
    ("secret", "message"),
    [
        ({"name": "vault_one", "length": 15}, "needs 16"),
        ({"name": "vault-one"}, "cannot be the name of a variable"),
        ({"name": "1one"}, "cannot be the name of a variable"),
        ({"length": 20}, "missing required arguments: name"),
        ({"name": "vault_one", "bytes": 20}, "[Uu]nsupported parameters"),
    ],
)
def test_request_that_is_refused(vault: Path, loader: DataLoader, secret: Any, message: str) -> None:
    with pytest.raises(AnsibleActionFail, match=message):
        run_action(plugin, loader, path=str(vault), secrets=[secret])
    assert not vault.exists()


def test_failed_write_leaves_the_old_file(vault: Path, loader: DataLoader, monkeypatch: pytest.MonkeyPatch) -> None:
    write(vault, KEPT, loader)

    def fail(*_: Any) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        run_action(plugin, loader, path=str(vault), secrets=WANTED)
    assert read(vault, loader) == KEPT
    assert [path.name for path in vault.parent.iterdir()] == ["vault.yml"]


@pytest.fixture
def inventory(tmp_path: Path) -> Path:
    """Return an inventory with one host, and a vault password beside it."""
    (tmp_path / "password").write_text("open sesame", encoding="utf-8")
    (tmp_path / "inventory/group_vars/all").mkdir(parents=True)
    (tmp_path / "inventory/hosts.yml").write_text("all:\n  hosts:\n    one:\n", encoding="utf-8")
    (tmp_path / "inventory/group_vars/all/own.yml").write_text("secrets_extra: [{name: vault_smtp_password}]\n")
    return tmp_path / "inventory"


def test_playbook_fills_the_inventory_and_tells_no_value(
    inventory: Path, loader: DataLoader, run_playbook: Callable[..., Any]
) -> None:
    password = {"ANSIBLE_VAULT_PASSWORD_FILE": "password"}
    first = run_playbook("-i", inventory, ROOT / "playbooks/secrets.yml", "-vvv", "--diff", **password)
    assert first.returncode == 0, first.stdout + first.stderr
    text = read(inventory / "group_vars/all/vault.yml", loader)
    secrets = dict(re.findall(r'^(\w+): "(\w+)"$', text, re.MULTILINE))
    assert len(secrets["vault_django_secret_key"]) == 64
    assert "vault_smtp_password" in secrets
    assert not [name for name, value in secrets.items() if value in first.stdout + first.stderr]
    # Named by its file, the same inventory has its secrets in the same place.
    second = run_playbook("-i", inventory / "hosts.yml", ROOT / "playbooks/secrets.yml", **password)
    assert "nothing was missing" in second.stdout and "changed=0" in second.stdout
    assert read(inventory / "group_vars/all/vault.yml", loader) == text


def test_playbook_refuses_several_inventories(inventory: Path, run_playbook: Callable[..., Any]) -> None:
    done = run_playbook("-i", inventory, "-i", "other,", ROOT / "playbooks/secrets.yml")
    assert done.returncode != 0
    assert "Name one inventory on disk with -i" in done.stdout


def test_playbook_makes_all_that_the_inventories_use() -> None:
    made = {secret["name"] for secret in load_yaml(ROOT / "playbooks/vars/secrets.yml")["__secrets_known"]}
    # What a rotation writes for a while.
    made |= {f"{name}_{when}" for name in made for when in ("next", "previous")}
    used = {
        name
        for inventory in INVENTORIES
        for path in (ROOT / inventory).glob("group_vars/**/*.yml")
        if path.name != "vault.yml"
        for line in path.read_text(encoding="utf-8").splitlines()
        if not line.lstrip().startswith("#")
        for name in re.findall(r"\bvault_\w+", line)
    }
    assert used and used <= made
