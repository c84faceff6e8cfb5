#!/usr/bin/python
"""Document the action debian_packages, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: debian_packages
short_description: Install the Debian packages that are missing
description:
  - Asks dpkg first, by one command and without a module, and calls M(ansible.builtin.apt) only for missing packages.
    Recommended packages are not installed.
  - Finishes an interrupted installation first, whichever package it was of, and waits for another apt or dpkg.
options:
  name:
    description: The packages. Without any, only an interrupted installation is finished.
    type: list
    elements: str
    default: []
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Install Nginx
  slipway.kit.debian_packages:
    name: [nginx, logrotate]
"""

RETURN = r"""
missing: {description: The packages that were not installed., returned: always, type: list, elements: str}
finished:
  description: The packages whose interrupted installation was finished.
  returned: when there were any
  type: list
  elements: str
"""
