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

import re
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.vault import ARGUMENTS, VaultFile, generate


class ActionModule(ActionBase):
    """Add what is missing to a vault file on the control node."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Add the missing secrets, and return their names."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(argument_spec=ARGUMENTS)
        file = VaultFile(arguments["path"], arguments["encrypted"], self._loader)
        path = file.path
        wanted = {item["name"]: (item["kind"], item["length"]) for item in arguments["secrets"]}
        for name, (_, length) in wanted.items():
            if not re.fullmatch(r"[A-Za-z_]\w*", name, re.ASCII):
                raise AnsibleActionFail(f"{name!r} cannot be the name of a variable")
            if length < 16:
                raise AnsibleActionFail(f"{name} would have {length} characters, needs 16 or more")
        encrypt = file.encryption()
        text = file.read() if path.exists() else "---\n"
        present = file.parse(text)
        if empty := [name for name in wanted if name in present and present[name] in (None, "")]:
            names = ", ".join(empty)
            raise AnsibleActionFail(f"{names} in {path} is empty: remove the line to have it generated")

        missing = {name: what for name, what in wanted.items() if name not in present}
        if missing and not self._task.check_mode:
            generated = {name: generate(*what) for name, what in missing.items()}
            text = text if text.endswith("\n") else text + "\n"
            text += "".join(f'{name}: "{value}"\n' for name, value in generated.items())
            if file.parse(text) != present | generated:
                raise AnsibleActionFail(
                    f"lines cannot be added to {path}: write it as 'name: value' lines without an end mark"
                )
            file.write(encrypt(text))
        return result | {"changed": bool(missing), "path": str(path), "added": list(missing)}
