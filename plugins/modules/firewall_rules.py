#!/usr/bin/python
"""Have the rules of nftables that are wanted, and put the old ones back unless they are confirmed."""

from __future__ import annotations

import ipaddress
import os
import shlex

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import write_atomically

DOCUMENTATION = r"""
module: firewall_rules
short_description: Have the wanted rules in the table that is ours, and put the old ones back unless they are confirmed
description:
  - In I(folder), C(wanted.nft) is what shall hold and C(rules.nft) what has been confirmed, which a unit loads at boot.
    Where these differ, or the kernel has something else, the wanted rules are loaded, and a timer of systemd is set
    that loads the confirmed ones, or none if there are none. A second call with I(phase=confirm), over a new
    connection, stops the timer and makes the wanted rules the confirmed ones. The action of the same name makes both.
  - The address that Ansible has come from stays allowed on the port that it has come by.
options:
  state: {description: Whether there is a table., type: str, choices: [present, absent], default: present}
  phase: {description: Load the rules or confirm them., type: str, choices: [load, confirm], default: load}
  keep: {description: Whether to keep what is open and no longer wanted., type: bool, default: false}
  ssh_port: {description: The port that is open for ssh., type: int, default: 22}
  ssh_sources: {description: To whom., type: list, elements: str, default: []}
  seconds: {description: How long to wait for the confirmation., type: int, default: 60}
  folder: {description: Where the rules are., type: path, default: /etc/nftables-slipway}
author: Slipway contributors
"""

NFT = "/usr/sbin/nft"
TABLE = ("table", "inet", "slipway")
EMPTY = "add table inet slipway; delete table inet slipway"
OPENING = "add rule inet slipway openings "
REVERT = "nftables-slipway-revert"


def ssh_connection() -> tuple[str, int] | None:
    """Return the address that this process was started from by ssh, and the port that it was reached by.

    sudo and su drop the variable that says so: it is looked for in the processes above this one.
    """
    pid = os.getpid()
    while pid > 1:
        try:
            with open(f"/proc/{pid}/environ", "rb") as environment, open(f"/proc/{pid}/stat", "rb") as stat:
                variables = dict(one.partition(b"=")[::2] for one in environment.read().split(b"\0"))
                parent = int(stat.read().rpartition(b")")[2].split()[1])
        except OSError:
            return None
        words = variables.get(b"SSH_CONNECTION", b"").decode().split()
        if len(words) == 4:
            return words[0].partition("%")[0], int(words[3])
        pid = parent
    return None


