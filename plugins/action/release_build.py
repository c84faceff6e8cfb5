"""Have the release built on the host that builds, and make it the candidate.

    slipway.kit.release_build:
      id: "{{ __django_app_release_id }}"
      source: "{{ __django_app_source }}"           # what release_source has returned
      uv: /opt/slipway/uv-...
      uv_lock: "{{ __django_app_uv_lock }}"
      environment: {UV_CACHE_DIR: ...}
      nice: 10
      timeout: 3600
      settings: "{{ __django_app_build }}"
      migrations: {command: [migrate], apply: true, destructive: false, conflicts: false}

The archive is transferred where the release is not complete, and the module of the same name does the rest in one call.
The hooks, the files of the inventory and what the build may know that is secret (django_app_hooks, _files, _index_url,
_build_environment, _build_credentials, _build_git_key) are read from the role's variables here: they are in no task's
arguments, and so a build that fails can say why.
"""

from __future__ import annotations

import getpass
import json
import os
import shlex
import socket
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import remote_path


class ActionModule(ActionBase):
    """Ask for the release, and build it where it is not complete."""

    _supports_check_mode = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "app": {"type": "str", "required": True},
                "id": {"type": "str", "required": True},
                "source": {"type": "dict", "required": True},
                "force": {"type": "bool", "default": False},
                "uv": {"type": "path", "required": True},
                "uv_lock": {"type": "str", "required": True},
                "environment": {"type": "dict", "required": True},
                "nice": {"type": "int", "required": True},
                "timeout": {"type": "int", "required": True},
                "settings": {"type": "dict", "required": True},
                "migrations": {"type": "dict", "default": {}},
            }
        )
        source = arguments.pop("source")

        def read(name: str, default: Any) -> Any:
            return self._templar.template(variables.get(f"django_app_{name}", default))

        arguments["settings"] |= {
            "hooks": [hook for hook in read("hooks", []) if hook["when"].endswith("_collectstatic")],
            "files": [file for file in read("files", []) if not file["path"].startswith("/")],
        }
        index = read("index_url", "")
        arguments["environment"] |= {name: index for name in ("UV_DEFAULT_INDEX", "PIP_INDEX_URL") if index}
        arguments |= {
            "build_environment": read("build_environment", {}),
            "credentials": read("build_credentials", []),
            "git_key": read("build_git_key", ""),
            "installation": source["installation"],
            "scm": source["scm"],
        }
        arguments |= {
            "folder": f"/srv/{arguments['app']}",
            "digest": source["digest"],
            "source": source["description"],
            "by": f"{getpass.getuser()}@{socket.gethostname()}",
        }
        marker = shlex.quote(f"{arguments['folder']}/releases/{arguments['id']}/.complete")
        if self._task.check_mode or self._low_level_execute_command(f"test -e {marker}")["rc"] == 0:
            result = self._call(arguments, variables)
            # One that has its marker may have lost its virtual environment.
            if result.get("failed") or result["complete"] or self._task.check_mode:
                return self._note(result)
        remote = remote_path(self, "source.tar.gz")
        self._transfer_file(source["archive"], remote)
        return self._note(self._call(arguments | {"archive": remote}, variables))

    def _call(self, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        """Call the module; its arguments are for no log of the host and for no output here."""
        result = self._execute_module(
            "slipway.kit.release_build", module_args=arguments, task_vars=variables | {"ansible_no_target_syslog": True}
        )
        result.pop("invocation", None)
        return result

    def _note(self, result: dict[str, Any]) -> dict[str, Any]:
        """Tell the tasks of the run's other hosts, which share Ansible's temporary folder, what was built."""
        if not result.get("failed") and result.get("marker"):
            marker = result["marker"]
            note = Path(C.DEFAULT_LOCAL_TMP) / f"release-{marker['id']}.json"
            temporary = note.with_suffix(f".{os.getpid()}")
            temporary.write_text(json.dumps(marker), encoding="utf-8")
            temporary.replace(note)
        return result
