"""Have Debian packages installed, and say so at once where they are.

    debian_packages:
      name: [nginx, ...]

ansible.builtin.apt installs what is missing, without what is only recommended. It is not asked when nothing is: opening
its cache costs most of a second each time, and a dry run of it fails on hosts that have no python3-apt yet.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

UPDATE_AGE = 3600  # seconds after which the package lists are old


class ActionModule(ActionBase):
    """Install the packages that are missing."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was missing, or apt's own result when it could not be installed."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={"name": {"type": "list", "elements": "str", "required": True}}
        )
        query = "dpkg-query --show --showformat '${Package} ${db:Status-Status}\\n' " + shlex.join(arguments["name"])
        answer = self._low_level_execute_command(f"{query} 2>/dev/null")
        installed = {line.split()[0] for line in answer["stdout_lines"] if line.endswith(" installed")}
        missing = [name for name in arguments["name"] if name not in installed]
        if missing and not self._task.check_mode:
            # A run starts what it installs by itself; needrestart would look at every process after each installation.
            self._task.environment = [*(self._task.environment or []), {"NEEDRESTART_SUSPEND": "1"}]
            apt = {
                "name": missing,
                "install_recommends": False,
                "update_cache": True,
                "cache_valid_time": UPDATE_AGE,
                "lock_timeout": 300,
            }
            return self._execute_module("ansible.builtin.apt", module_args=apt, task_vars=task_vars)
        return result | {"changed": bool(missing), "missing": missing}
