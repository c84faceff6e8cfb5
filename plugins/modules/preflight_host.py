#!/usr/bin/python
"""Document the action preflight_host, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_host
short_description: Gather the facts of a host, and report a host that does not answer
description:
  - Gathers the facts that roles read, and those of M(slipway.kit.preflight_facts).
  - A host that cannot be reached, or where Ansible cannot become root, does not fail here. It becomes a fault, which
    M(slipway.kit.preflight_report) refuses together with all others. The fact C(preflight_reached) tells whether the
    host answered.
options:
  ask: {description: "Whether to ask the host; false gathers nothing.", type: bool, default: true}
  stated:
    description: Variables of which a host that has them all is not asked.
    type: list
    elements: str
    default: []
  pythons:
    description: Python programs whose version is asked for.
    type: list
    elements: str
    default: []
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Gather facts
  slipway.kit.preflight_host:
    pythons: [/opt/python3.14/bin/python3]
"""
