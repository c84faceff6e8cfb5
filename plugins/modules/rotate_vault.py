#!/usr/bin/python
"""Document the action rotate_vault, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: rotate_vault
short_description: Rotate the secrets in a vault file of an inventory, one step at a time
description:
  - The file is the state of the rotation, so the next run finishes an interrupted one.
  - C(begin) writes the new value as C(NAME_next). C(switch) makes it C(NAME), and the old one C(NAME_previous).
    C(refuse) empties C(NAME_previous), except of a secret to C(keep). C(end) removes what is empty.
  - All other lines stay as they are. No value is returned.
options:
  path: {description: The vault file., type: path, required: true}
  encrypted: {description: Whether the file is encrypted with the vault password., type: bool, default: true}
  step: {description: What to do., type: str, choices: [begin, switch, refuse, end], required: true}
  kinds: {description: The kinds of secrets to rotate., type: list, elements: str, required: true}
  secrets:
    description: The secrets of the inventory.
    type: list
    elements: dict
    required: true
    options:
      name: {description: The variable., type: str, required: true}
      length: {description: The number of characters., type: int, default: 32}
      kind: {description: What it is., type: str, choices: [text, authority], default: text}
      rotate: {description: The kind of the rotation; empty is never rotated., type: str, default: ""}
      keep: {description: Whether the old value stays valid until the next rotation., type: bool, default: false}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Write the new passwords
  slipway.kit.rotate_vault:
    path: inventories/production/group_vars/all/vault.yml
    step: begin
    kinds: [postgresql]
    secrets:
      - {name: vault_postgresql_password, rotate: postgresql}
"""

RETURN = r"""
path: {description: The file., returned: always, type: str}
secrets: {description: The names of the secrets that this step changed., returned: always, type: list, elements: str}
"""
