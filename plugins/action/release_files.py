"""Write the configuration files of the inventory (django_app_files) whose paths are absolute.

    slipway.kit.release_files:

They are read from the role's variable, as there may be secrets in them. Folders that are missing are made; those that
are there keep their owner and mode. The files with a relative path are part of the release: release_build writes them.
"""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase


class ActionModule(ActionBase):
    """Write the files, in no call where there are none."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the result of the module config_files."""
        result = super().run(tmp, task_vars)
        self.validate_argument_spec(argument_spec={})
        variables = (task_vars or {}) | {"ansible_no_target_syslog": True}
        files = [
            {"owner": None, "group": None, "mode": None} | file
            for file in self._templar.template(variables.get("django_app_files", []))
            if file["path"].startswith("/")
        ]
        if not files:
            return result | {"changed": False}
        changed = False
        for folder in sorted({os.path.dirname(file["path"]) for file in files}):
            made = self._execute_module(
                "ansible.builtin.file", module_args={"path": folder, "state": "directory"}, task_vars=variables
            )
            if made.get("failed"):
                return made
            changed |= made["changed"]
        written = self._execute_module(
            "slipway.kit.config_files", module_args={"folders": [], "files": files}, task_vars=variables
        )  # fmt: skip
        written.pop("invocation", None)
        return written | {"changed": changed or written["changed"]}
