#!/usr/bin/python
"""Keep a systemd unit running with the configuration that is on disk."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd.managed_unit import OPTIONS, keep

DOCUMENTATION = r"""
module: managed_unit
short_description: Keep a systemd unit running with the configuration that is on disk
description:
  - Enables and starts a unit, and restarts or reloads it when the files that it is configured by differ from those
    that it last started or reloaded with. What was applied is remembered on the host, so a run that was cut between
    writing a file and reloading is finished by the next one; a handler would be lost. When the unit's own file or a
    drop-in has changed, systemd reads them again; that alone restarts nothing.
  - A copy of the files is kept when they are applied. If C(validate) refuses other ones, or the unit does not run with
    them, the copy is restored, the unit runs with it again, and the module fails.
options:
  name: {description: The unit., type: str, required: true}
  restart_on: {description: Files and folders whose change needs a restart., type: list, elements: str, default: []}
  reload_on:
    description: Files and folders whose change needs a reload only.
    type: list
    elements: str
    default: []
  renamed:
    description: Paths in the files of I(restart_on) that have a new name, new to old; it restarts nothing.
    type: dict
    default: {}
  validate:
    description: A command that must succeed before the unit is started, restarted or reloaded.
    type: list
    elements: str
    default: []
  around:
    description: Units to stop before this one is started or restarted, and to start after it.
    type: list
    elements: str
    default: []
  enabled: {description: Whether the unit starts with the host., type: bool, default: true}
  state: {description: Whether the unit runs., type: str, choices: [running, stopped], default: running}
  stamps: {description: Where to remember what was applied., type: path, default: /var/lib/slipway-applied}
author: Slipway contributors
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec=OPTIONS, supports_check_mode=True)
    actions = keep(module, module.params)
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