class Rules:
    """The rules on disk and in the kernel."""

    def __init__(self, module: AnsibleModule) -> None:
        self.module = module
        self.folder = module.params["folder"]
        self.kept: list[str] = []

    def path(self, name: str) -> str:
        """Return the path of a file of rules."""
        return os.path.join(self.folder, f"{name}.nft")

    def read(self, name: str) -> str:
        """Return the rules in a file, nothing if it is missing."""
        try:
            with open(self.path(name), encoding="utf-8") as file:
                return file.read()
        except FileNotFoundError:
            return ""

    def wanted(self) -> str:
        """Return what shall hold, with what is kept open for now and what keeps the operator in."""
        text = self.read("wanted")
        lines = text.splitlines()
        if self.module.params["keep"]:
            before = self.read("rules").splitlines()
            self.kept = [line for line in before if line.startswith(OPENING) and line not in lines]
        return "\n".join([*lines, *self.kept, *self.operator(), ""])

    def operator(self) -> list[str]:
        """Return the rule that lets the operator in, where none does that is wanted."""
        connection = ssh_connection()
        if connection is None:
            return []
        address, port = ipaddress.ip_address(connection[0]), connection[1]
        if port == self.module.params["ssh_port"] and any(
            address in ipaddress.ip_network(source) for source in self.module.params["ssh_sources"]
        ):
            return []
        self.module.warn(
            f"the firewall lets in {address} on port {port} for ssh, as Ansible has come from there, though "
            "firewall_ssh_sources and firewall_ssh_port do not: name it there"
        )
        family = "ip" if address.version == 4 else "ip6"
        return [f'add rule inet slipway ssh {family} saddr {address} tcp dport {port} accept comment "Ansible"']

    def listed(self) -> str:
        """Return the table as the kernel has it, nothing if there is none."""
        code, out, _ = self.module.run_command([NFT, "--stateless", "list", *TABLE])
        return out if code == 0 else ""

    def listing(self, text: str) -> str:
        """Return how the kernel would show rules: it is asked in a network of its own, which ends with the command."""
        show = f"{NFT} --file - && {NFT} --stateless {shlex.join(['list', *TABLE])}"
        code, out, err = self.module.run_command(["/usr/bin/unshare", "--net", "/bin/sh", "-c", show], data=text)
        if code != 0:
            self.module.fail_json(msg="nft refuses the rules; the old ones stay", refused_with=err.splitlines())
        return out

    def disarm(self) -> None:
        """Stop the timer that would put the old rules back."""
        self.module.run_command(["systemctl", "stop", f"{REVERT}.timer", f"{REVERT}.service"])

    def armed(self) -> bool:
        """Tell whether that timer runs."""
        return self.module.run_command(["systemctl", "is-active", "--quiet", f"{REVERT}.timer"])[0] == 0

    def load(self, text: str) -> None:
        """Load rules that are put back in a while."""
        write_atomically(self.path("candidate"), text.encode())
        self.disarm()
        confirmed = shlex.quote(self.path("rules"))
        back = f"if test -e {confirmed}; then exec {NFT} --file {confirmed}; fi; exec {NFT} '{EMPTY}'"
        self.module.run_command(
            ["systemd-run", "--quiet", "--collect", f"--unit={REVERT}", "--timer-property=AccuracySec=1s",
             f"--on-active={self.module.params['seconds']}", "/bin/sh", "-c", back],
            check_rc=True,
        )  # fmt: skip
        self.module.run_command([NFT, "--file", self.path("candidate")], check_rc=True)

    def confirm(self) -> None:
        """Make the rules that were loaded the confirmed ones."""
        if not self.armed():
            self.module.fail_json(msg="the confirmation came too late, or another run came between: run it again")
        self.disarm()
        if self.listed() != self.listing(self.read("candidate")):
            self.module.fail_json(msg="the rules have changed before they were confirmed")
        os.rename(self.path("candidate"), self.path("rules"))

    def remove(self) -> bool:
        """Remove the table and its rules; return whether there were any."""
        there = [self.path(name) for name in ("wanted", "candidate", "rules") if os.path.exists(self.path(name))]
        table = os.path.exists(NFT) and self.listed() != ""
        if not self.module.check_mode:
            self.disarm()
            for path in there:
                os.unlink(path)
            if table:
                self.module.run_command([NFT, EMPTY], check_rc=True)
        return table or bool(there)


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "state": {"type": "str", "choices": ["present", "absent"], "default": "present"},
            "phase": {"type": "str", "choices": ["load", "confirm"], "default": "load"},
            "keep": {"type": "bool", "default": False},
            "ssh_port": {"type": "int", "default": 22},
            "ssh_sources": {"type": "list", "elements": "str", "default": []},
            "seconds": {"type": "int", "default": 60},
            "folder": {"type": "path", "default": "/etc/nftables-slipway"},
        },
        supports_check_mode=True,
    )
    rules = Rules(module)
    if module.params["state"] == "absent":
        module.exit_json(changed=rules.remove(), kept=[], armed=False)
    if module.params["phase"] == "confirm":
        rules.confirm()
        module.exit_json(changed=True)
    if module.check_mode and not (os.path.exists(NFT) and rules.read("wanted")):
        # A dry run on a host that was never touched.
        module.exit_json(changed=True, kept=[], armed=False)
    wanted = rules.wanted()
    now, then = rules.listed(), rules.listing(wanted)
    changed = now != then or rules.read("rules") != wanted
    if changed and not module.check_mode:
        rules.load(wanted)
    diff = {"before": now, "after": then, "before_header": "the kernel's rules", "after_header": "the wanted rules"}
    module.exit_json(changed=changed, kept=rules.kept, armed=changed and not module.check_mode, diff=diff)


if __name__ == "__main__":
    main()
