#!/usr/bin/python
"""Document the action site_guard, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: site_guard
short_description: Refuse a host that belongs to another site
description:
  - Compares the record of the site on the host with the inventory, in a playbook that runs without preflight. One
    command reads the record. Nothing is asked where preflight has run before.
  - Reads the role variables C(base_site), C(base_groups) and C(base_site_change) of the host. No call names them,
    since they must be those that the role base records.
options:
  set_up: {description: Whether to refuse a host that site.yml has not set up., type: bool, default: false}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Refuse a host of another site
  slipway.kit.site_guard:
    set_up: true
"""

RETURN = r"""
faults: {description: What differs., returned: on failure, type: str}
"""
