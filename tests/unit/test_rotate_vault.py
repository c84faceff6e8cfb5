"""rotate_vault: a rotation goes step by step through the vault file, and from any step to its end."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import VaultSecret
from conftest import run_action

from ansible_collections.slipway.kit.plugins.action import rotate_vault as plugin

SECRETS = [
    {"name": "vault_password", "rotate": "database"},
    {"name": "vault_key", "length": 40, "rotate": "django", "keep": True},
    {"name": "vault_other"},
]
# All that YAML could stumble over stays as it is written, and goes the same way.
TEXT = """---
# made by hand
vault_password: 'it''s "old" #%@: $ä\\'
vault_other: "{{ 1 }}"
vault_key: !unsafe "{{ no template }}"
vault_list: [1, yes]
"""


@pytest.fixture
def loader() -> DataLoader:
    """Return a loader with a vault password."""
    loader = DataLoader()
    loader.set_vault_secrets([("default", VaultSecret(b"open sesame"))])
    return loader


@pytest.fixture
def vault(tmp_path: Path, loader: DataLoader) -> Path:
    """Return the path of a vault file."""
    path = tmp_path / "vault.yml"
    path.write_bytes(loader._vault.encrypt(TEXT))
    return path


def step(name: str, vault: Path, loader: DataLoader, *kinds: str, **arguments: Any) -> dict[str, Any]:
    """Do a step, and return its result."""
    chosen = list(kinds) or ["database", "django"]
    return run_action(plugin, loader, path=str(vault), step=name, secrets=SECRETS, kinds=chosen, **arguments)


def text_of(vault: Path, loader: DataLoader) -> str:
    """Return the text in the file."""
    assert vault.read_bytes().startswith(b"$ANSIBLE_VAULT;")
    return loader._vault.decrypt(vault.read_bytes()).decode()


def values(vault: Path, loader: DataLoader) -> dict[str, Any]:
    """Return the variables in the file."""
    return dict(loader.load(text_of(vault, loader)))


def test_the_whole_way(vault: Path, loader: DataLoader) -> None:
    old = values(vault, loader)
    assert step("begin", vault, loader)["secrets"] == ["vault_password", "vault_key"]
    begun = values(vault, loader)
    assert {name: begun[name] for name in old} == old
    new = {name: begun[f"{name}_next"] for name in ("vault_password", "vault_key")}
    assert [len(new[name]) for name in new] == [32, 40]

    step("switch", vault, loader)
    switched = values(vault, loader)
    for name in new:
        assert switched[name] == new[name]
        assert switched[f"{name}_previous"] == old[name]
        assert switched[f"{name}_next"] == ""

    step("refuse", vault, loader)
    refused = values(vault, loader)
    assert (refused["vault_password_previous"], refused["vault_key_previous"]) == ("", old["vault_key"])

    assert step("end", vault, loader)["changed"]
    assert values(vault, loader) == old | new | {"vault_key_previous": old["vault_key"]}
    # What is no secret of a rotation stays to the letter.
    kept = [line for line in TEXT.splitlines() if not re.match("vault_(password|key):", line)]
    assert [line for line in text_of(vault, loader).splitlines() if line in kept] == kept
    assert 'vault_key_previous: !unsafe "{{ no template }}"' in text_of(vault, loader)


@pytest.mark.parametrize("cut", ["begin", "switch", "refuse"])
def test_what_was_cut_is_finished_and_not_begun_anew(vault: Path, loader: DataLoader, cut: str) -> None:
    for name in plugin.STEPS[: plugin.STEPS.index(cut) + 1]:
        step(name, vault, loader)
    before = values(vault, loader)
    coming = before["vault_password_next"] or before["vault_password"]
    # The next run asks for something else, and finishes this all the same.
    for name in plugin.STEPS:
        assert step(name, vault, loader, "django")["secrets"] == ["vault_password", "vault_key"]
    after = values(vault, loader)
    assert after["vault_password"] == coming
    assert not [name for name in after if name.startswith("vault_password_") or name.endswith("_next")]


def test_each_step_is_done_once(vault: Path, loader: DataLoader) -> None:
    for name in plugin.STEPS:
        assert step(name, vault, loader)["changed"]
        before = vault.read_bytes()
        assert not step(name, vault, loader)["changed"]
        assert vault.read_bytes() == before


def test_second_rotation_drops_the_key_before(vault: Path, loader: DataLoader) -> None:
    for _ in range(2):
        for name in plugin.STEPS:
            step(name, vault, loader)
    assert "no template" not in text_of(vault, loader)


def test_only_what_is_chosen_begins(vault: Path, loader: DataLoader) -> None:
    assert step("begin", vault, loader, "database")["secrets"] == ["vault_password"]
    assert "vault_key_next" not in values(vault, loader)


def test_check_mode_writes_nothing(vault: Path, loader: DataLoader) -> None:
    before = vault.read_bytes()
    assert step("begin", vault, loader, check=True)["changed"]
    assert vault.read_bytes() == before


def test_unknown_kind_is_refused(vault: Path, loader: DataLoader) -> None:
    with pytest.raises(AnsibleActionFail, match="rotate knows database, django, and not redsi"):
        step("begin", vault, loader, "redsi")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("vault_key: one\n", "has no vault_password: run playbooks/secrets.yml"),
        ("vault_key: one\nvault_password: |\n  hidden\n", "vault_password in .* cannot be moved: write it on one line"),
    ],
)
def test_file_that_cannot_be_changed(vault: Path, loader: DataLoader, text: str, message: str) -> None:
    vault.write_bytes(loader._vault.encrypt(text))
    before = vault.read_bytes()
    with pytest.raises(AnsibleActionFail, match=message) as raised:
        for name in plugin.STEPS:
            step(name, vault, loader)
    assert "hidden" not in str(raised.value)
    assert vault.read_bytes() == before


def test_secret_that_a_host_has_from_elsewhere_is_refused(vault: Path, loader: DataLoader) -> None:
    class HostVars(dict):
        def raw_get(self, host: str) -> dict[str, str]:
            return self[host]

    before = vault.read_bytes()
    elsewhere = {"hostvars": HostVars(app1={"vault_password": "hidden"})}
    with pytest.raises(AnsibleActionFail, match="app1 has vault_password from elsewhere") as raised:
        step("begin", vault, loader, variables=elsewhere)
    assert "hidden" not in str(raised.value)
    assert vault.read_bytes() == before
