"""Hold the variables of a role to its argument specification and to its checks, and collect every fault.

In a role's tasks/preflight.yml:

    slipway.kit.preflight:
      role: postgresql
      checks:
        - that: 1 <= postgresql_port <= 65535          # an expression, or a list that must all hold
          variable: postgresql_port                    # left out for a check of the host itself
          fail_msg: "must be a port from 1 to 65535"   # may be a template
          fix: "leave it out to have 5432"             # optional

`part: NAME` marks checks beside those of tasks/preflight.yml, which some playbooks run in addition: the options are not
validated again, and the faults of both are listed.

It runs once for all hosts of the play, changes nothing, opens no connection and does not fail: the faults are kept in
the fact __preflight_faults, and preflight_report refuses them all at once. Ansible's own validation is not enough for
that. It converts ("80" is a port, "a,b" a list), lets blank values and misspelt names pass, and stops at the
role where it finds the first fault.

What the specification (meta/argument_specs.yml, entry `main`) means here:
- A type is a type: nothing is converted.
- An empty value (null, "" or blanks) is a fault, unless it is the specification's own default, which gives it
  a meaning. An empty list or dictionary is one only where the option is required and its bounds do not say `least: 0`.
- `no_log: true` marks a secret: its value is not shown, must be long and not one that everybody knows.
- The bounds of an option stand in meta/bounds.yml beside the specification, which ansible-core and ansible-lint would
  not accept in it: ranges, patterns, and the keys of a dictionary that belong to the kit (see docs/bounds.md).
- No text holds a NUL: neither a file of configuration nor the environment of a process can.
- A variable with the role's prefix that the specification does not know is a fault; names with "__" in front
  are internal and left alone. Where the prefixes of two roles fit, the longer one owns the variable.
"""

from __future__ import annotations

from typing import Any

from ansible.plugins.action import ActionBase
from ansible.template import Templar

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.bounds import read_options
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import keep
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.hosts import Hosts, find_role
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes


class ActionModule(ActionBase):
    """Collect the faults of a role's variables on all hosts of the play."""

    _requires_connection = False
    BYPASS_HOST_LOOP = True

    @classmethod
    def finalize_task_arg(cls, name: str, value: Any, templar: Any, context: Any) -> Any:
        """Leave the checks as they are written: each is evaluated for itself, as assert does with `that`."""
        return value if name == "checks" else super().finalize_task_arg(name, value, templar, context)

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the faults so far, with those of this role, as a fact."""
        result = super().run(tmp, task_vars)
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "role": {"type": "str", "required": True},
                "part": {"type": "str", "default": ""},
                "checks": {"type": "list", "elements": "raw", "default": []},
            }
        )
        role, part = arguments["role"], arguments["part"]
        path = find_role(self, role)
        options = read_options(path, self._loader)
        roles = [folder.name for folder in path.parent.iterdir() if folder.is_dir()]
        hosts = Hosts(variables, self._loader)
        outcomes = Outcomes()
        faults = []
        for host in variables["ansible_play_hosts"]:
            own = hosts.variables(host, path)
            inspector = Inspector(role, roles, options, own, Templar(self._loader, dict(own)), outcomes)
            if not part:
                inspector.inspect_options()
                inspector.inspect_names()
            inspector.inspect_checks(arguments["checks"])
            faults += [(host, fault) for fault in inspector.faults]
        return result | {"changed": False, "faults": len(faults)} | keep(variables, role, faults, part)
