#!/usr/bin/python
"""Run an application's own commands once for each release: what the action of this name calls on the host."""

from __future__ import annotations

import hashlib
import json
import os
import re

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.release.app_command import AppCommand
from ansible_collections.slipway.kit.plugins.module_utils.release.store import LockedError, deploy_lock
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically

DOCUMENTATION = r"""
module: release_hooks
short_description: Run the hooks of an application once for each release
description:
  - Runs the commands in their order, as the application's user with its environment. The host remembers which hook was
    run for which release, so the next run continues an interrupted one. A hook that was changed, or whose release
    returns, runs again, unless it runs once in the life of a site.
  - Reads the role variable C(django_app_hooks). No call names it, since the environment of a hook may hold secrets, and
    the arguments of tasks are shown and logged.
options:
  when:
    description: The moment whose hooks are run.
    type: str
    choices: [before_migrate, after_migrate, after_switch]
    required: true
  app: {description: The application's name., type: str, required: true}
  leader: {description: Whether this host also runs hooks that run on one host only., type: bool, required: true}
author: Slipway contributors
"""

EXAMPLES = r"""
- name: Run the hooks before migrations
  slipway.kit.release_hooks:
    when: before_migrate
    app: shop
    leader: true
"""

RETURN = r"""
ran: {description: The hooks that were run., returned: always, type: list, elements: str}
"""


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "app": {"type": "str", "required": True},
            "folder": {"type": "path", "required": True},
            "release": {"type": "path", "required": True},
            "hooks": {"type": "list", "elements": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    folder, release = module.params["folder"], os.path.realpath(module.params["release"])
    notes = os.path.join(folder, "hooks.json")

    def stamp(hook: dict) -> str:
        if hook.get("once_per_site"):
            return "once"
        content = json.dumps([os.path.basename(release), hook], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()

    def waiting() -> list[dict]:
        return [hook for hook in module.params["hooks"] if read().get(f"{hook['when']} {hook['name']}") != stamp(hook)]

    def read() -> dict[str, str]:
        try:
            with open(notes) as file:
                return json.load(file)
        except (FileNotFoundError, ValueError):
            return {}

    if module.check_mode or not waiting():
        module.exit_json(changed=bool(waiting()), ran=[])
    ran, changed = [], False
    try:
        with deploy_lock(folder):
            for hook in waiting():
                result = AppCommand(
                    app=module.params["app"],
                    release=release,
                    command=hook["command"],
                    directory=hook.get("directory") or None,
                    user=hook.get("user") or None,
                    environment=hook.get("environment") or {},
                    timeout=hook.get("timeout") or 3600,
                ).run()
                if not result.succeeded:
                    module.fail_json(msg=result.explain(f"The hook {hook['name']} ({hook['when']})"), ran=ran)
                pattern = hook.get("changed_when")
                changed |= pattern is None or bool(re.search(pattern, result.output))
                ran.append({"name": hook["name"], "seconds": round(result.seconds, 1)})
                write_atomically(
                    notes, json.dumps(read() | {f"{hook['when']} {hook['name']}": stamp(hook)}).encode(), 0o600
                )
    except LockedError as error:
        module.fail_json(msg=str(error), ran=ran)
    module.exit_json(changed=changed, ran=ran)


if __name__ == "__main__":
    main()
