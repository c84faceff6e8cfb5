"""Write all of a service's configuration files from templates, in one go.

    config_files:
      folders:
        - {path: /etc/systemd/system/nginx.service.d}
      files:
        - {src: etc/nginx/nginx.conf.j2, dest: /etc/nginx/nginx.conf}
        - {src: etc/app/app.env.j2, dest: /etc/app/app.env, group: app, mode: "0640"}
      validate: [nginx, -t, -q]                                      # with the files in place, or they are taken back
      overrides: {/etc/nginx/nginx.conf: /home/me/nginx.conf.j2}     # templates to use in place of the role's own

An override may be a whole template, or {% extends %} the one that it stands in for, by the name in `src`, and have
blocks of its own. Owner and group are root, and the mode 0644 (folders 0755), unless said otherwise. Templates are
rendered as ansible.builtin.template does. That would cost a connection and a start of Python for each file, which is
most of what a run that changes nothing costs.
"""

from __future__ import annotations

import os
from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import generate_ansible_template_vars, trust_as_template

ATTRIBUTES = {"owner": {"type": "str"}, "group": {"type": "str"}, "mode": {"type": "str"}}


class ActionModule(ActionBase):
    """Render the templates here, and hand them to the module of the same name there."""

    _supports_check_mode = True
    _supports_diff = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the module's result."""
        super().run(tmp, task_vars)
        variables = task_vars or {}
        path = {"type": "path", "required": True}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "folders": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {"path": path, **ATTRIBUTES},
                },
                "files": {
                    "type": "list",
                    "elements": "dict",
                    "default": [],
                    "options": {"src": path, "dest": path, **ATTRIBUTES},
                },
                "validate": {"type": "list", "elements": "str", "default": []},
                "overrides": {"type": "dict", "default": {}},
            }
        )
        files = [
            {
                "path": file["dest"],
                "content": self._render(
                    file["src"], file["dest"], arguments["overrides"].get(file["dest"], ""), variables
                ),
                **{name: file[name] for name in ATTRIBUTES},
            }
            for file in arguments["files"]
        ]
        # The module's arguments are whole files: not for the log of the host.
        return self._execute_module(
            "config_files",
            module_args={"folders": arguments["folders"], "files": files, "validate": arguments["validate"]},
            task_vars=variables | {"ansible_no_target_syslog": True},
        )

    def _render(self, name: str, target: str, override: str, variables: dict[str, Any]) -> str:
        """Return the text of the template `name`, or of what overrides it, as ansible.builtin.template renders it."""
        own = self._find_needle("templates", name)
        source = override or own
        templar = self._templar.copy_with_new_env(
            searchpath=[os.path.dirname(source), own.removesuffix(name)],
            available_variables=variables | generate_ansible_template_vars(name, source, target),
        )
        template = trust_as_template(self._loader.get_text_file_contents(source))
        return templar.template(template, escape_backslashes=False, overrides={"trim_blocks": True})
