"""A control node on Debian 13, whose Python has the newest Ansible, sets up a site on another host."""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import PODMAN, PROJECT, Playbooks, Site, recap
from testinfra.backend.base import CommandResult
from testinfra.host import Host

INVENTORY = "molecule/control/inventory"
VAULT = f"{INVENTORY}/group_vars/all/vault.yml"
# The key of the hosts, and the password of their vault.
OPERATOR = [".cache/slipway/id_ed25519", ".cache/slipway/vault-password"]
ENVIRONMENT = "export ANSIBLE_CONFIG=$PWD/ansible.cfg ANSIBLE_VAULT_PASSWORD_FILE=$PWD/molecule/shared/vault-password"
NEWEST = "2.21"

Run = Callable[[str], CommandResult]


def send(files: list[str], folder: Path, target: str) -> None:
    """Put files of this machine, named relative to a directory, into a directory of the control node."""
    listed = "\0".join(files).encode()
    pack = ["tar", "--create", "--directory", str(folder), "--null", "--files-from", "-"]
    packed = subprocess.run(pack, input=listed, capture_output=True, check=True).stdout
    unpack = f"mkdir --parents {target} && tar --extract --directory {target}"
    command = ["podman", "exec", "--interactive", "--user", "ops", "slipway-control-control", "sh", "-c", unpack]
    subprocess.run(command, input=packed, env=os.environ | PODMAN, check=True, capture_output=True)


@pytest.fixture(scope="module")
def run(hosts: dict[str, Host]) -> Run:
    """Return a function that runs a command on the control node, as an operator in a copy of the repository."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard", "--deduplicate"]
    files = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout.split("\0")
    send([*(file for file in files if file and os.path.lexists(PROJECT / file)), VAULT], PROJECT, "/home/ops/slipway")
    send(OPERATOR, Path.home(), "/home/ops")

    def run(command: str) -> CommandResult:
        return hosts["control"].run("runuser --login ops --command %s", f"cd slipway && {command}")

    assert run("git init --quiet && git add --all").succeeded
    done = run("make bootstrap")
    assert done.succeeded, done.stdout + done.stderr
    return run


# As docs/operating.md says; the test hosts have keys that nobody knows.
MITOGEN = """\
make mitogen
export ANSIBLE_STRATEGY_PLUGINS=$(echo $PWD/.venv/lib/python3*/site-packages/ansible_mitogen/plugins/strategy)
export ANSIBLE_STRATEGY=mitogen_linear ANSIBLE_BECOME_EXE=sudo ANSIBLE_HOST_KEY_CHECKING=False
"""


def command_of(name: str, before: str = "") -> str:
    """Return the command that runs a playbook on the control node, after other commands."""
    run = f"ansible-playbook -i {INVENTORY} playbooks/{name} 2>&1"
    return "\n".join([ENVIRONMENT, ". .venv/bin/activate", before, run])


def test_control_node_needs_no_container_and_no_test_tool(run: Run, hosts: dict[str, Host]) -> None:
    assert run(".venv/bin/ansible --version").stdout.startswith(f"ansible [core {NEWEST}.")
    assert not hosts["control"].exists("podman")
    names = run(".venv/bin/uv pip list --quiet --python .venv/bin/python --format freeze").stdout
    assert "cryptography==" in names
    assert not re.search("^(pytest|molecule|ansible-lint)==", names, re.MULTILINE)


def test_newest_ansible_sets_up_another_host(run: Run, hosts: dict[str, Host], playbook: Playbooks) -> None:
    """What it did is what the Ansible of this machine would have done."""
    done = run(command_of("site.yml"))
    assert done.succeeded, done.stdout[-6000:]
    assert "DEPRECATION WARNING" not in done.stdout
    assert "out of support" not in done.stdout
    assert Site(f"http://{hosts['server'].ansible.get_variables()['ansible_host']}").answers()
    for again in (run(command_of("site.yml")).stdout, playbook("site.yml").stdout):
        assert recap(again)["server"]["changed"] == 0, again[-6000:]
        assert recap(again)["server"]["failed"] == 0


def test_mitogen_finds_nothing_to_change(run: Run) -> None:
    """It reads the state of the host as an ordinary run does."""
    done = run(command_of("site.yml", MITOGEN))
    assert done.succeeded, done.stdout[-6000:]
    assert "strategy plugins not included" in done.stdout, "it ran without Mitogen"
    assert recap(done.stdout)["server"]["changed"] == 0, done.stdout[-6000:]


def test_unit_tests_pass_with_the_newest_ansible(run: Run) -> None:
    done = run("make test-unit")
    assert done.succeeded, done.stdout[-6000:] + done.stderr[-2000:]
    assert re.search(r"\d{3,} passed", done.stdout)
