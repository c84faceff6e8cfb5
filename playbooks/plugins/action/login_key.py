"""Tell whether who logs in to a host could do so with a key.

    login_key:
    register: __role_login

Returns the `user` who has logged in, and `found`: whether sshd would find a key or an authority for that user. A host
without sshd is not reached by it, and needs none. Nothing is changed, and no Python is started on the host.
"""

from __future__ import annotations

import shlex
from typing import Any

from ansible.plugins.action import ActionBase

# sudo and doas say who has called them. sshd says where it looks.
SCRIPT = r"""
command -v sshd >/dev/null || { echo; exit 0; }
user=${SUDO_USER:-${DOAS_USER:-$(id -un)}}
home=$(getent passwd "$user" | cut -d: -f6)
echo "$user"
sshd -T -C "user=$user,host=localhost,addr=127.0.0.1" 2>/dev/null | {
    while read -r name values; do
        case $name in
        authorizedkeysfile)
            for file in $values; do
                file=$(printf %s "$file" | sed "s|%h|$home|g; s|%u|$user|g")
                case $file in /*) ;; *) file=$home/$file ;; esac
                if grep -qE '^[^#[:space:]]' "$file" 2>/dev/null; then exit 0; fi
            done ;;
        authorizedkeyscommand | trustedusercakeys)
            [ "$values" = none ] || exit 0 ;;
        esac
    done
    exit 1
}
"""


class ActionModule(ActionBase):
    """Look for the key."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return who has logged in, and whether a key was found."""
        result = super().run(tmp, task_vars)
        answer = self._low_level_execute_command(f"sh -c {shlex.quote(SCRIPT)}")
        return result | {"changed": False, "user": answer["stdout"].strip(), "found": answer["rc"] == 0}
