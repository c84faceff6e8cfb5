"""Hand a finished release from the host that built it to the others of its site, which need nothing to build it with.

    slipway.kit.release_ship: {step: ask, app: shop, id: "{{ id }}", static_only: false}  # on the others: `lacks`
    slipway.kit.release_ship: {step: pack, app: shop, id: "{{ id }}"}  # on the one that built it
    slipway.kit.release_ship: {step: receive, app: shop, id: "{{ id }}", parts: "{{ asked.lacks }}"}  # on the others

The steps are three tasks, each on its hosts. They tell each other what is wanted by files in Ansible's temporary folder
of this run, where the archives come by on their way too. Where nothing is missing, `pack` and `receive` make no
connection.
"""

from __future__ import annotations

import fcntl
import json
from pathlib import Path
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleActionFail
from ansible.plugins.action import ActionBase

from ansible_collections.slipway.kit.plugins.plugin_utils.ansible_private import remote_path


class ActionModule(ActionBase):
    """Do one step."""

    _supports_check_mode = True
    TRANSFERS_FILES = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        result = super().run(tmp, task_vars)
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "step": {"type": "str", "choices": ["ask", "pack", "receive"], "required": True},
                "app": {"type": "str", "required": True},
                "id": {"type": "str", "required": True},
                "static_only": {"type": "bool", "default": False},
                "parts": {"type": "list", "elements": "str", "default": []},
            }
        )
        self._parts: list[str] = arguments["parts"]
        self._variables = task_vars or {}
        self._folder = Path(C.DEFAULT_LOCAL_TMP)
        self._name = f"{arguments['app']}-{arguments['id']}"
        self._arguments = {
            "step": arguments["step"],
            "folder": f"/srv/{arguments['app']}",
            "id": arguments["id"],
            "static_only": arguments["static_only"],
            "marker": self._read_note(arguments["id"]),
        }
        step = {"ask": self._ask, "pack": self._pack, "receive": self._receive}[arguments["step"]]
        return result | {"changed": False} | step()

    def _read_note(self, name: str) -> dict[str, Any]:
        """Return what the marker of the release says on the host that built it, nothing if that has not run."""
        note = self._folder / f"release-{name}.json"
        return json.loads(note.read_text(encoding="utf-8")) if note.exists() else {}

    def _call(self, **more: Any) -> dict[str, Any]:
        return self._execute_module(
            "slipway.kit.release_ship", module_args=self._arguments | more, task_vars=self._variables
        )

    def _wanted(self, part: str) -> Path:
        return self._folder / f"wanted-{self._name}-{part}"

    def _archive(self, part: str) -> Path:
        return self._folder / f"shipped-{self._name}-{part}.tar.gz"

    def _ask(self) -> dict[str, Any]:
        result = self._call()
        lacks = result.get("lacks", [])
        if lacks and not self._arguments["marker"] and not self._task.check_mode:
            raise AnsibleActionFail(
                f"the release {self._arguments['id']} is not on this host, and the host that builds is no part of this "
                "run: name that one in --limit too, the first of the group app"
            )
        for part in lacks:
            self._wanted(part).touch()
        return result

    def _pack(self) -> dict[str, Any]:
        with (self._folder / f"shipped-{self._name}.lock").open("w") as lock:
            # Two sites of one inventory may have the same release, which is packed once.
            fcntl.flock(lock, fcntl.LOCK_EX)
            wanted = [
                part
                for part in ("venv", "release", "static")
                if self._wanted(part).exists() and not self._archive(part).exists()
            ]
            if not wanted or self._task.check_mode:
                return {"packed": []}
            parts = {part: remote_path(self, f"{part}.tar.gz") for part in wanted}
            result = self._call(parts=parts)
            if result.get("failed"):
                return result
            # As the connection's user, whose the archives are: with become, Ansible would send them through a module.
            for part, path in parts.items():
                temporary = self._archive(part).with_suffix(".part")
                self._connection.fetch_file(path, str(temporary))
                temporary.replace(self._archive(part))
            return result | {"packed": wanted}

    def _receive(self) -> dict[str, Any]:
        if not self._parts or self._task.check_mode:
            return {"received": []}
        parts = {part: remote_path(self, f"{part}.tar.gz") for part in self._parts}
        for part, path in parts.items():
            self._transfer_file(str(self._archive(part)), path)
        return self._call(parts=parts) | {"received": self._parts}
