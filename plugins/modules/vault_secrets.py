#!/usr/bin/python
"""Document the action vault_secrets, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: vault_secrets
short_description: Generate the secrets that a vault file of an inventory lacks
description:
  - Appends what is missing; all that is in the file stays as it is. Only its owner may read the file. No value is
    returned.
options:
  path: {description: The vault file., type: path, required: true}
  encrypted: {description: "Whether to encrypt the file with the vault password.", type: bool, default: true}
  secrets:
    description: The secrets of the inventory.
    type: list
    elements: dict
    required: true
    options:
      name: {description: The variable., type: str, required: true}
      length: {description: The number of characters., type: int, default: 32}
      kind:
        description: What to generate, a text or an authority that signs certificates.
        type: str
        choices: [text, authority]
        default: text
      rotate: {description: The kind of its rotation; see M(slipway.kit.rotate_vault)., type: str, default: ""}
      keep: {description: "Whether its rotation keeps the old value.", type: bool, default: false}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Generate the missing secrets
  slipway.kit.vault_secrets:
    path: inventories/production/group_vars/all/vault.yml
    secrets:
      - {name: vault_postgresql_password}
      - {name: vault_site_authority, kind: authority}
"""

RETURN = r"""
path: {description: The file., returned: always, type: str}
added: {description: The names of the secrets that were generated., returned: always, type: list, elements: str}
"""
