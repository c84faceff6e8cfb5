"""Take the secrets in an inventory's vault file from one value to the next, a step at a time.

    slipway.kit.rotate_vault:
      path: inventories/production/group_vars/all/vault.yml
      step: begin
      secrets:
        - {name: vault_postgresql_password, length: 32, rotate: postgresql}
        - {name: vault_django_secret_key, length: 64, rotate: django, keep: true}
      kinds: [postgresql, django]

The file itself is the state of a rotation, so that a run that was cut is finished by the next one:

    begin    NAME_next has the new value. NAME is in use.
    switch   NAME has the new value, NAME_previous the old one. NAME_next is empty, which says that more is to come.
    refuse   NAME_previous is empty; of a secret to `keep` it stays, and is what the next rotation drops.
    end      What is empty is gone.

Each step goes on with whatever is on its way, and `begin` starts with what is not; a secret whose rotation was begun by
an earlier run is finished, not changed a second time. All other lines stay, to the letter. No value leaves this plugin
but into the file.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.vault import ARGUMENTS, VaultFile, generate

STEPS = ("begin", "switch", "refuse", "end")


class Lines:
    """The text of a vault file, whose variables are lines of their own."""

    def __init__(self, text: str) -> None:
        """Take the text."""
        self.text = text if text.endswith("\n") else text + "\n"

    def value(self, name: str) -> str | None:
        """Return what stands behind a name, as it is written; None where the name is not."""
        found = re.search(rf"^{name}:(.*)$", self.text, re.MULTILINE)
        return found[1].strip() if found else None

    def put(self, name: str, value: str) -> None:
        """Write a value, as it is to be written, behind a name; a new name comes last."""
        line = f"{name}: {value}"
        if self.value(name) is None:
            self.text += line + "\n"
        else:
            self.text = re.sub(rf"^{name}:.*$", lambda _: line, self.text, count=1, flags=re.MULTILINE)

    def remove(self, name: str) -> None:
        """Remove a name and its value."""
        self.text = re.sub(rf"^{name}:.*\n", "", self.text, count=1, flags=re.MULTILINE)


class ActionModule(ActionBase):
    """Do one step of a rotation in a vault file on the control node."""

    _requires_connection = False

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the names of the secrets that are on their way, and whether the file changed."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec=ARGUMENTS
            | {
                "step": {"type": "str", "choices": list(STEPS), "required": True},
                "kinds": {"type": "list", "elements": "str", "required": True},
            }
        )
        file = VaultFile(arguments["path"], arguments["encrypted"], self._loader)
        path = file.path
        if not path.exists():
            raise AnsibleActionFail(f"{path} is not there: run playbooks/secrets.yml for this inventory")
        encrypt = file.encryption()
        before = file.read()
        known = file.parse(before)
        lines, after, moved = Lines(before), dict(known), []
        rotated = [secret for secret in arguments["secrets"] if secret["rotate"]]
        self._refuse_unknown(arguments["kinds"], sorted({secret["rotate"] for secret in rotated}))
        for secret in rotated:
            secret["wanted"] = secret["rotate"] in arguments["kinds"]
            if self._advance(arguments["step"], secret, lines, after, file):
                moved.append(secret["name"])
        if arguments["step"] == "begin":
            self._refuse_others(moved, known, task_vars or {}, path)
        if file.parse(lines.text) != after:
            raise AnsibleActionFail(f"{path} cannot be changed: write each of {', '.join(moved)} on a line of its own")
        changed = after != known
        if changed and not self._task.check_mode:
            file.write(encrypt(lines.text))
        return result | {"changed": changed, "path": str(path), "secrets": moved}

    def _advance(self, step: str, secret: dict[str, Any], lines: Lines, after: dict[str, Any], file: VaultFile) -> bool:
        """Take one secret as far as `step`, in the text and in what it shall hold; return whether it is on its way."""
        path = file.path
        name, coming, going = secret["name"], f"{secret['name']}_next", f"{secret['name']}_previous"

        def put(key: str, value: Any, written: str) -> None:
            lines.put(key, written)
            after[key] = value

        def remove(key: str) -> None:
            lines.remove(key)
            after.pop(key, None)

        if step == "begin" and coming not in after and secret["wanted"]:
            if not after.get(name):
                raise AnsibleActionFail(f"{path} has no {name}: run playbooks/secrets.yml for this inventory")
            if file.parse(f"{name}: {lines.value(name)}") != {name: after[name]}:
                raise AnsibleActionFail(f"{name} in {path} cannot be moved: write it on one line")
            new = generate(secret["kind"], secret["length"])
            put(coming, new, f'"{new}"')
        if coming not in after:
            return False
        if step == "switch" and after[coming]:
            put(going, after[name], lines.value(name) or "")
            put(name, after[coming], lines.value(coming) or "")
            put(coming, "", '""')
        if step == "refuse" and not secret["keep"] and after.get(going):
            put(going, "", '""')
        if step == "end":
            remove(coming)
            if not secret["keep"]:
                remove(going)
        return True

    @staticmethod
    def _refuse_unknown(chosen: list[str], known: list[str]) -> None:
        """Refuse to rotate what there is not."""
        if unknown := [kind for kind in chosen if kind not in known]:
            raise AnsibleActionFail(f"rotate knows {', '.join(known)}, and not {', '.join(unknown)}")

    @staticmethod
    def _refuse_others(names: list[str], known: dict[str, Any], variables: dict[str, Any], path: Path) -> None:
        """Refuse to change secrets that hosts do not take from the file: what is written there would do nothing."""
        hostvars = variables.get("hostvars", {})
        for host in hostvars:
            for name in names:
                used = hostvars.raw_get(host).get(name, known[name])
                if str(used) != str(known[name]):
                    raise AnsibleActionFail(
                        f"{host} has {name} from elsewhere than {path}, as from the command line or from a file that "
                        "outranks it: rotation changes this file alone"
                    )
