"""The wiring ranks below everything that an operator writes, and all of Ansible's commands see it."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible import constants as C
from conftest import INVENTORIES, ROOT, WIRING, wiring

from ansible_collections.slipway.kit.plugins.plugin_utils import wiring as copies

Run = Callable[..., subprocess.CompletedProcess[str]]

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


# Copies in inventories, and settings that rank the wiring wrong


def old_copy(folder: Path, **own: Any) -> Path:
    """Write an inventory with all of the wiring in one file, as inventories had it once, changed by `own`."""
    files = {"site/hosts.yml": hosts(), "site/group_vars/all/topology.yml": wiring() | own}
    write(folder, files | {"site/group_vars/all/variables.yml": {"django_app_name": "shop"}})
    return folder / "site"


def refused(folder: Path, run_playbook: Run, playbook: str, **environment: str) -> str:
    """Return what is said to an inventory by a playbook that refuses it before its first task."""
    done = run_playbook(
        "-i", folder / "site", ROOT / "playbooks" / playbook, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **environment
    )
    assert done.returncode != 0
    assert "TASK [" not in done.stdout
    assert "Nothing was changed on any host." in done.stderr
    return " ".join(done.stderr.split())


@pytest.mark.parametrize("playbook", ["site.yml", "preflight.yml", "status.yml", "secrets.yml"])
def test_copy_of_the_wiring_is_refused_by_every_playbook(playbook: str, tmp_path: Path, run_playbook: Run) -> None:
    old_copy(tmp_path)
    said = refused(tmp_path, run_playbook, playbook)
    assert "site/group_vars/all/topology.yml: is a copy of the kit's wiring" in said
    assert "delete it; it holds no lines of your own" in said
    assert "docs/upgrading.md#from-the-version-before-100" in said


def test_own_lines_in_a_copy_are_named_and_secrets_are_not_shown(tmp_path: Path, run_playbook: Run) -> None:
    own = {"topology_app_port": 8100, "redis_broker_user": "queue", "redis_admin_password": "Zt63nQp0Lk"}
    folder = old_copy(tmp_path, **own, nginx_extra_headers={"X-Own": "1"})
    said = refused(tmp_path, run_playbook, "preflight.yml")
    lines = (folder / "group_vars/all/topology.yml").read_text(encoding="utf-8").splitlines()
    assert "move these lines of your own to site/group_vars/all/variables.yml, and delete the rest:" in said
    for name, shown in (("topology_app_port", "8100"), ("redis_broker_user", "queue"), ("redis_admin_password", "***")):
        number = next(number for number, line in enumerate(lines, start=1) if line.startswith(f"{name}:"))
        assert f"topology.yml:{number}: {name}: {shown}" in said
    assert 'nginx_extra_headers: {"X-Own": "1"}' in said
    assert said.count("topology.yml:") == len(own) + 1 + 1
    assert "Zt63nQp0Lk" not in said


@pytest.mark.parametrize(
    "place", ["group_vars/all.yml", "group_vars/all/00-kit.yml", "group_vars/app/x.yaml", "host_vars/www.yml"]
)
def test_copy_is_found_under_any_name(place: str, tmp_path: Path) -> None:
    write(tmp_path, {f"site/{place}": wiring(), "site/hosts.yml": hosts()})
    ((found, _, _),) = copies.copy_faults((str(tmp_path / "site"),))
    assert found.endswith(place)


def test_copy_in_hosts_yml_is_found(tmp_path: Path) -> None:
    content = hosts()
    content["all"]["vars"] = wiring() | {"topology_app_port": 8100}
    write(tmp_path, {"site/hosts.yml": content})
    ((_, _, fix),) = copies.copy_faults((str(tmp_path / "site/hosts.yml"),))
    assert "topology_app_port: 8100" in fix


@pytest.mark.parametrize("path", WIRING, ids=lambda path: path.name)
def test_a_file_of_the_wiring_alone_is_a_copy(path: Path) -> None:
    assert copies.copied(path.read_text(encoding="utf-8")) == []


def test_what_was_shipped_once_is_not_the_operators() -> None:
    older = {"redis_listen_addresses": "{{ ['127.0.0.1'] }}", "redis_broker_user": "celery"}
    text = yaml.safe_dump({name: value for name, value in wiring().items() if name.startswith("redis_")} | older)
    own = [name for _, name, _ in copies.copied(text) or ()]
    assert own == ["redis_listen_addresses"]
    known = copies.shipped() | {"redis_listen_addresses": frozenset({copies.digest(older["redis_listen_addresses"])})}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(copies, "shipped", lambda: known)
        assert copies.copied(text) == []


def test_variables_of_an_operator_are_no_copy() -> None:
    for inventory in INVENTORIES:
        assert not copies.copy_faults((str(ROOT / inventory),))
    overrides = {name: f"own {number}" for number, name in enumerate(wiring())}
    assert copies.copied(yaml.safe_dump(overrides)) is None
    plain = {name: value for name, value in wiring().items() if "{{" not in str(value)}
    assert copies.copied(yaml.safe_dump(plain)) is None


DEFAULT = (
    "all_inventory,groups_inventory,all_plugins_inventory,all_plugins_play,groups_plugins_inventory,groups_plugins_play"
)


@pytest.mark.parametrize(
    ("environment", "said"),
    [
        ({"ANSIBLE_PRECEDENCE": DEFAULT}, "(env: ANSIBLE_PRECEDENCE) ranks the kit's wiring above the inventory"),
        ({"ANSIBLE_PRECEDENCE": "all_plugins_play,all_inventory"}, "would not read all of the inventory"),
        (
            {"ANSIBLE_PLAYBOOK_VARS_ROOT": "bottom"},
            "playbook_vars_root = bottom (env: ANSIBLE_PLAYBOOK_VARS_ROOT) hides",
        ),
        ({"ANSIBLE_VARS_ENABLED": "own"}, "reads no group_vars"),
    ],
    ids=lambda value: "" if isinstance(value, dict) else value[:30],
)
def test_settings_that_rank_the_wiring_wrong_are_refused(
    environment: dict[str, str], said: str, tmp_path: Path, run_playbook: Run
) -> None:
    write(tmp_path, {"site/hosts.yml": hosts()})
    text = refused(tmp_path, run_playbook, "site.yml", **environment)
    assert said in text
    assert "or use the kit's ansible.cfg" in text


def test_own_configuration_is_refused_by_its_name(tmp_path: Path, run_playbook: Run) -> None:
    own = (ROOT / "ansible.cfg").read_text(encoding="utf-8").replace("precedence = ", "# precedence = ")
    own = re.sub(r"(?m)^(collections_path|filter_plugins|playbook_dir) = ", rf"\1 = {ROOT}/", own)
    (tmp_path / "own.cfg").write_text(own, encoding="utf-8")
    write(tmp_path, {"site/hosts.yml": hosts()})
    said = refused(tmp_path, run_playbook, "site.yml", ANSIBLE_CONFIG=str(tmp_path / "own.cfg"))
    assert "(default) ranks the kit's wiring above the inventory" in said


def test_the_kits_own_settings_pass() -> None:
    assert copies.settings_faults(C.config.get_config_value_and_origin) == []
