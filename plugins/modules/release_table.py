#!/usr/bin/python
"""Document the action release_table, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_table
short_description: Show the releases of all hosts as one table
description: Runs once for all hosts of the play.
options:
  register:
    description: The variable with what M(slipway.kit.release_list) returned on each host.
    type: str
    required: true
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Show the releases
  slipway.kit.release_table:
    register: listed
"""

RETURN = r"""
releases: {description: The releases of each host., returned: always, type: dict}
"""
