"""The wiring ranks below everything that an operator writes, and all of Ansible's commands see it."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml
from conftest import ROOT, wiring

# An option of a role and an option of the wiring, with a value that the wiring does not have.
NAMES = ("redis_tls", "topology_app_port")
OWN = {"redis_tls": "the operator's", "topology_app_port": 8123}


def write(folder: Path, files: dict[str, Any]) -> Path:
    """Write files of YAML and return their directory."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(yaml.safe_dump(content), encoding="utf-8")
    return folder


def hosts(**group: Any) -> dict[str, Any]:
    """Return an inventory with one host, of which the group `app` has further keys."""
    return {"all": {"hosts": {"www": {"ansible_connection": "local"}}}, "app": {"hosts": {"www": None}, **group}}


def run(*command: str | Path, cwd: Path) -> str:
    """Run one of Ansible's commands with the project's configuration, and return its output."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")}
    settings = {"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        list(map(str, command)),
        cwd=cwd,
        env=environment | settings,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def in_hosts(place: str) -> dict[str, Any]:
    """Return the inventory with the operator's values in hosts.yml, at `all`, at the group or at the host."""
    content = hosts(**({"vars": OWN} if place == "group" else {}))
    if place == "all":
        content["all"]["vars"] = OWN
    if place == "host":
        content["all"]["hosts"]["www"] |= OWN
    return content


PLACES: dict[str, tuple[dict[str, Any], tuple[str, ...]]] = {
    "hosts.yml, all": ({"site/hosts.yml": in_hosts("all")}, ()),
    "hosts.yml, group": ({"site/hosts.yml": in_hosts("group")}, ()),
    "hosts.yml, host": ({"site/hosts.yml": in_hosts("host")}, ()),
    "group_vars/all": ({"site/hosts.yml": hosts(), "site/group_vars/all/variables.yml": OWN}, ()),
    "group_vars/all.yml": ({"site/hosts.yml": hosts(), "site/group_vars/all.yml": OWN}, ()),
    "group_vars/GROUP": ({"site/hosts.yml": hosts(), "site/group_vars/app.yml": OWN}, ()),
    "host_vars": ({"site/hosts.yml": hosts(), "site/host_vars/www.yml": OWN}, ()),
    "first of two -i": (
        {"site/hosts.yml": hosts(), "site/group_vars/all.yml": OWN, "more/hosts.yml": hosts()},
        ("more",),
    ),
    "second of two -i": ({"site/hosts.yml": hosts(), "more/hosts.yml": in_hosts("all")}, ("more",)),
    "group_vars of a second -i": (
        {"site/hosts.yml": hosts(), "more/hosts.yml": hosts(), "more/group_vars/all/own.yml": OWN},
        ("more",),
    ),
}


@pytest.mark.parametrize("place", PLACES)
def test_operator_wins_over_the_wiring(place: str, tmp_path: Path) -> None:
    files, more = PLACES[place]
    sources = ["-i", "site", *(word for name in more for word in ("-i", name))]
    write(tmp_path, files)
    listed = json.loads(run("ansible-inventory", *sources, "--host", "www", cwd=tmp_path))
    assert {name: listed[name] for name in NAMES} == OWN
    # A playbook of the kit's directory; one elsewhere sees no wiring, and would prove nothing.
    assert shown_by_a_playbook(tmp_path, *sources) == OWN


def shown_by_a_playbook(folder: Path, *arguments: str) -> dict[str, Any]:
    """Return what a playbook beside the wiring sees of NAMES and of the address."""
    book = folder / "kit/show.yml"
    book.parent.mkdir(exist_ok=True)
    if not (folder / "kit/group_vars").exists():
        (folder / "kit/group_vars").symlink_to(ROOT / "playbooks/group_vars")
    shown = "{{ {" + ", ".join(f"'{name}': {name}" for name in NAMES) + "} | to_json }}"
    copy = {"dest": str(folder / "shown.json"), "content": shown, "mode": "0600"}
    play = {"hosts": "www", "gather_facts": False, "tasks": [{"ansible.builtin.copy": copy}]}
    book.write_text(yaml.safe_dump([play]), encoding="utf-8")
    run("ansible-playbook", *arguments, book, cwd=folder)
    return json.loads((folder / "shown.json").read_text(encoding="utf-8"))


def test_extra_variables_win(tmp_path: Path) -> None:
    write(tmp_path, {"site/hosts.yml": in_hosts("host")})
    own = {"redis_tls": "from -e", "topology_app_port": 9000}
    assert shown_by_a_playbook(tmp_path, "-i", "site", "-e", json.dumps(own)) == own


def test_wiring_reaches_every_command(tmp_path: Path) -> None:
    """Where the operator sets nothing, it is there for playbooks, for ansible and for ansible-inventory."""
    write(tmp_path, {"site/hosts.yml": hosts()})
    listed = json.loads(run("ansible-inventory", "-i", "site", "--host", "www", cwd=tmp_path))
    assert wiring().keys() <= listed.keys()
    said = run(
        "ansible", "-i", "site", "www", "-m", "ansible.builtin.debug", "-a", "var=topology_app_port", cwd=tmp_path
    )
    assert "topology_app_port: 8000" in said
    assert shown_by_a_playbook(tmp_path, "-i", "site") == {"redis_tls": False, "topology_app_port": 8000}
