#!/usr/bin/python
"""Document the action edge_reach, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: edge_reach
short_description: Warn when a port of a host cannot be reached from elsewhere
description:
  - Connects to the port from the control node. Where the control node cannot connect to the port of ssh either, as
    with a jump host, the host that the task is delegated to connects instead.
  - A port that cannot be reached is a warning and no failure, since it may be open to others only, as to a CDN.
options:
  address: {description: The address of the host., type: str, required: true}
  port: {description: The port., type: int, required: true}
  ssh_port: {description: "The port of ssh, which shows whether the control node can tell.", type: int, default: 22}
  elsewhere:
    description: Whether C(delegate_to) names another host of the site, which may be asked.
    type: bool
    default: false
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Check that the edge can be reached
  slipway.kit.edge_reach:
    address: "{{ topology_address }}"
    port: 443
    elsewhere: true
  delegate_to: other.example.com
"""

RETURN = r"""
reached: {description: "Whether the port can be reached, null where nobody can tell.", returned: always, type: bool}
"""
