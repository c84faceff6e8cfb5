#!/usr/bin/python
"""Document the action status_table, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: status_table
short_description: Show the status of all hosts as one table, and the problems below it
description: Runs once for all hosts of the play.
options:
  register:
    description: The variable with what M(slipway.kit.host_state) returned on each host.
    type: str
    required: true
  strict: {description: Whether to fail when there is a problem., type: bool, default: false}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Show the status
  slipway.kit.status_table:
    register: seen
    strict: true
"""

RETURN = r"""
needs: {description: The problems., returned: always, type: list, elements: str}
"""
