"""Have Debian packages installed, and say so at once where they are.

    slipway.kit.debian_packages:
      name: [nginx, ...]     # optional: without it only an interrupted installation is finished

ansible.builtin.apt installs what is missing, without what is only recommended. It is not asked when nothing is: opening
its cache costs most of a second each time, and a dry run of it fails on hosts that have no python3-apt yet. An
installation that was interrupted, of whatever package, is finished first. When another apt is at work, it is waited
for, LOCK_TIMEOUT seconds at most.
"""

from __future__ import annotations

import re
import shlex
from typing import Any

from ansible.plugins.action import ActionBase

UPDATE_AGE = 3600  # seconds after which the package lists are old
LOCK_TIMEOUT = 300  # seconds to wait for another apt
# One look at dpkg's own files, in the same call as the question for the packages.
INTERRUPTED = (
    "{ grep -qE '^Status: .* (half-installed|unpacked|half-configured|triggers-[a-z]+)$' /var/lib/dpkg/status || "
    "ls /var/lib/dpkg/updates | grep -q .; } && echo ' interrupted'; true"
)


def explain(said: str) -> str:
    """Return what an operator can do about an error of apt; nothing where that is not known."""
    if re.search(r"lock", said, re.IGNORECASE):
        found = re.search(r"held by process \d+ \([^)]*\)", said)
        holder = f" (the lock is {found[0]})" if found else ""
        return (
            f"another apt or dpkg has been at work on the host for {LOCK_TIMEOUT} s{holder}: let it finish, or see "
            "there what it waits for (systemctl status apt-daily-upgrade), and run the playbook again"
        )
    if re.search(r"update apt cache|resolv|connect|Failed to fetch|Unable to fetch|timed out", said, re.IGNORECASE):
        return (
            "the host gets no packages from its mirror: see 'apt-get update' there, its network, its proxy "
            "(/etc/apt/apt.conf.d) and its sources (/etc/apt/sources.list*), and run the playbook again"
        )
    return ""


class ActionModule(ActionBase):
    """Install the packages that are missing."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return what was missing, or apt's own result when it could not be installed."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={"name": {"type": "list", "elements": "str", "default": []}}
        )
        names = shlex.join(arguments["name"] or ["dpkg"])
        query = f"dpkg-query --show --showformat '${{Package}} ${{db:Status-Status}}\\n' {names}"
        answer = self._low_level_execute_command(f"{query} 2>/dev/null; {INTERRUPTED}")
        installed = {line.split()[0] for line in answer["stdout_lines"] if line.endswith(" installed")}
        missing = [name for name in arguments["name"] if name not in installed]
        result |= {"changed": bool(missing), "missing": missing}
        if " interrupted" in answer["stdout_lines"]:
            repaired = self._execute_module(
                "slipway.kit.dpkg_repair", {"lock_timeout": LOCK_TIMEOUT}, task_vars=task_vars
            )
            if repaired.get("failed"):
                return result | repaired
            result |= {"changed": bool(missing) or repaired["changed"], "finished": repaired["packages"]}
        if missing and not self._task.check_mode:
            # A run starts what it installs by itself; needrestart would look at every process after each installation.
            self._task.environment = [*(self._task.environment or []), {"NEEDRESTART_SUSPEND": "1"}]
            apt = {
                "name": missing,
                "install_recommends": False,
                "update_cache": True,
                "cache_valid_time": UPDATE_AGE,
                "lock_timeout": LOCK_TIMEOUT,
            }
            installed_now = self._execute_module("ansible.builtin.apt", module_args=apt, task_vars=task_vars)
            # While it waits apt says the same once a second.
            lines = list(dict.fromkeys(str(installed_now.get("stdout", "")).splitlines()))
            installed_now |= {"stdout": "\n".join(lines), "stdout_lines": lines}
            said = " ".join(str(installed_now.get(part, "")) for part in ("msg", "stderr"))
            if "lock" in said:
                said += f" {installed_now['stdout']}"
            if installed_now.get("failed") and (help_text := explain(said)):
                installed_now |= {"msg": f"{', '.join(missing)}: {help_text}", "apt": installed_now.get("msg", "")}
            return installed_now
        return result
