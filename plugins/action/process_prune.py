"""Remove the descriptions of services and the timers that are no longer wanted.

    slipway.kit.process_prune:
      app: shop
      services: [listener]      # the names of those to keep
      timers: [sweep]

Of what lies in /etc/APP/services, the folders of gunicorn and Celery stay: their roles look after them. One command of
the shell tells what there is; the module of the same name is called where something of it is to be removed.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from ansible.plugins.action import ActionBase

SETTINGS = "/etc"
OTHERS = re.compile(r"(web|celery)(-.*)?")


class ActionModule(ActionBase):
    """Find what is not wanted, and have it removed."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the names of what was removed, or would be."""
        result = super().run(tmp, task_vars)
        names = {"type": "list", "elements": "str", "required": True}
        _, arguments = self.validate_argument_spec(
            argument_spec={"app": {"type": "str", "required": True}, "services": names, "timers": names}
        )
        folder = f"{SETTINGS}/{arguments['app']}"
        folders, markers = f"{folder}/services", f"{folder}/timers"
        # A host that was never touched has no such folder.
        quoted = shlex.quote(folder)
        answer = self._low_level_execute_command(f"test ! -d {quoted} || find {quoted} -mindepth 2 -maxdepth 2")
        if answer["rc"] != 0:
            return result | {"failed": True, "msg": f"The services and timers were not to be seen: {answer['stderr']}"}
        present = answer["stdout"].splitlines()
        services = [path.removeprefix(f"{folders}/") for path in present if path.startswith(f"{folders}/")]
        timers = [
            path.removeprefix(f"{markers}/").removesuffix(".env")
            for path in present
            if path.startswith(f"{markers}/") and path.endswith(".env")
        ]
        unwanted = {
            "services": sorted(
                name for name in services if not OTHERS.fullmatch(name) and name not in arguments["services"]
            ),
            "timers": sorted(set(timers) - set(arguments["timers"])),
        }
        if (unwanted["services"] or unwanted["timers"]) and not self._task.check_mode:
            return self._execute_module(
                "slipway.kit.process_prune", module_args={"app": arguments["app"], **unwanted}, task_vars=task_vars
            )
        return result | unwanted | {"changed": bool(unwanted["services"] or unwanted["timers"])}
