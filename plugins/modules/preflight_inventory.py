#!/usr/bin/python
"""Document the action preflight_inventory, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_inventory
short_description: Validate the inventory as a whole
description:
  - Runs once for all hosts, opens no connection, and adds to the faults of preflight what no role can see of its own
    variables. These are options of the wiring out of bounds, two hosts of one address, ports that something else uses,
    secrets in plain text, another site than the one that is recorded on a host, and what YAML reads otherwise than it
    looks.
  - Reads C(topology_*), C(base_*), C(ansible_*) and all secrets of each host. No call names them, since one call
    compares all hosts, and secrets stay out of the arguments of tasks.
options: {}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Validate the inventory
  slipway.kit.preflight_inventory:
"""
