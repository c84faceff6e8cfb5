"""The names of Ansible that are private or in no documented interface: all that Slipway uses of them is in this file.

Ansible may remove them in any version. tests/unit/test_ansible_private.py tells which are gone in the running one, and
refuses them in any other plugin.
"""

from __future__ import annotations

import os
from typing import Any

from ansible._internal._datatag._tags import Origin
from ansible.inventory.manager import IGNORED

__all__ = ["IGNORED", "Origin", "inventory_of", "playbook_path", "remote_path", "role_directory", "vault_of"]


def inventory_of(known: Any) -> Any:
    """Return the inventory that a VariableManager or HostVars reads."""
    return known._inventory


def playbook_path(playbook: Any) -> str:
    """Return the path of the file of a Playbook."""
    return str(playbook._file_name)


def remote_path(action: Any, name: str) -> str:
    """Return the path of a file in the temporary directory of an action on its host; the directory is created."""
    shell = action._connection._shell
    shell.tmpdir = shell.tmpdir or action._make_tmp_path()
    return str(shell.join_path(shell.tmpdir, name))


def role_directory(action: Any) -> str:
    """Return the directory of the role whose task calls an action; empty for a task outside of roles."""
    role = action._task._role
    return os.fspath(role._role_path) if role else ""


def vault_of(loader: Any) -> Any:
    """Return the VaultLib of a DataLoader, with the passwords of the run."""
    return loader._vault
