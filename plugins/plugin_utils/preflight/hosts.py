"""The variables of all hosts as the tasks of a role see them."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import inventory_of, role_directory

# What is taken to be so of a host that is not asked or does not answer, so that its variables can be inspected.
ASSUMED = {
    "architecture": platform.machine(),
    "distribution": "Debian",
    "distribution_major_version": "12",
    "distribution_release": "bookworm",
    "distribution_version": "12",
    "memtotal_mb": 65536,
    "os_family": "Debian",
    "processor_nproc": 2,
    "python_version": "3.11.2",
    "service_mgr": "systemd",
    "virtualization_role": "guest",
    "virtualization_type": "kvm",
}


class Remembered(dict[str, Any]):
    """The variables of a host as others see them through hostvars: each is resolved once."""

    def __init__(self, variables: Mapping[str, Any], loader: DataLoader) -> None:
        """Take the host's variables."""
        super().__init__(variables)
        self._templar = Templar(loader, dict(variables))
        self._resolved: dict[str, Any] = {}

    def __getitem__(self, name: str) -> Any:
        """Return a variable, resolved."""
        if name not in self._resolved:
            self._resolved[name] = self._templar.template(super().__getitem__(name))
        return self._resolved[name]


class Hosts:
    """The variables of all hosts as a role's tasks see them.

    Ansible puts a host's variables together whenever somebody asks for one of them. Where each of a hundred hosts asks
    for the addresses of all others, that is all that it does.
    """

    def __init__(self, variables: Mapping[str, Any], loader: DataLoader) -> None:
        """Take what the task itself is given, which is for one of the hosts."""
        self._known: HostVars = variables["hostvars"]
        self._loader = loader
        self._raw: dict[str, dict[str, Any]] = {}
        self._seen: dict[str, Remembered] = {}
        self._roles: dict[tuple[Path, str], dict[str, Any]] = {}
        own = self.raw(variables["inventory_hostname"])
        # What belongs to the play and the role rather than to the host.
        self._context = {name: value for name, value in variables.items() if name not in own}
        self._hostvars = HostVars(inventory_of(self._known), self, loader)  # type: ignore[arg-type]
        self._context["hostvars"] = self._hostvars

    def raw(self, name: str) -> dict[str, Any]:
        """Return what the inventory and the facts say of a host; those of one that was not asked are assumed."""
        if name not in self._raw:
            self._raw[name] = dict(self._known.raw_get(name))
            self._raw[name]["ansible_facts"] = ASSUMED | self._raw[name].get("ansible_facts", {})
        return self._raw[name]

    def known_facts(self, name: str) -> dict[str, Any]:
        """Return what a host has said of itself."""
        facts: dict[str, Any] = self._known.raw_get(name).get("ansible_facts", {})
        return facts

    def get_vars(self, host: Any, include_hostvars: bool = False) -> Remembered:
        """Return what hostvars shows of a host; HostVars asks for it as it would ask Ansible."""
        if host.name not in self._seen:
            self._seen[host.name] = Remembered(self.raw(host.name), self._loader)
        return self._seen[host.name]

    def variables(self, name: str, *roles: Path) -> dict[str, Any]:
        """Return all variables of a host, with the defaults and the internal variables of roles."""
        defaults: dict[str, Any] = {}
        internal: dict[str, Any] = {}
        for role in roles:
            defaults |= self._of_role(role, "defaults")
            internal |= self._of_role(role, "vars")
        return defaults | self._context | internal | self.raw(name)

    def _of_role(self, role: Path, kind: str) -> dict[str, Any]:
        if (role, kind) not in self._roles:
            path = role / kind / "main.yml"
            found = self._loader.load_from_file(str(path), trusted_as_template=True) if path.exists() else {}
            self._roles[role, kind] = found or {}
        return self._roles[role, kind]


def find_role(action: Any, role: str) -> Path:
    """Return the directory of a role: beside the one whose task calls the action, or on Ansible's path."""
    own = role_directory(action)
    folders = [os.path.dirname(own)] if own else C.DEFAULT_ROLES_PATH
    for folder in folders:
        if os.path.isdir(os.path.join(folder, role)):
            return Path(folder, role)
    raise AnsibleActionFail(f"there is no role {role} in {', '.join(folders)}")
