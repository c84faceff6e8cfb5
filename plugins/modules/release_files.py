#!/usr/bin/python
"""Document the action release_files, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: release_files
short_description: Write the configuration files of the inventory that are not part of a release
description:
  - Writes the files of C(django_app_files) whose paths are absolute. Directories that are missing are created. Files
    with a relative path are part of the release; M(slipway.kit.release_build) writes them.
  - Reads the role variable C(django_app_files). No call names it, since the files may hold secrets, and the arguments
    of tasks are shown and logged.
options: {}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Write the configuration files of the inventory
  slipway.kit.release_files:
"""
