"""A part of a playbook is refused before its first task: --tags, --skip-tags, --start-at-task, and --limit at times."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from ansible.release import __version__ as ansible_version
from conftest import INVENTORIES, ROOT, load_yaml

from ansible_collections.slipway.kit.plugins.callback import whole_run as plugin

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


@pytest.mark.parametrize(
    ("option", "tag", "said"),
    [
        ("tags", "nginx", "For nginx: run playbooks/edge.yml without --tags."),
        ("tags", "Nginx", "(did you mean nginx?): run playbooks/edge.yml"),
        ("tags", "ngnix", "For ngnix (did you mean nginx?): run playbooks/edge.yml"),
        ("tags", "postgresql", "run playbooks/database.yml"),
        ("tags", "packages", "playbooks/patch_hosts.yml installs updates"),
        ("tags", "config", "which writes the files that differ; --check --diff shows them"),
        ("skip_tags", "migrations", '"django_app_migrate": false'),
    ],
)
def test_refusal_of_a_tag_names_what_to_run_instead(option: str, tag: str, said: str) -> None:
    assert said in refusal(ROOT / "playbooks/site.yml", **{option: [tag]})


def test_each_role_has_a_playbook_for_its_tag() -> None:
    roles = {path.name for path in (ROOT / "roles").iterdir() if path.is_dir()}
    assert roles <= plugin.FOR_TAGS.keys()
    assert all((ROOT / "playbooks" / name).exists() for name in plugin.PLAYBOOKS_OF_TAGS)
    assert "For " not in refusal(ROOT / "playbooks/site.yml", tags=["xyz"])


@pytest.mark.parametrize(
    ("playbook", "given", "said"),
    [
        ("drain_host", "slipway_host", ""),
        ("drain", "slipway_host", ""),
        ("drain_host", "host", ""),  # the earlier name
        ("drain_host", "environment_name", ""),  # the operator's own
        ("deploy", "host", ""),
        ("drain_host", "slipway_hots", "slipway_hots is no variable of a playbook; did you mean slipway_host?"),
        ("drain_host", "hots", "hots is no variable of drain_host.yml; did you mean slipway_host?"),
        ("drain_host", "slipwayhost", "did you mean slipway_host?"),
        ("patch_hosts", "hosts", "did you mean slipway_host?"),
        ("promote_replica", "promot", "did you mean slipway_promote?"),
        ("run_management_command", "comand", "did you mean slipway_command?"),
        ("move_redis", "slipway_form", "did you mean slipway_from?"),
        ("deploy", "slipway_host", "slipway_host is no variable of deploy.yml, but of drain_host.yml, patch_hosts.yml"),
        ("deploy", "slipway_anything", "slipway_anything is no variable of a playbook"),
    ],
)
def test_extra_vars_that_no_playbook_takes_are_refused(playbook: str, given: str, said: str) -> None:
    faults = plugin.extra_faults([given], [ROOT / f"playbooks/{playbook}.yml"])
    assert len(faults) == bool(said)
    assert said in "".join(faults)


def test_earlier_names_of_extra_vars_are_passed_on() -> None:
    paths = {name: ROOT / f"playbooks/{name}.yml" for name in ("drain_host", "plan_capacity", "status", "deploy")}
    assert plugin.renamed(["host", "x"], [paths["drain_host"]]) == {"host": "slipway_host"}
    assert plugin.renamed(["host", "slipway_host"], [paths["drain_host"]]) == {}, "the operator's own"
    assert plugin.renamed(["host"], [paths["deploy"]]) == {}
    assert plugin.renamed(["plan_file"], [paths["plan_capacity"]]) == {"plan_file": "slipway_plan_file"}
    assert plugin.renamed(["status_strict"], [paths["deploy"], paths["status"]]) == {
        "status_strict": "slipway_status_strict"
    }


@pytest.fixture
def run_here(run_playbook: Callable[..., Any], tmp_path: Path) -> Callable[..., tuple[str, str]]:
    """Return a function that runs a playbook, which is refused, and returns its output and its warnings as one line."""
    inventory = "all: {vars: {topology_redis_hosts: [redis1]}}\nredis: {hosts: {redis1: }}\n"
    (tmp_path / "hosts.yml").write_text(inventory, encoding="utf-8")

    def run(playbook: str, *words: str) -> tuple[str, str]:
        path = ROOT / f"playbooks/{playbook}.yml"
        done = run_playbook("-i", "hosts.yml", path, *words, ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
        assert done.returncode != 0
        return " ".join(done.stdout.split()), " ".join(done.stderr.split())

    return run


def test_variable_reaches_the_playbook_by_both_names(run_here: Callable[..., tuple[str, str]]) -> None:
    for variable, warned in (("slipway_from", False), ("from", True)):
        said, warning = run_here("move_redis", "-e", f"{variable}=other")
        assert "slipway_from is other, which must be the name" in said, warning
        assert ("extra-var from is now slipway_from" in warning) == warned


def test_extra_var_with_a_typo_is_refused_before_the_first_task(run_here: Callable[..., tuple[str, str]]) -> None:
    said, error = run_here("patch_hosts", "-e", "slipway_hots=redis1")
    assert "slipway_hots is no variable of a playbook; did you mean slipway_host? Nothing was changed" in error
    assert "PLAY" not in said


def test_earlier_name_of_a_playbook_works_and_warns(run_here: Callable[..., tuple[str, str]]) -> None:
    for name, warned in (("promote", True), ("promote_replica", False)):
        said, warning = run_here(name)
        assert "Name the host that is to be the primary: -e slipway_promote=NAME" in said, warning
        assert ("playbooks/promote.yml is now playbooks/promote_replica.yml; run that one" in warning) == warned


@each_playbook
def test_limit_that_leaves_out_the_control_node_is_refused(path: Path) -> None:
    said = refusal(path, subset="app1")
    assert bool(said) == ((plugin.successor(path) or path.name) in CONTROL), said
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
