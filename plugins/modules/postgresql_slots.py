#!/usr/bin/python
"""Hold the replication slots of a PostgreSQL to those that its replicas need."""

from __future__ import annotations

import json

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.postgresql import Cluster

DOCUMENTATION = r"""
module: postgresql_slots
short_description: Hold the replication slots of a PostgreSQL to those that its replicas need
description:
  - Makes the physical slots that are missing, and those anew that lost what they were to keep. Removes the ones with
    the prefix that are not named and that nobody uses; they would keep the log for nobody. Others are left alone.
options:
  version: {description: The major version., type: int, required: true}
  prefix: {description: What the names of our slots begin with., type: str, required: true}
  names: {description: "The slots, without the prefix.", type: list, elements: str, required: true}
author: Slipway contributors
"""

LOOK = """
SELECT coalesce(json_agg(json_build_object('name', slot_name, 'active', active, 'lost', wal_status = 'lost')), '[]')
FROM pg_replication_slots WHERE slot_type = 'physical' AND NOT temporary"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "version": {"type": "int", "required": True},
            "prefix": {"type": "str", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    cluster = Cluster(module, module.params["version"])
    prefix = module.params["prefix"]
    wanted = [prefix + name for name in module.params["names"]]
    answer = cluster.ask(LOOK)
    if answer is None:
        module.fail_json(msg="PostgreSQL does not answer")
    found = {slot["name"]: slot for slot in json.loads(answer) if slot["name"].startswith(prefix)}
    idle = [name for name, slot in found.items() if not slot["active"]]
    remove = [name for name in idle if name not in wanted or found[name]["lost"]]
    make = [name for name in wanted if name not in found or name in remove]
    statements = [("SELECT pg_drop_replication_slot(:'name')", name) for name in remove]
    statements += [("SELECT pg_create_physical_replication_slot(:'name', true)", name) for name in make]
    for statement, name in [] if module.check_mode else statements:
        if cluster.ask(statement, name=name) is None:
            module.fail_json(msg=f"PostgreSQL refuses {statement} for {name}; its log has the reason")
    module.exit_json(changed=bool(statements), removed=remove, made=make)


if __name__ == "__main__":
    main()
