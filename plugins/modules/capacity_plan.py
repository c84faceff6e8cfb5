#!/usr/bin/python
"""Document the action capacity_plan, which runs on the control node: this file is sent to no host."""

from __future__ import annotations

DOCUMENTATION = r"""
module: capacity_plan
short_description: Add up workers, memory and database connections over all hosts
description:
  - Runs once for all hosts of the play, opens no connection and changes nothing.
  - Evaluates the role variables that the configuration files are written from, on every host. No call names them,
    since the plan must use the same numbers as gunicorn, Celery, PostgreSQL, Redis and Nginx. It reads C(gunicorn_*),
    C(celery_*), C(postgresql_*), C(pgbouncer_*), C(redis_*), C(nginx_*) and C(topology_*).
options:
  enforce:
    description: Whether what does not fit is added to the faults of preflight; otherwise it is only shown.
    type: bool
    default: false
  picture:
    description: The file for a page in HTML with the topology; empty writes none.
    type: str
    default: ""
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Calculate the capacity plan
  slipway.kit.capacity_plan:
    picture: .cache/plan.html
  register: plan
"""

RETURN = r"""
fits: {description: Whether everything fits., returned: always, type: bool}
table: {description: The plan as lines of text., returned: always, type: list, elements: str}
picture: {description: The path of the page; empty where none was written., returned: always, type: str}
"""
