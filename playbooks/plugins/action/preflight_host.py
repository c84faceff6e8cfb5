"""Ask a host what it is and has; what keeps it from answering becomes a fault in preflight's list.

    preflight_host:
      ask: "{{ not topology_offline }}"
      pythons: [/opt/python3.14/bin/python3]         # optional: programs whose version of Python is asked for
      stated: [topology_cores, topology_memory_mb]   # optional: a host whose variables say all these is not asked

It gathers the facts that roles read, and those of preflight_facts. A host that cannot be reached, or does not
let us become root, does not end the run here: preflight_report tells all such hosts together, with what is wrong
elsewhere. The fact `preflight_reached` says whether a host answered; there is none where it was not asked.
"""

from __future__ import annotations

import os
import re
import time
from typing import Any

from ansible import constants as C
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from ansible.plugins.action import ActionBase

FACT = "__preflight_faults"
SUBSETS = ["min", "virtual"]


def first_line(text: Any) -> str:
    """Return the last line of what ssh or sudo said that says something, without what stands around it."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    kept = [line for line in lines if not re.match(r"(Warning:|\*\*|debug\d|OpenSSH_)", line)]
    return re.sub(r"^(Data could not be sent to remote host .*?\. )?", "", (kept or lines or ["no answer"])[-1])[:300]


class ActionModule(ActionBase):
    """Gather facts, or say why there are none."""

    _supports_check_mode = True

    def run(self, tmp: str | None = None, task_vars: dict[str, Any] | None = None) -> dict[str, Any]:
        """Return the host's facts, or one fault."""
        result = super().run(tmp, task_vars) | {"changed": False}
        variables = task_vars or {}
        _, arguments = self.validate_argument_spec(
            argument_spec={
                "ask": {"type": "bool", "default": True},
                "stated": {"type": "list", "elements": "str", "default": []},
                "pythons": {"type": "list", "elements": "str", "default": []},
            }
        )
        if not arguments["ask"] or (arguments["stated"] and self._are_stated(arguments["stated"], variables)):
            return result
        try:
            facts = self._gather(variables, arguments["pythons"])
        except AnsibleConnectionFailure as error:
            return result | self._fault(variables, f"cannot be reached: {first_line(error)}", "let ssh reach it")
        except AnsibleError as error:
            return result | self._fault(variables, first_line(error), "let the user of ssh become root there")
        if facts["preflight_user"] != 0:
            why = f"answers as the user with the number {facts['preflight_user']}, who is not root"
            return result | self._fault(variables, why, "set ansible_become: true, or ansible_user: root", facts)
        return result | {"ansible_facts": facts}

    def _gather(self, variables: dict[str, Any], pythons: list[str]) -> dict[str, Any]:
        gathered = variables.get("ansible_facts", {}).get("_ansible_facts_gathered")
        before = time.time()
        facts = self._ask(
            "preflight_facts", {"gather_subset": [] if gathered else SUBSETS, "pythons": pythons}, variables
        )
        after = time.time()
        # Against this machine's clock, as hosts are asked one after the other; what the way took is not known.
        facts["preflight_clock_offset"] = facts["preflight_clock"] - (before + after) / 2
        facts["preflight_clock_error"] = (after - before) / 2
        return facts | {"_ansible_facts_gathered": True, "preflight_reached": True}

    def _ask(self, module: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._execute_module(module, module_args=arguments, task_vars=variables)
        if answer.get("failed") or "ansible_facts" not in answer:
            said = first_line(answer.get("module_stderr") or answer.get("msg"))
            rights = re.search(r"sudo|password|become|su:|doas|privilege", said, re.IGNORECASE)
            raise AnsibleError(f"{'cannot become root' if rights else 'cannot be asked'}: {said}")
        return answer["ansible_facts"]

    def _are_stated(self, names: list[str], variables: dict[str, Any]) -> bool:
        for name in names:
            try:
                self._templar.template(variables[name])
            except (AnsibleError, KeyError):
                return False
        return True

    @staticmethod
    def _fault(variables: dict[str, Any], why: str, fix: str, facts: dict[str, Any] | None = None) -> dict[str, Any]:
        fault = {
            "run": os.path.basename(C.DEFAULT_LOCAL_TMP),
            "host": variables["inventory_hostname"],
            **{"role": "", "variable": "", "value": "", "why": why, "fix": fix, "where": ""},
        }
        return {"ansible_facts": (facts or {}) | {"preflight_reached": False, FACT: [fault]}}
