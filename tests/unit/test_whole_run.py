"""A part of a playbook is refused before its first task: --tags, --skip-tags, --start-at-task, and --limit at times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.release import __version__ as ansible_version
from conftest import INVENTORIES, ROOT, load_plugin, load_yaml

plugin = load_plugin("plugins/callback/whole_run.py")
PLAYBOOKS = sorted(ROOT.glob("playbooks/*.yml"))
CONTROL = {"secrets.yml", "promote_replica.yml", "move_redis.yml"}
each_playbook = pytest.mark.parametrize("path", PLAYBOOKS, ids=lambda path: path.name)


def plays_of(path: Path) -> Iterator[tuple[str, str]]:
    """Yield the file and the hosts of each play of a playbook, and of those that it imports."""
    for play in load_yaml(path):
        if imported := play.get("ansible.builtin.import_playbook"):
            yield from plays_of(path.parent / imported)
        else:
            yield str(path), play["hosts"]


def refusal(path: Path, plays: list[tuple[str, str]] | None = None, **options: Any) -> str:
    """Return what a playbook is refused for with options of the command line, or nothing."""
    nothing = {"tags": ("all",), "skip_tags": (), "start_at_task": None, "subset": None}
    return plugin.refusal(nothing | options, str(path), plays or list(plays_of(path)))


@each_playbook
def test_part_of_a_playbook_is_refused(path: Path) -> None:
    assert not refusal(path)
    assert not refusal(path, skip_tags=["notest", "molecule-notest", "molecule-idempotence-notest"]), (
        "as Molecule runs each playbook"
    )
    for options, named in (
        ({"tags": ["nginx"]}, "--tags nginx"),
        ({"tags": ["all", "never"]}, "--tags never"),
        ({"skip_tags": ["always", "x"]}, "--skip-tags always,x"),
        ({"start_at_task": "Activate*"}, "--start-at-task"),
        ({"start_at_task": ""}, "--start-at-task"),
    ):
        said = refusal(path, **options)
        assert said.startswith(f"{named} is refused: {path.name}"), options
        assert "Run it whole" in said


SUPPORTED = load_yaml(ROOT / "meta/runtime.yml")["requires_ansible"]


@pytest.mark.parametrize("version", ["2.18.7", "2.2", "2.22.0", "2.22.0rc1", "3.0.0"])
def test_unsupported_ansible_is_refused(version: str) -> None:
    said = plugin.ansible_fault(version, SUPPORTED)
    assert said.startswith(f"ansible-core {version} is refused") and SUPPORTED in said
    assert "make bootstrap" in said


@pytest.mark.parametrize("version", ["2.19.0", "2.19.14", "2.20.3", "2.21.0rc1", "2.21.5"])
def test_supported_ansible_passes(version: str) -> None:
    assert not plugin.ansible_fault(version, SUPPORTED)
    assert bool(plugin.ansible_warning(version)) == version.startswith("2.19.")


@pytest.mark.parametrize("lock", ["requirements.txt", "requirements-test.txt"])
def test_locked_ansible_is_supported(lock: str) -> None:
    versions = re.findall(r"^ansible-core==([^ ]+)", (ROOT / lock).read_text(encoding="utf-8"), re.MULTILINE)
    assert versions
    assert not any(plugin.ansible_fault(version, SUPPORTED) for version in versions)


def test_run_is_refused_or_warned_by_its_ansible(tmp_path: Path, run_playbook: Callable[..., Any]) -> None:
    """The warning comes once in a run, however many plays it has."""
    (tmp_path / "hosts.yml").write_text("app: {hosts: {a: {ansible_connection: local}}}\n", encoding="utf-8")
    done = run_playbook("-i", "hosts.yml", ROOT / "playbooks/plan_capacity.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert "PLAY [" in done.stdout
    assert "is refused: Slipway supports" not in done.stderr
    ended = ansible_version.startswith(f"{plugin.ENDED}.")
    assert (done.stdout + done.stderr).count(f"ansible-core {plugin.ENDED} is out of support") == int(ended)


@each_playbook
def test_limit_that_leaves_out_the_control_node_is_refused(path: Path) -> None:
    said = refusal(path, subset="app1")
    assert bool(said) == (path.name in CONTROL), said
    assert not refusal(path, subset="app1:localhost")


def test_playbooks_of_others_keep_their_tags(tmp_path: Path) -> None:
    own = tmp_path / "own.yml"
    plays = [(str(own), "all")]
    assert not refusal(own, plays, tags=["x"], skip_tags=["y"], start_at_task="z", subset="a")
    plays += plays_of(ROOT / "playbooks/deploy.yml")
    assert not refusal(own, plays, tags=["x"])
    assert "without preflight and without the deploy lock" in refusal(own, plays, start_at_task="z")


@pytest.mark.parametrize(
    ("playbook", "option"),
    [
        ("deploy.yml", ("--tags", "x")),
        ("deploy.yml", ("--skip-tags", "always")),
        ("deploy.yml", ("--start-at-task", "Deploy*")),
        ("secrets.yml", ("--limit", "app1")),
    ],
)
def test_a_run_ends_before_its_first_task(
    playbook: str, option: tuple[str, str], run_playbook: Callable[..., Any]
) -> None:
    path = ROOT / "playbooks" / playbook
    done = run_playbook("-i", "app1,", path, *option, ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert done.returncode == 1
    assert f"{option[0]}" in done.stderr and f"is refused: {playbook}" in done.stderr
    assert "Nothing was changed on any host. docs/operating.md" in done.stderr
    assert "PLAY" not in done.stdout and "Traceback" not in done.stdout + done.stderr


SITE = {name: ["a"] for name in plugin.GROUPS}
# An inventory's text, the hosts of each group that Ansible reads from it, and what is said.
WRONG: dict[str, tuple[str, dict[str, list[str]], str]] = {
    "empty": ("", {}, "hosts.yml:1: is empty; it needs groups with hosts"),
    "comment": ("# nothing\n", {}, "is empty"),
    "list": ("- a\n- b\n", {}, "must be a dictionary of groups"),
    "text": ("hello\n", {}, "must be a dictionary of groups"),
    "group-list": ("app:\n  - a\n", {}, "hosts.yml:1: the group app is a list, must be a dictionary"),
    "group-text": ("app: a\n", {}, "the group app is text, must be a dictionary"),
    "hosts-list": ("app:\n  hosts:\n    - a\n", {}, "hosts.yml:2: hosts of the group app must be a dictionary"),
    "hosts-text": ("app:\n  hosts: a\n", SITE, "hosts of the group app must be a dictionary"),
    "vars-list": ("app:\n  vars:\n    - x: 1\n", SITE, "vars of the group app must be a dictionary"),
    "vars-text": ("app:\n  vars: x\n", SITE, "vars of the group app must be a dictionary"),
    "children-list": ("app:\n  children: [web]\n", SITE, "children of the group app must be a dictionary"),
    "unknown-key": (
        "app:\n  host: {a: }\n",
        {},
        "the group app has the key host; known are hosts, children, vars; did you",
    ),
    "spaces": ('app:\n  hosts:\n    "my host": \n', SITE, "hosts.yml:3: 'my host' is no name of a host"),
    "comma": ("app:\n  hosts:\n    'a,b': \n", SITE, "'a,b' is no name of a host"),
    "unicode": ("app:\n  hosts:\n    höst: \n", SITE, "is no name of a host"),
    "dash": ("my-group:\n  hosts: {a: }\n", SITE, "must have a name of letters, digits and _; write my_group"),
    "below": ("all:\n  children:\n    app: [a]\n", SITE, "hosts.yml:3: the group app is a list"),
    "near": ("workers: {hosts: {a: }}\n", SITE | {"worker": [], "workers": ["a"]}, "did you mean worker?"),
    "plural": ("databases: {hosts: {a: }}\n", {"databases": ["a"]}, "did you mean database?"),
    "group-is-host": ("app: {hosts: {app: }}\n", {"app": ["app"]}, "app is a group and a host"),
    "own-group-is-host": ("x: {hosts: {x: }}\n", SITE | {"x": ["x"]}, "x is a group and a host"),
    "no-groups": ("all: {hosts: {a: }}\n", {"all": ["a"]}, "no host is in one of the groups database, redis, app"),
    "merged": (
        "all: {vars: {w: &w {host: {a: }}}}\napp: {<<: *w}\n",
        SITE,
        "hosts.yml:1: the group app has the key host",
    ),
    "quoted": ("app: {'<<': {hosts: {a: }}}\n", SITE, "the group app has the key <<"),
    "binary": ("\0\1", {}, "no host is in one of the groups"),
}


@pytest.mark.parametrize("name", WRONG)
def test_inventory_of_a_wrong_structure_is_refused(name: str, tmp_path: Path) -> None:
    text, hosts, said = WRONG[name]
    (tmp_path / "hosts.yml").write_text(text, encoding="utf-8")
    faults = plugin.inventory_faults([str(tmp_path)], hosts, True)
    assert any(said in fault for fault in faults), faults


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_shipped_inventory_has_the_structure(inventory: str) -> None:
    assert not list(plugin.structure_faults((ROOT / inventory / "hosts.yml").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "text",
    [
        "app:\n  hosts:\n    web[01:20].example.com: \n    2001:db8::1: \n    10.0.0.5: {ansible_port: 22}\n",
        "all: {children: {app: {hosts: {a: }}, worker: , edge: {vars: {x: 1}}}}\n",
        "plugin: community.general.proxmox\nurl: https://x\n",
        "app: \nworker: ~\n",
        "app: &w {hosts: {a: }}\ndatabase: {<<: *w}\nredis: {<<: [*w, *w], vars: {x: 1}}\n",
        "app: {hosts: &h {a: }}\nedge: {hosts: {<<: *h, b: }}\n",
        "all: {vars: {base: &b {app: {hosts: {a: }}}}, children: {<<: *b}}\n",
    ],
)
def test_odd_structure_that_is_right_passes(text: str) -> None:
    assert not list(plugin.structure_faults(text))


def test_only_playbooks_for_hosts_of_a_site_need_them(tmp_path: Path) -> None:
    assert not plugin.inventory_faults([str(tmp_path)], {"all": ["a"]}, False)
    assert not plugin.inventory_faults(["a,b,"], SITE, True)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "is empty"),
        ("all:\n  hosts: {a: }\n", "no host is in one of the groups"),
        ("app:\n  hosts: {a: }\n  - b\n", "YAML parsing failed"),
        ("app:\n\thosts: {a: }\n", "Tabs are usually invalid in YAML"),
        ("app:\n  hosts:\n    - a\n", 'Invalid "hosts" entry for "app" group, requires a dictionary'),
        ("app: {children: {web: }}\nweb: {children: {app: }}\n", "creates a recursive dependency loop"),
        ("- a\n", "YAML inventory has invalid structure, it should be a dictionary"),
        ("app:\n  hosts: {'a b': }\n", "is no name of a host"),
    ],
)
def test_malformed_inventory_ends_a_run_with_its_reason(
    text: str, said: str, tmp_path: Path, run_playbook: Callable[..., Any]
) -> None:
    (tmp_path / "site").mkdir()
    (tmp_path / "site/hosts.yml").write_text(text, encoding="utf-8")
    done = run_playbook("-i", "site", ROOT / "playbooks/status.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    output = " ".join((done.stdout + done.stderr).split())
    assert done.returncode != 0
    assert said in output and "Traceback" not in output
    assert "PLAY" not in done.stdout
