"""Ask a host what it is and has; what keeps it from answering becomes a fault in preflight's list.

    slipway.kit.preflight_host:
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

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.faults import FACT

SUBSETS = ["min", "virtual"]
# What sudo, su and doas say when they make nobody root, and what helps.
RIGHTS = re.compile(r"sudo|password|become|su:|doas|privilege|a tty", re.IGNORECASE)
FIXES = (
    (
        r"sudo\W*: (command )?(not found|No such file)",
        "install sudo there, or set ansible_user: root, or ansible_become_method: su with root's password "
        "(--ask-become-pass)",
    ),
    (r"(not found|No such file)", "install what ansible_become_method names, or name what is installed there"),
    (r"a tty", "remove `Defaults requiretty` from /etc/sudoers there, or set ansible_pipelining: false"),
    (
        r"password|escalation prompt",
        "give the right password (--ask-become-pass, or ansible_become_password from the vault), or let the user of "
        "ssh become root without one",
    ),
)


def first_line(text: Any) -> str:
    """Return the last line of what ssh or sudo said that says something, without what stands around it."""
    lines = [line.strip() for line in str(text).splitlines() if line.strip()]
    kept = [line for line in lines if not re.match(r"(Warning:|\*\*|debug\d|OpenSSH_)", line)]
    return re.sub(r"^(Data could not be sent to remote host .*?\. )?", "", (kept or lines or ["no answer"])[-1])[:300]


def fix_of(said: str) -> str:
    """Return what an operator can do about an error of sudo, su or doas."""
    fixes = (fix for pattern, fix in FIXES if RIGHTS.search(said) and re.search(pattern, said, re.IGNORECASE))
    return next(fixes, "let the user of ssh become root there")


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
            said = first_line(error)
            if not RIGHTS.search(said) or "denied" in said:
                return result | self._fault(variables, f"cannot be reached: {said}", "let ssh reach it")
            return result | self._fault(variables, f"cannot become root: {said}", fix_of(said))
        except AnsibleError as error:
            return result | self._fault(variables, first_line(error), fix_of(first_line(error)))
        if facts["preflight_user"] != 0:
            why = f"answers as the user with the number {facts['preflight_user']}, who is not root"
            fix = "set ansible_become: true or ansible_user: root, and no other ansible_become_user"
            return result | self._fault(variables, why, fix, facts)
        if not facts.get("preflight_path", True):
            why = "the PATH of root has no /usr/sbin, as the way to root keeps that of the user of ssh"
            fix = "set ansible_become_flags: -l for su, or set PATH in doas.conf (setenv) or sudoers (secure_path)"
            return result | self._fault(variables, why, fix, facts)
        self._warn_of_firewalls(facts.get("preflight_firewalls", []), variables)
        return result | {"ansible_facts": facts}

    def _warn_of_firewalls(self, firewalls: list[str], variables: dict[str, Any]) -> None:
        """Name other firewalls: whether they let in what the site opens is not known, so they are no fault."""
        try:
            enabled = self._templar.template(variables.get("firewall_enabled", True))
        except AnsibleError:
            enabled = True  # a fault of its own
        if firewalls and enabled is True:
            self._display.warning(
                f"{variables['inventory_hostname']}: besides the site's firewall there is {' and '.join(firewalls)}, "
                "which may drop what the site opens: switch it off, or open the ports in it too (docs/network.md)"
            )

    def _gather(self, variables: dict[str, Any], pythons: list[str]) -> dict[str, Any]:
        gathered = variables.get("ansible_facts", {}).get("_ansible_facts_gathered")
        before = time.time()
        try:
            application = str(self._templar.template(variables.get("base_app_name", "")))
        except AnsibleError:
            application = ""  # a fault of its own
        arguments = {"gather_subset": [] if gathered else SUBSETS, "pythons": pythons, "application": application}
        facts = self._ask("slipway.kit.preflight_facts", arguments, variables)
        after = time.time()
        # Against this machine's clock, as hosts are asked one after the other; what the way took is not known.
        facts["preflight_clock_offset"] = facts["preflight_clock"] - (before + after) / 2
        facts["preflight_clock_error"] = (after - before) / 2
        return facts | {"_ansible_facts_gathered": True, "preflight_reached": True}

    def _ask(self, module: str, arguments: dict[str, Any], variables: dict[str, Any]) -> dict[str, Any]:
        answer = self._execute_module(module, module_args=arguments, task_vars=variables)
        if answer.get("failed") or "ansible_facts" not in answer:
            # With a terminal of ssh's, errors come where the answer would.
            said = first_line(answer.get("module_stderr") or answer.get("module_stdout") or answer.get("msg"))
            raise AnsibleError(f"{'cannot become root' if RIGHTS.search(said) else 'cannot be asked'}: {said}")
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
