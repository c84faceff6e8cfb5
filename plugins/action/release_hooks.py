"""Run the hooks of one moment (django_app_hooks), once for each release.

    slipway.kit.release_hooks:
      when: before_migrate     # or after_migrate, after_switch
      app: shop
      leader: true             # whether this host runs those too that run once

They are read from the role's variable: their environment may have secrets, which so are in no task's arguments.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Run the hooks on this host, in no call where there are none."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        variables = (task_vars or {}) | {"ansible_no_target_syslog": True}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "when": {
                    "type": "str",
                    "choices": ["before_migrate", "after_migrate", "after_switch"],
                    "required": True,
                },
                "app": {"type": "str", "required": True},
                "leader": {"type": "bool", "required": True},
            }
        )
        hooks = [
            hook
            for hook in self._templar.template(variables.get("django_app_hooks", []))
            if hook["when"] == arguments["when"] and (arguments["leader"] or hook.get("every_host"))
        ]
        if not hooks:
            return result | {"changed": False, "ran": []}
        folder = f"/srv/{arguments['app']}"
        ran = self._execute_module(
            "slipway.kit.release_hooks",
            module_args={
                "app": arguments["app"],
                "folder": folder,
                "release": f"{folder}/candidate",
                "hooks": hooks,
            },
            task_vars=variables,
        )
        ran.pop("invocation", None)
        return ran
