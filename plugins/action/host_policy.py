r"""Change settings in files that belong to packages, and enable profiles of PAM.

    slipway.kit.host_policy:
      files:
        - {path: /etc/login.defs, separator: " ", settings: {UMASK: "027"}}
        - {path: /etc/issue, content: "For authorized users only.\n"}
      profiles: {slipway-faillock: "Name: ..."}        # of pam-auth-update
      users: [ops]                                     # whose logins must stay possible

What is no longer wanted is restored. Without files and profiles all is as the packages have it. Where nothing is to be
changed, one command of the shell finds that out.
"""

from __future__ import annotations

import hashlib
import json
import shlex
from typing import Any

from ansible.plugins.action import ActionBase

RECORD = "/var/lib/slipway-applied/host-policy"


class ActionModule(ActionBase):
    """Ask whether all is as it should be, and call the module of the same name where it is not."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        arguments = {name: self._task.args.get(name) or empty for name, empty in (("files", []), ("profiles", {}))}
        wanted = hashlib.sha256(json.dumps(arguments, sort_keys=True).encode()).hexdigest()
        answer = self._low_level_execute_command(
            self.question(wanted, bool(arguments["files"] or arguments["profiles"]))
        )
        if answer["rc"] == 0:
            return {"changed": False, "changed_paths": [], "diff": []}
        result = self._execute_module(
            "slipway.kit.host_policy",
            module_args=arguments | {"users": self._task.args.get("users") or [], "wanted": wanted, "record": RECORD},
            task_vars=task_vars,
        )
        return {name: value for name, value in result.items() if name != "invocation"}

    @staticmethod
    def question(wanted: str, anything: bool, record: str = RECORD) -> str:
        """Return a command that succeeds where all is as it should be."""
        sums = shlex.quote(f"{record}.sums")
        if not anything:
            return f"test ! -e {sums} && test ! -e {shlex.quote(record)}"
        is_wanted = f"grep -qxF {shlex.quote(f'# {wanted}')} {sums}"
        return f"{{ {is_wanted} && sha256sum --status --check {sums}; }} 2>/dev/null"
