#!/usr/bin/python
"""Document the action preflight, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: preflight
short_description: Validate the variables of a role on all hosts, and collect every fault
description:
  - Runs once for all hosts of the play, opens no connection, changes nothing and does not fail. The faults are kept in
    the fact C(__preflight_faults); M(slipway.kit.preflight_report) refuses them all at once.
  - Reads all options in the role's C(meta/argument_specs.yml) and C(meta/bounds.yml) from the variables of each host.
    No call names them, since an undefined or misspelt one is a fault as well.
  - Nothing is converted. An empty value is a fault, unless it is the default. A variable with the role's prefix that
    the specification does not know is a fault, with the nearest known name.
options:
  role: {description: The role., type: str, required: true}
  part:
    description: The name of checks in addition to those of the role's preflight; the options are not validated again.
    type: str
    default: ""
  checks:
    description: >-
      Checks, each with C(that), an expression or a list of expressions, and C(fail_msg); with C(variable), the variable
      that it is about, and C(fix), what to do, where they help.
    type: list
    elements: raw
    default: []
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Validate the variables of postgresql
  slipway.kit.preflight:
    role: postgresql
    checks:
      - variable: postgresql_port
        that: 1 <= postgresql_port <= 65535
        fail_msg: must be a port from 1 to 65535
        fix: leave it out to have 5432
"""

RETURN = r"""
faults: {description: The number of faults of this role on all hosts., returned: always, type: int}
"""
