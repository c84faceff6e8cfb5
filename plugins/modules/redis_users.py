#!/usr/bin/python
"""Have running instances of Redis know the users that are written in their files."""

from __future__ import annotations

import os

from ansible.module_utils.basic import AnsibleModule

from ansible_collections.slipway.kit.plugins.module_utils.redis import redis_cli
from ansible_collections.slipway.kit.plugins.module_utils.systemd.unit import Systemd

DOCUMENTATION = r"""
module: redis_users
short_description: Have running instances of Redis know the users in their files
description:
  - An instance NAME is told by commands what the lines C(user ...) in C(/etc/redis/redis-NAME.acl) say.
    Connections stay. Users that are not in the file are removed.
  - One that lets nobody in by the passwords given, because all of them are new, is restarted and reads the file.
options:
  admin: {description: The user to log in as., type: str, required: true}
  passwords: {description: "Its passwords, of which one is taken.", type: list, elements: str, required: true}
  address: {description: The address to connect to., type: str, required: true}
  instances: {description: The port of each instance by its name., type: dict, required: true}
author: Slipway contributors
"""


class Instance:
    """A running instance, by redis-cli; passwords go by the environment."""

    def __init__(self, module: AnsibleModule, name: str, port: int) -> None:
        self.module = module
        self.name = name
        self.command = redis_cli(name, module.params["address"], port, module.params["admin"])
        self.password: str | None = None

    def ask(self, lines: list[str], password: str | None = None) -> list[str]:
        """Return what Redis answers to commands."""
        _, out, err = self.module.run_command(
            self.command,
            data="\n".join(lines) + "\n",
            environ_update={"REDISCLI_AUTH": password or self.password or ""},
        )
        return (out + err).splitlines()

    def log_in(self) -> bool:
        """Find the password that is accepted; tell whether there is one."""
        for password in filter(None, self.module.params["passwords"]):
            if "PONG" in self.ask(["PING"], password):
                self.password = password
                return True
        return False

    def users(self) -> dict[str, set[str]]:
        """Return the rules of each user as Redis has them.

        Those of a user that it has read from the file come in another order than those it was told by a command, and
        do not say what is the default.
        """
        lines = [line.split(" ", 2) for line in self.ask(["ACL LIST"]) if line.startswith("user ")]
        return {words[1]: set(words[2].split()) - {"sanitize-payload"} for words in lines}


def read_users(name: str) -> dict[str, str]:
    """Return the rules of each user as they are written."""
    with open(f"/etc/redis/redis-{name}.acl") as file:
        lines = [line.split(" ", 2) for line in file.read().splitlines() if line.startswith("user ")]
    return {words[1]: words[2] for words in lines}


def main() -> None:
    """Run the module."""
    module = AnsibleModule(
        argument_spec={
            "admin": {"type": "str", "required": True},
            "passwords": {"type": "list", "elements": "str", "required": True, "no_log": True},
            "address": {"type": "str", "required": True},
            "instances": {"type": "dict", "required": True},
        },
        supports_check_mode=True,
    )
    actions: list[str] = []
    for name, port in module.params["instances"].items():
        # A dry run cannot say more than that the file would change.
        if module.check_mode or not os.path.exists(f"/etc/redis/redis-{name}.acl"):
            continue
        instance, wanted = Instance(module, name, int(port)), read_users(name)
        if not instance.log_in():
            actions.append(f"restart {name}")
            Systemd(module).run("restart", f"redis-server@{name}.service")
            if not instance.log_in():
                module.fail_json(msg=f"redis-server@{name} refuses {module.params['admin']} after a restart too")
        before = instance.users()
        # All at once for a user, or not at all. The one that is logged in comes last.
        order = sorted(wanted, key=lambda user: user == module.params["admin"])
        commands = [f"ACL SETUSER {user} reset {wanted[user]}" for user in order]
        commands += [f"ACL DELUSER {user}" for user in before if user not in wanted]
        refused = [line for line in instance.ask(commands) if line not in ("", "OK", "1")]
        if refused:
            module.fail_json(msg=f"redis-server@{name} refuses its users: {refused[0]}")
        instance.log_in()
        if instance.users() != before:
            actions.append(f"change {name}")
    module.exit_json(changed=bool(actions), actions=actions)


if __name__ == "__main__":
    main()
