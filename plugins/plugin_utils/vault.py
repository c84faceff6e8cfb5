"""Vault files on the control node: what they hold, how they are encrypted, and new secrets for them.

No value is in a message, and what is written is put in place whole or not at all.
"""

from __future__ import annotations

import os
import secrets
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.parsing.vault import is_encrypted, match_encrypt_secret

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import vault_of
from ansible_collections.slipway.kit.plugins.plugin_utils.authority import new_authority

ARGUMENTS: dict[str, Any] = {
    "path": {"type": "path", "required": True},
    "encrypted": {"type": "bool", "default": True},
    "secrets": {
        "type": "list",
        "elements": "dict",
        "required": True,
        "options": {
            "name": {"type": "str", "required": True},
            "length": {"type": "int", "default": 32},
            "kind": {"type": "str", "choices": ["text", "authority"], "default": "text"},
            # What rotate_vault wants to know of them.
            "rotate": {"type": "str", "default": ""},
            "keep": {"type": "bool", "default": False},
        },
    },
}


ALPHABET = string.ascii_letters + string.digits


def generate(kind: str, length: int) -> str:
    """Return a new secret: text of a length, or an authority that signs certificates."""
    if kind == "authority":
        return new_authority()
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class VaultFile:
    """A vault file on the control node."""

    def __init__(self, path: str, encrypted: bool, loader: DataLoader) -> None:
        """Take the path, whether the file shall be encrypted, and what has the passwords of the run."""
        # A link to the file stays one: what it points at is replaced.
        self.path = Path(os.path.realpath(loader.path_dwim(path)))
        self._encrypted = encrypted
        self._loader = loader

    def encryption(self) -> Callable[[str], bytes]:
        """Return the function that encrypts text as the file is encrypted, or as Ansible encrypts new ones."""
        if not self._encrypted:
            return str.encode
        vault = vault_of(self._loader)
        if not vault.secrets:
            raise AnsibleActionFail(
                "no vault password is configured: give --vault-password-file or --ask-vault-pass, or set "
                "ANSIBLE_VAULT_PASSWORD_FILE"
            )
        if self.path.exists() and is_encrypted(content := self.path.read_bytes()):
            try:
                _, vault_id, secret = vault.decrypt_and_get_vault_id(content)
            except AnsibleError:
                message = f"{self.path} cannot be decrypted with the vault password that was given"
                raise AnsibleActionFail(message) from None
        else:
            vault_id, secret = match_encrypt_secret(vault.secrets, C.DEFAULT_VAULT_ENCRYPT_IDENTITY)
        return lambda text: vault.encrypt(text, secret=secret, vault_id=vault_id)

    def read(self) -> str:
        """Return the text in the file, decrypted; refuse a file that is not as it shall be."""
        content = self.path.read_bytes()
        if self._encrypted and not is_encrypted(content):
            raise AnsibleActionFail(f"{self.path} is not encrypted: run 'ansible-vault encrypt {self.path}' first")
        if not self._encrypted and is_encrypted(content):
            raise AnsibleActionFail(
                f"{self.path} is encrypted: run 'ansible-vault decrypt {self.path}' first, or encrypt the rest too"
            )
        return (vault_of(self._loader).decrypt(content) if self._encrypted else content).decode()

    def parse(self, text: str) -> dict[str, Any]:
        """Return the variables in the text. What the parser says is not passed on: it may quote the text."""
        try:
            variables = self._loader.load(text, file_name=str(self.path), show_content=False)
        except AnsibleError:
            message = f"what {self.path} holds is not valid YAML: see 'ansible-vault edit {self.path}'"
            raise AnsibleActionFail(message) from None
        if not isinstance(variables, dict | None):
            raise AnsibleActionFail(f"what {self.path} holds is not a list of variables and their values")
        return dict(variables or {})

    def write(self, content: bytes) -> None:
        """Put the content in place whole or not at all, readable by its owner alone."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp gives 0600.
        descriptor, temporary = tempfile.mkstemp(dir=self.path.parent, prefix=f".{self.path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self.path)
        except BaseException:
            os.unlink(temporary)
            raise
