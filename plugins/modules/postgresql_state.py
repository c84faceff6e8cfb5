#!/usr/bin/python
"""Tell how the PostgreSQL of a host stands: primary or replica, how far, and what follows it."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.postgresql import Cluster

DOCUMENTATION = r"""
module: postgresql_state
short_description: Tell how the PostgreSQL of a host stands
description:
  - Reads the disk and asks the server, and changes nothing. A host without PostgreSQL has the role C(none).
  - The answer is the fact C(slipway_postgresql) of the host.
options:
  version: {description: The major version that the host is to have., type: int, required: true}
author: Slipway contributors
"""

RETURN = r"""
postgresql:
  description:
    - The I(role) (C(primary), C(replica) or C(none)) and I(state) (C(running), C(silent), C(stopped) or C(none)),
      whether there is I(data) of somebody's and whether the role postgresql has I(managed) it, the
      I(system_identifier), the I(timeline), and the I(position) in the log in bytes.
    - "Of a primary that runs: I(replicas), each with I(name), I(address), I(state), I(lag_bytes) and I(lag_seconds),
      the I(icu_locales) of its databases, and I(slots), each with I(name), I(active), I(wal_status), and the bytes of
      the log that it keeps and may keep."
    - "Of a replica that runs: I(lag_bytes), I(lag_seconds), and the I(receiver) while it is connected to its primary."
  type: dict
  returned: always
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(argument_spec={"version": {"type": "int", "required": True}}, supports_check_mode=True)
    found = Cluster(module, module.params["version"]).describe()
    module.exit_json(changed=False, postgresql=found, ansible_facts={"slipway_postgresql": found})


if __name__ == "__main__":
    main()
