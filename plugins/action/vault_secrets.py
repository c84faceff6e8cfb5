"""Generate the secrets that an inventory's vault file lacks.

    slipway.kit.vault_secrets:
      path: inventories/production/group_vars/all/vault.yml
      secrets:
        - {name: vault_postgresql_password, length: 32}
        - {name: vault_site_authority, kind: authority}

The file is encrypted with the vault password that Ansible was given; `encrypted: false` leaves it in plain text, for
hosts that are thrown away. What it holds already stays, to the letter: new lines are put behind it. No value leaves
this plugin but into the file, which only its owner may read.
"""

from __future__ import annotations

import os
import re
import secrets
import string
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

from ansible import constants as C
from ansible.errors import AnsibleActionFail, AnsibleError
from ansible.parsing.vault import is_encrypted, match_encrypt_secret
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.filter.authority import new_authority
from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import vault_of

ALPHABET = string.ascii_letters + string.digits


def generate(kind: str, length: int) -> str:
    """Return a new secret: text of a length, or an authority that signs certificates."""
    if kind == "authority":
        return new_authority()
    return "".join(secrets.choice(ALPHABET) for _ in range(length))


class ActionModule(ActionBase):
    """Add what is missing to a vault file on the control node."""

    _requires_connection = False
    ARGUMENTS: ClassVar[dict[str, Any]] = {
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

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add the missing secrets, and return their names."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=self.ARGUMENTS)
        # A link to the file stays one: what it points at is replaced.
        path = Path(os.path.realpath(self._loader.path_dwim(arguments["path"])))
        wanted = {item["name"]: (item["kind"], item["length"]) for item in arguments["secrets"]}
        for name, (_, length) in wanted.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                raise AnsibleActionFail(f"{name!r} cannot be the name of a variable")
            if length < 16:
                raise AnsibleActionFail(f"{name} would have {length} characters, needs 16 or more")
        encrypt = self._open_vault(path) if arguments["encrypted"] else str.encode
        text = self._read(path, arguments["encrypted"]) if path.exists() else "---\n"
        present = self._parse(text, path)
        if empty := [name for name in wanted if name in present and present[name] in (None, "")]:
            names = ", ".join(empty)
            raise AnsibleActionFail(f"{names} in {path} is empty: remove the line to have it generated")

        missing = {name: what for name, what in wanted.items() if name not in present}
        if missing and not self._task.check_mode:
            generated = {name: generate(*what) for name, what in missing.items()}
            text = text if text.endswith("\n") else text + "\n"
            text += "".join(f'{name}: "{value}"\n' for name, value in generated.items())
            if self._parse(text, path) != present | generated:
                raise AnsibleActionFail(
                    f"lines cannot be added to {path}: write it as 'name: value' lines without an end mark"
                )
            self._write(path, encrypt(text))
        return result | {"changed": bool(missing), "path": str(path), "added": list(missing)}

    def _open_vault(self, path: Path) -> Callable[[str], bytes]:
        """Return the function that encrypts as the file is encrypted, or as Ansible encrypts new ones."""
        vault = vault_of(self._loader)
        if not vault.secrets:
            raise AnsibleActionFail(
                "no vault password is configured: give --vault-password-file or --ask-vault-pass, or set "
                "ANSIBLE_VAULT_PASSWORD_FILE"
            )
        if path.exists() and is_encrypted(content := path.read_bytes()):
            try:
                _, vault_id, secret = vault.decrypt_and_get_vault_id(content)
            except AnsibleError:
                message = f"{path} cannot be decrypted with the vault password that was given"
                raise AnsibleActionFail(message) from None
        else:
            vault_id, secret = match_encrypt_secret(vault.secrets, C.DEFAULT_VAULT_ENCRYPT_IDENTITY)
        return lambda text: vault.encrypt(text, secret=secret, vault_id=vault_id)

    def _read(self, path: Path, encrypted: bool) -> str:
        """Return the text in the file, decrypted; refuse a file that is not as it shall be."""
        content = path.read_bytes()
        if encrypted and not is_encrypted(content):
            raise AnsibleActionFail(f"{path} is not encrypted: run 'ansible-vault encrypt {path}' first")
        if not encrypted and is_encrypted(content):
            raise AnsibleActionFail(
                f"{path} is encrypted: run 'ansible-vault decrypt {path}' first, or encrypt the rest too"
            )
        return (vault_of(self._loader).decrypt(content) if encrypted else content).decode()

    def _parse(self, text: str, path: Path) -> dict[str, Any]:
        """Return the variables in the text. What the parser says is not passed on: it may quote the text."""
        try:
            variables = self._loader.load(text, file_name=str(path), show_content=False)
        except AnsibleError:
            message = f"what {path} holds is not valid YAML: see 'ansible-vault edit {path}'"
            raise AnsibleActionFail(message) from None
        if not isinstance(variables, dict | None):
            raise AnsibleActionFail(f"what {path} holds is not a list of variables and their values")
        return dict(variables or {})

    def _write(self, path: Path, content: bytes) -> None:
        """Put the content in place whole or not at all, readable by its owner alone."""
        path.parent.mkdir(parents=True, exist_ok=True)
        # mkstemp gives 0600.
        descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
