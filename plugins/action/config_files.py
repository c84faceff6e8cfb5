"""Write all of a service's configuration files from templates, in one go.

    slipway.kit.config_files:
      folders:
        - {path: /etc/systemd/system/nginx.service.d}
      files:
        - {src: etc/nginx/nginx.conf.j2, dest: /etc/nginx/nginx.conf}
        - {src: etc/app/app.env.j2, dest: /etc/app/app.env, group: app, mode: "0640", secret: true}  # never shown
      validate: [nginx, -t, -q]                                      # with the files in place, or they are taken back
      overrides: {/etc/nginx/nginx.conf: /home/me/nginx.conf.j2}     # templates to use in place of the role's own

Of services that are data, files for each one, in the same call:

      repeat:
        each: "{{ celery_workers }}"
        as: celery_worker                         # what the templates call it
        only: /etc/app/services/celery-*          # folders like this that are no item's are removed
        absent: ["/etc/app/celery-{name}.conf"]   # files to remove; outside of `repeat` too
        folders: [{path: "/etc/app/services/celery-{name}"}]
        files: [{src: etc/app/services/celery/unit.j2, dest: "/etc/app/services/celery-{name}/unit"}]

Directories that a service writes to are made where they are missing, and given to its user where they are root's:

      own: {user: app, paths: [/var/spool/app]}

A folder with `hand_down_group: true` and a mode as 2755 gives its group to all that is in it and to what comes.

where {name} in a path is the item's own `name`.

An override may be a whole template, or {% extends %} the one that it stands in for, by the name in `src`, and have
blocks of its own. Owner and group are root, and the mode 0644 (folders 0755), unless said otherwise. Templates are
rendered as ansible.builtin.template does. That would cost a connection and a start of Python for each file, which is
most of what a run that changes nothing costs. Where all is as it should be, one command of the shell finds that out.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars, trust_as_template

ATTRIBUTES = {"owner": {"type": "str"}, "group": {"type": "str"}, "mode": {"type": "str"}}


def describe(entry: dict[str, Any], kind: str, mode: str) -> str:
    """Return what stat says of a file or folder that is as it should be: kind, owner, group, mode and path."""
    owner, group = entry["owner"] or "root", entry["group"] or "root"
    return f"{kind}|{owner}|{group}|{(entry['mode'] or mode).lstrip('0')}|{entry['path']}"


class ActionModule(ActionBase):
    """Render the templates here, and hand them to the module of the same name there."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        path = {"type": "path", "required": True}
        entries = {
            "folders": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"path": path, **ATTRIBUTES, "hand_down_group": {"type": "bool", "default": False}},
            },
            "files": {
                "type": "list",
                "elements": "dict",
                "default": [],
                "options": {"src": path, "dest": path, "secret": {"type": "bool", "default": False}, **ATTRIBUTES},
            },
        }
        absent = {"type": "list", "elements": "path", "default": []}
        _, arguments = self.validate_argument_spec(
            argument_spec=entries
            | {
                "validate": {"type": "list", "elements": "str", "default": []},
                "absent": absent,
                "overrides": {"type": "dict", "default": {}},
                "own": {
                    "type": "dict",
                    "options": {
                        "user": {"type": "str", "required": True},
                        "paths": {"type": "list", "elements": "str", "required": True},
                        "adopt": {"type": "bool", "default": True},
                    },
                },
                "repeat": {
                    "type": "dict",
                    "options": entries
                    | {
                        "each": {"type": "list", "elements": "dict", "required": True},
                        "as": {"type": "str", "required": True},
                        "only": {"type": "str"},
                        "absent": absent,
                    },
                },
            }
        )
        folders = arguments["folders"]
        overrides = arguments["overrides"]
        files = [self._render(file, variables, overrides.get(file["dest"], "")) for file in arguments["files"]]
        only, unwanted = None, list(arguments["absent"])
        if repeat := arguments["repeat"]:
            own = [
                folder | {"path": folder["path"].replace("{name}", item["name"])}
                for item in repeat["each"]
                for folder in repeat["folders"]
            ]
            folders = folders + own
            files += [
                self._render(
                    file | {"dest": file["dest"].replace("{name}", item["name"])}, variables | {repeat["as"]: item}
                )
                for item in repeat["each"]
                for file in repeat["files"]
            ]
            unwanted += [path.replace("{name}", item["name"]) for item in repeat["each"] for path in repeat["absent"]]
            only = repeat["only"] and {"pattern": repeat["only"], "keep": [folder["path"] for folder in own]}
        own = arguments["own"]
        if self._is_there(folders, files, only, own, unwanted):
            return {"changed": False, "changed_paths": [], "diff": []}
        # The module's arguments are whole files: not for the log of the host, nor for the output of -vvv.
        result = self._execute_module(
            "slipway.kit.config_files",
            module_args={
                "folders": folders,
                "files": files,
                "only": only,
                "own": own,
                "absent": unwanted,
                "validate": arguments["validate"],
            },
            task_vars=variables | {"ansible_no_target_syslog": True},
        )
        return {name: value for name, value in result.items() if name != "invocation"}

    def _is_there(
        self,
        folders: list[dict[str, Any]],
        files: list[dict[str, Any]],
        only: dict[str, Any] | None,
        own: dict[str, Any] | None = None,
        unwanted: list[str] | None = None,
    ) -> bool:
        """Tell whether all is as it should be; in doubt it is not, and the module looks more closely."""
        wanted = [describe(folder, "directory", "0755") for folder in folders]
        wanted += [
            describe(file, "regular file" if file["content"] else "regular empty file", "0644") for file in files
        ]
        wanted += [f"{hashlib.sha256(file['content'].encode()).hexdigest()}  {file['path']}" for file in files]
        commands = [f"stat --format='%F|%U|%G|%a|%n' -- {shlex.join(entry['path'] for entry in folders + files)}"]
        if files:
            commands.append(f"sha256sum -- {shlex.join(file['path'] for file in files)}")
        for path in map(shlex.quote, own["paths"] if own else []):
            commands.append(f"test -e {path}" + (f" && test ! -O {path}" if own and own["adopt"] else ""))
        if only:
            wanted += sorted(set(only["keep"]))
            commands.append("printf '%s\\n' " + "*".join(shlex.quote(part) for part in only["pattern"].split("*")))
        if unwanted:
            commands.append(f"{{ ls -d -- {shlex.join(unwanted)} 2>/dev/null || true; }}")
        answer = self._low_level_execute_command(f"LC_ALL=C; export LC_ALL; {' && '.join(commands)}")
        return bool(answer["rc"] == 0 and answer["stdout"].splitlines() == wanted)

    def _render(self, file: dict[str, Any], variables: dict[str, Any], override: str = "") -> dict[str, Any]:
        """Return a file as the module takes it, its template, or what overrides it, rendered as by Ansible's own."""
        own = self._find_needle("templates", file["src"])
        source = override or own
        templar = self._templar.copy_with_new_env(
            searchpath=[os.path.dirname(source), own.removesuffix(file["src"])],
            available_variables=variables | generate_ansible_template_vars(file["src"], source, file["dest"]),
        )
        template = trust_as_template(self._loader.get_text_file_contents(source))
        return {
            "path": file["dest"],
            "content": templar.template(template, escape_backslashes=False, overrides={"trim_blocks": True}),
            "secret": file["secret"],
            **{name: file[name] for name in ATTRIBUTES},
        }
