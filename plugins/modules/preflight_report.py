#!/usr/bin/python
"""Document the action preflight_report, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight_report
short_description: Refuse the inventory with all faults that preflight has found
description:
  - Runs once, in the last play of preflight, over all hosts. It fails when there is any fault, with the variable, the
    value, the file and line, the reason and what to do. A fault of several hosts is listed once.
options: {}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Refuse a wrong inventory
  slipway.kit.preflight_report:
"""

RETURN = r"""
faults: {description: All faults as text., returned: on failure, type: str}
"""
