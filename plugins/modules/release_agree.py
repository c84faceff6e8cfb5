#!/usr/bin/python
"""Document the action release_agree, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_agree
short_description: Refuse a rollback to different releases on the hosts of a site
description:
  - Runs once for all hosts. The previous release is a link on each host; a host that was restored or has missed a
    deployment has another one.
options:
  register:
    description: The variable with what M(slipway.kit.release_select) returned on each host.
    type: str
    required: true
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Refuse different releases
  slipway.kit.release_agree:
    register: selected
"""
