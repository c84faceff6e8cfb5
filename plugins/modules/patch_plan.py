#!/usr/bin/python
"""Document the action patch_plan, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: patch_plan
short_description: Choose the hosts to patch, and their order
description:
  - Chooses hosts with updates, hosts that need a restart and hosts that are out of the load. Hosts that are out of the
    load come first. A host whose restart stops a service is left out unless C(patch_stop) is true.
  - Reads C(patch_order), and C(patch_target), C(patch_reboot), C(patch_server), C(patch_stops) and C(patch_stop) of
    each host. No call names them, since one call judges all hosts, each by its own variables.
options:
  register:
    description: The variable with what M(slipway.kit.host_state) returned on each host.
    type: str
    required: true
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Choose the hosts to patch
  slipway.kit.patch_plan:
    register: seen
  run_once: true
  register: plan
"""

RETURN = r"""
hosts: {description: The hosts to patch in this order., returned: always, type: list, elements: str}
plan: {description: What is done to each host and why., returned: always, type: list, elements: str}
"""
