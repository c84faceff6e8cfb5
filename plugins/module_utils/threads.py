"""Commands for modules that work in several threads.

AnsibleModule.run_command forks with a preexec_fn, which can deadlock where there are threads: the command then never
begins, and its caller waits for ever.
"""

from __future__ import annotations

import os
import subprocess
from typing import Any

from ansible.module_utils.basic import AnsibleModule


def allow_threads(module: AnsibleModule, timeout: float | None = None) -> None:
    """Give `module` a run_command for threads; a command that takes longer than `timeout` seconds raises OSError."""

    def run_command(
        args: list[str],
        check_rc: bool = False,
        data: str | None = None,
        environ_update: dict[str, str] | None = None,
        limit: float | None = timeout,
        **_: Any,
    ) -> tuple[int, str, str]:
        """Return exit code, output and errors of a command."""
        try:
            done = subprocess.run(
                args,
                input=data,
                stdin=subprocess.DEVNULL if data is None else None,
                env=os.environ | module.run_command_environ_update | (environ_update or {}),
                capture_output=True,
                text=True,
                errors="replace",
                timeout=limit,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            raise OSError(f"{os.path.basename(args[0])} did not answer within {limit:g} s") from error
        if check_rc and done.returncode:
            module.fail_json(msg=f"{' '.join(args)} failed: {(done.stderr or done.stdout).strip()}")
        return done.returncode, done.stdout, done.stderr

    module.run_command = run_command
