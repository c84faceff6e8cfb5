"""The rules of the house, held against every file of the tree. None needs a host."""

from __future__ import annotations

import os
import re
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from ansible.template import Templar, trust_as_template
from conftest import INVENTORIES, ROLES, ROOT, WIRING, defaults_of, load_yaml, options_of, wiring

TASK_LISTS = ("block", "rescue", "always")
PLAY_LISTS = ("pre_tasks", "tasks", "post_tasks", "handlers")


def tracked(*patterns: str) -> list[Path]:
    """Return the files of the project that match a pattern: what git has, or would have after an add."""
    listing = subprocess.run(
        ["git", "ls-files", "--cached", "--others", "--exclude-standard", "-z", "--", *patterns],
        cwd=ROOT, capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    found = sorted(ROOT / name for name in listing.split("\0") if name and os.path.lexists(ROOT / name))
    assert found, f"no file matches {patterns}"
    return found


def name_of(path: Path) -> str:
    """Return a path as it stands in the tree."""
    return str(path.relative_to(ROOT))


def flatten(tasks: list[Any] | None, inherited: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield the tasks in a list and in its blocks, with what they inherit from them."""
    for task in tasks or []:
        above = inherited | {key: task[key] for key in ("no_log", "delegate_to") if key in task}
        if any(key in task for key in TASK_LISTS):
            for key in TASK_LISTS:
                yield from flatten(task.get(key), above)
        else:
            yield above | task


PLAYBOOKS = [
    path
    for path in tracked("playbooks/*.yml", "molecule/*.yml")
    if not path.is_symlink()
    and isinstance(content := load_yaml(path), list)
    and any(
        isinstance(play, dict) and ("hosts" in play or "ansible.builtin.import_playbook" in play) for play in content
    )
]
PLAYS = [(path, play) for path in PLAYBOOKS for play in load_yaml(path) if "hosts" in play]
TASKS = [
    (path, task)
    for role in ROLES
    for path in sorted([*role.glob("tasks/*.yml"), *role.glob("handlers/*.yml")])
    for task in flatten(load_yaml(path), {})
] + [(path, task) for path, play in PLAYS for key in PLAY_LISTS for task in flatten(play.get(key), {})]
TASKS += [(path, task) for path in tracked("playbooks/tasks/*.yml") for task in flatten(load_yaml(path), {})]
each_role = pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)


def texts(value: Any) -> str:
    """Return all text in a value, keys too."""
    if isinstance(value, dict):
        return " ".join(f"{texts(key)} {texts(item)}" for key, item in value.items())
    return " ".join(map(texts, value)) if isinstance(value, list) else str(value)


# Tests


def scenario_settings(scenario: Path) -> dict[str, Any]:
    """Return a scenario's settings over the shared ones, as Molecule merges dictionaries."""

    def merge(below: dict[str, Any], above: dict[str, Any]) -> dict[str, Any]:
        both = {
            key: merge(below[key], above[key]) for key in below.keys() & above.keys() if isinstance(above[key], dict)
        }
        return below | above | both

    shared = ROOT / ".config/molecule/config.yml"
    own = yaml.safe_load((scenario / "molecule.yml").read_text(encoding="utf-8")) or {}
    return merge(yaml.safe_load(shared.read_text(encoding="utf-8")), own)


SCENARIOS = [path.parent for path in tracked("molecule/*/molecule.yml")]


@pytest.mark.parametrize("scenario", SCENARIOS, ids=lambda path: path.name)
def test_scenario_has_tests_and_runs_them(scenario: Path) -> None:
    """Molecule calls a scenario without tests a success."""
    settings = scenario_settings(scenario)
    assert settings["verifier"]["name"] == "testinfra"
    named = settings["verifier"]["directory"]
    named = named.replace("${MOLECULE_SCENARIO_NAME}", scenario.name)
    named = named.replace("${MOLECULE_PROJECT_DIRECTORY}", str(ROOT)).replace(
        "${MOLECULE_SCENARIO_DIRECTORY}", str(scenario)
    )
    folders = [list((scenario / named).rglob("test_*.py"))]
    # The verifier passes over a pattern that matches nothing.
    folders += [
        list((scenario / named).glob(more)) for more in settings["verifier"].get("additional_files_or_dirs", [])
    ]
    for files in folders:
        assert [
            path
            for path in files
            if re.search(r"^ *(async )?def test_", path.read_text(encoding="utf-8"), re.MULTILINE)
        ]
    sequence = settings["scenario"]["test_sequence"]
    assert {"create", "converge", "verify", "destroy"} <= set(sequence)
    assert sequence.index("converge") < sequence.index("verify")


def test_modules_of_tests_have_names_of_their_own() -> None:
    """Two scenarios share folders of tests, and pytest collects no second module of a name."""
    names = [path.name for path in tracked("tests/hosts/*/*.py")]
    assert len(names) > 10
    assert sorted(names) == sorted(set(names))


def test_every_scenario_folder_is_one() -> None:
    """A folder with a converge of its own but no molecule.yml is never run."""
    plays = {path.parent for path in tracked("molecule/*/*.yml") if path.name in ("converge.yml", "verify.yml")}
    assert plays <= set(SCENARIOS)


def test_no_test_is_skipped() -> None:
    for path in tracked("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            marked = re.search(r"\bpytest\.(mark\.)?(skip|skipif|xfail|importorskip)\b|\bunittest\.skip", line)
            assert not marked or path == Path(__file__), f"{name_of(path)}: {line.strip()}"


# Plays


def test_a_fault_on_one_host_ends_the_play_on_all() -> None:
    # What only looks tells of a host that is not there, and of the others.
    remote = [
        (path, play) for path, play in PLAYS if play["hosts"] != "localhost" and not play.get("ignore_unreachable")
    ]
    assert remote
    assert not [f"{name_of(path)}: {play['name']}" for path, play in remote if play.get("any_errors_fatal") is not True]


def catches_errors(content: Any) -> bool:
    """Tell whether there is a rescue or an always in a play, or in the tasks of a role that it imports."""
    if isinstance(content, list):
        return any(catches_errors(item) for item in content)
    if not isinstance(content, dict):
        return False
    if "rescue" in content or "always" in content:
        return True
    role = content.get("ansible.builtin.import_role")
    if role:
        return catches_errors(load_yaml(ROOT / f"roles/{role['name']}/tasks/{role.get('tasks_from', 'main')}.yml"))
    return any(catches_errors(content.get(name)) for name in ("tasks", "block"))


def test_a_fault_on_one_host_ends_the_run() -> None:
    """`any_errors_fatal` ends a play; with a host that was lost Ansible goes on to the next one.

    `max_fail_percentage` ends the run, but passes by a rescue. After a play with one, the next begins with a guard.
    """
    for path, play in PLAYS:
        if play["hosts"] == "localhost" or play.get("ignore_unreachable") or path.parent.name != "playbooks":
            continue
        wanted = None if catches_errors(play) else 0
        assert play.get("max_fail_percentage") == wanted, f"{name_of(path)}: {play['name']}"


def flat(path: Path) -> list[dict[str, Any]]:
    """Return the plays of a playbook and of those that it imports, in their order."""
    plays = []
    for play in load_yaml(path):
        imported = play.get("ansible.builtin.import_playbook")
        plays += flat(path.parent / imported) if imported else [play]
    return plays


def test_a_guard_follows_each_play_that_catches_errors() -> None:
    for path in PLAYBOOKS:
        if path.parent.name != "playbooks":
            continue
        plays = flat(path)
        for play, following in zip(plays, plays[1:], strict=False):
            if catches_errors(play):
                where = f"{name_of(path)}: {following['name']}"
                assert following["hosts"] == "database:redis:app:worker:edge", where
                assert following["tasks"][0].get("ansible.builtin.import_tasks") == "tasks/whole_run.yml", where


def test_no_play_on_the_control_node_follows_one_on_hosts() -> None:
    """It would run although the hosts before it were lost."""
    for path in (path for path in PLAYBOOKS if path.parent.name == "playbooks"):
        hosts = [play.get("hosts", "imported") for play in load_yaml(path)]
        local = [number for number, name in enumerate(hosts) if name == "localhost"]
        assert local in ([], [0]), name_of(path)


def test_site_is_imports_with_preflight_first() -> None:
    imported = [play.get("ansible.builtin.import_playbook") for play in load_yaml(ROOT / "playbooks/site.yml")]
    assert imported[0] == "preflight.yml"
    assert all(imported)


def roles_of(content: Any) -> Iterator[tuple[str, str]]:
    """Yield the roles that plays or tasks run with their entries, in order; "report" is the list of faults."""
    if isinstance(content, list):
        for item in content:
            yield from roles_of(item)
        return
    if "slipway.kit.preflight_report" in content:
        yield "preflight", "report"
    for role in content.get("roles", []):
        yield role["role"], "main"
    if role := content.get("ansible.builtin.import_role", content.get("ansible.builtin.include_role")):
        yield role["name"], role.get("tasks_from", "main")
    file = content.get("ansible.builtin.import_tasks", content.get("ansible.builtin.include_tasks"))
    if file:
        path = ROOT / "playbooks/tasks" / Path(file).name
        yield from roles_of(load_yaml(path) if path.exists() else [])
    for part in ("pre_tasks", "tasks", "block", "rescue", "always"):
        yield from roles_of(content.get(part, []))


def test_what_needs_a_host_that_is_set_up_validates_that_beforehand() -> None:
    """Units of the application and users of the services stand on what base and the services' roles put on a host."""
    needs = {("release", "main"), ("redis", "users"), ("postgresql", "users"), ("postgresql", "promote")}
    checked = set()
    for path in PLAYBOOKS:
        order = list(roles_of(flat(path)))
        if path.parent.name != "playbooks" or path.name.startswith("_") or not needs & set(order):
            continue
        before = order[: min(order.index(entry) for entry in needs & set(order))]
        if ("base", "main") not in before:
            assert ("base", "preflight_setup") in before[: before.index(("preflight", "report"))], path.name
            checked.add(path.name)
    assert {"deploy.yml", "rollback.yml", "rotate_secrets.yml", "promote_replica.yml"} <= checked
    (play,) = load_yaml(ROOT / "playbooks/_preflight_setup.yml")
    assert play["hosts"] == "database:redis:app:worker:edge"


@pytest.mark.parametrize("name", ["base.yml", "database.yml", "redis.yml", "edge.yml", "site.yml", "deploy.yml"])
def test_nothing_is_changed_before_the_faults_are_listed(name: str) -> None:
    order = list(roles_of(flat(ROOT / "playbooks" / name)))
    report = order.index(("preflight", "report"))
    assert all(entry.startswith("preflight") for _, entry in order[:report]), order[:report]
    assert any(entry == "main" for _, entry in order[report:])
    # A service is set up on some of the hosts too; a release reaches all or none.
    assert (("release", "preflight_hosts") in order[:report]) == (name in ("site.yml", "deploy.yml"))


def test_nothing_depends_on_handlers() -> None:
    """State on disk decides what is reloaded: a handler is lost with the run. So ansible.cfg has no force_handlers."""
    assert not [path for path in (ROOT / "roles").glob("*/handlers") if path.is_dir()]
    assert not [name_of(path) for path, play in PLAYS if "handlers" in play]
    assert not [name_of(path) for path, task in TASKS if "notify" in task]
    assert "handlers" not in (ROOT / "ansible.cfg").read_text(encoding="utf-8")


def test_deploy_rollback_and_change_of_the_environment_share_one_play() -> None:
    """One lock, one rollback, one list of steps; who imports it says which of the three it is."""
    operations = {"deploy", "rollback", "environment"}
    catching = [path.name for path, play in PLAYS if ROOT / "playbooks" in path.parents and "'rescue'" in str(play)]
    assert catching == ["_switch_release.yml"]
    said = [
        (path.name, play.get("vars", {}).get("__switch_operation"))
        for path in PLAYBOOKS
        for play in load_yaml(path)
        if play.get("ansible.builtin.import_playbook") == "_switch_release.yml"
    ]
    assert {operation for _, operation in said} == operations
    assert dict(said) | {"site.yml": "deploy", "rollback.yml": "rollback", "rotate_secrets.yml": "environment"} == dict(
        said
    )
    text = (ROOT / "playbooks/_switch_release.yml").read_text(encoding="utf-8")
    named = re.findall(r"__switch_operation (?:==|in) (.*?)(?: and|$)", text, re.MULTILINE)
    assert {word for words in named for word in re.findall(r"'(\w+)'", words)} == operations


def test_no_play_is_a_layer_of_configuration() -> None:
    """Play vars outrank an inventory, and role parameters everything."""
    for path, play in PLAYS:
        if path.is_relative_to(ROOT / "molecule"):
            continue  # what makes the test hosts configures none
        assert not {"vars", "vars_files", "vars_prompt"} & play.keys(), f"{name_of(path)}: {play['name']}"
        for role in play.get("roles", []):
            assert isinstance(role, str) or role.keys() <= {"role", "tags", "when"}, f"{name_of(path)}: {role}"
    for path, task in TASKS:
        if set(task) & {"ansible.builtin.import_role", "ansible.builtin.include_role"}:
            # An internal variable says what this use of the role is for, which is no configuration.
            named = [name for name in task.get("vars", {}) if not name.startswith("__")]
            assert not named, f"{name_of(path)}: {task['name']}: {named}"


def roles_used() -> Iterator[tuple[str, str]]:
    """Yield each role that a playbook runs, with the entry that it runs."""
    for path, play in PLAYS:
        if path.is_relative_to(ROOT / "playbooks"):
            for role in play.get("roles", []):
                yield (role if isinstance(role, str) else role["role"]), "main"
    for path, task in TASKS:
        if path.is_relative_to(ROOT / "playbooks"):
            for key in ("ansible.builtin.import_role", "ansible.builtin.include_role"):
                if key in task:
                    yield task[key]["name"], task[key].get("tasks_from", "main")


# Roles


def test_there_are_roles() -> None:
    assert len(ROLES) >= 7
    assert set(ROLES) == {path for path in (ROOT / "roles").iterdir() if path.is_dir()}


@each_role
def test_role_is_run_and_inspected(role: Path) -> None:
    used = set(roles_used())
    assert (role.name, "main") in used
    assert (role.name, "preflight") in used
    assert any("slipway.kit.preflight" in task for task in load_yaml(role / "tasks/preflight.yml"))


@each_role
def test_preflight_changes_nothing(role: Path) -> None:
    for task in flatten(load_yaml(role / "tasks/preflight.yml"), {}):
        allowed = {
            "slipway.kit.preflight",
            "ansible.builtin.stat",
            "ansible.builtin.setup",
            "ansible.builtin.command",
            "slipway.kit.release_source",
            "slipway.kit.postgresql_state",
        }
        assert allowed & task.keys(), task["name"]
        if "ansible.builtin.command" in task:
            assert task.get("changed_when") is False and task.get("check_mode") is False, task["name"]


@each_role
def test_specification_is_the_defaults(role: Path) -> None:
    """An option has its default in both places or in none: it is required, or its absence has a meaning."""
    options, defaults = options_of(role), defaults_of(role)
    assert {name: spec["default"] for name, spec in options.items() if "default" in spec} == defaults
    for name, spec in options.items():
        assert name.startswith(f"{role.name}_"), name
        assert spec.get("description"), f"{name} is not described"
        assert not (spec.get("required") and "default" in spec), f"{name} is required and has a default"
        assert spec.get("type") != "list" or "elements" in spec, f"{name} does not say what it is a list of"


# Without the wiring their absence would be dangerous: beat on every host, no TLS between hosts, a site behind a closed
# firewall, a release on a part of the hosts.
WIRED = {
    *("base_app_exists", "base_groups", "base_site", "celery_beat", "django_app_leader", "django_app_media_hosts"),
    *("django_app_static_only", "firewall_openings", "gunicorn_database_connections", "gunicorn_forwarded_allow_ips"),
    *("gunicorn_listen", "gunicorn_memory_mb", "nginx_upstream_servers", "patch_order", "patch_stops"),
    *("postgresql_tls", "processes_first", "redis_tls", "release_absent_hosts", "release_edge_paths"),
    *("release_edge_port", "release_edge_tls", "release_leader", "release_probe_host", "release_probe_proto"),
    *("release_runs_workers", "release_serves_edge", "release_serves_web", "tls_first_host", "tls_names"),
}


def test_what_only_the_wiring_gives_is_required() -> None:
    options = {name: spec for role in ROLES for name, spec in options_of(role).items()}
    assert not [name for name in WIRED if not options[name].get("required")]
    assert wiring().keys() >= WIRED


def test_defaults_that_the_wiring_restates_are_those_of_the_roles(templar_for: Callable[[Any], Templar]) -> None:
    """`nginx_tls_port | default(443)` in the wiring is the 443 of the role nginx."""
    known = {name: value for role in ROLES for name, value in defaults_of(role).items()}
    restated = re.compile(rf"\b({'|'.join(known)}) \| default\(([^()]*)\)")
    by_attribute = re.compile(rf"attribute='({'|'.join(known)})', default=([^()]*)\)")
    found = {
        (name, text)
        for path in WIRING
        for pattern in (restated, by_attribute)
        for name, text in pattern.findall(path.read_text(encoding="utf-8"))
    }
    assert len({name for name, _ in found}) > 12
    templar = templar_for({"django_app_name": "shop", "nginx_app_name": "shop"})
    for name, text in sorted(found):
        value = templar.template(trust_as_template("{{ " + text + " }}"))
        assert value == templar.template(known[name]), f"the wiring has {text} for {name}, the role {known[name]!r}"


def every_option(options: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield options and their sub-options."""
    for name, spec in options.items():
        yield name, spec
        yield from every_option(spec.get("options", {}))


@each_role
def test_secret_is_marked_and_has_no_default(role: Path) -> None:
    for name, spec in every_option(options_of(role)):
        if spec.get("no_log"):
            assert spec.get("default", "") in ("", {}, []), f"{name} is a secret with a default"
        looks_secret = re.search(r"(^|_)(password|secret|token|passphrase|private_key|secret_key)s?$", name)
        assert not looks_secret or spec.get("no_log"), f"{name} looks like a secret and is not marked no_log"


@each_role
def test_internal_variables_say_so(role: Path) -> None:
    path = role / "vars/main.yml"
    names = set(load_yaml(path) or {}) if path.exists() else set()
    registered = {task["register"] for where, task in TASKS if where.is_relative_to(role) and "register" in task}
    loops = {
        task["loop_control"]["loop_var"]
        for where, task in TASKS
        if where.is_relative_to(role) and "loop_var" in task.get("loop_control", {})
    }
    assert not [name for name in names | registered | loops if not name.startswith(f"__{role.name}_")]


@each_role
def test_role_sets_no_configuration(role: Path) -> None:
    found = [task["name"] for path, task in TASKS if path.is_relative_to(role) and "ansible.builtin.set_fact" in task]
    assert not found


def test_readme_tables_are_fresh() -> None:
    done = subprocess.run(
        [sys.executable, ROOT / "dev/role_tables.py", "--check"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert all((role / "README.md").exists() for role in ROLES)


# Topology


def test_topology_alone_reads_groups_and_other_hosts() -> None:
    reads = re.compile(r"\b(groups|hostvars)\s*[\[.]|'extract',\s*hostvars|\bgroup_names\b|\bhostvars\b")
    found = [
        f"{name_of(path)}:{number}: {line.strip()}"
        for path in tracked("playbooks/*", "roles/*", "inventories/*")
        if path.suffix in (".yml", ".j2") and path.name != "vault.yml" and path not in WIRING
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), start=1)
        if not line.lstrip().startswith("#") and reads.search(line)
    ]
    assert not found


def test_shipped_inventory_is_its_hosts_and_variables() -> None:
    shipped = [path.parent for path in tracked("inventories/*/hosts.yml")]
    assert shipped
    for inventory in shipped:
        files = [path.relative_to(inventory) for path in tracked(f"{inventory.relative_to(ROOT)}/*")]
        assert sorted(map(str, files)) == ["group_vars/all/variables.yml", "hosts.yml"]
        assert not [path for path in inventory.rglob("*") if path.is_symlink()]


def test_inventories_of_tests_have_no_wiring_of_their_own() -> None:
    for inventory in INVENTORIES:
        assert not list((ROOT / inventory).rglob("topology.yml"))


def test_no_variable_of_the_wiring_is_in_two_files() -> None:
    where: dict[str, str] = {}
    for path in WIRING:
        for name in load_yaml(path):
            assert name not in where, f"{name} is in {where.get(name)} and {path.name}"
            where[name] = path.name


# Files on hosts


TEMPLATES = tracked("roles/*/templates/*.j2")


# JSON has no comments.
COMMENTED = [path for path in TEMPLATES if not path.name.endswith(".json.j2")]


@pytest.mark.parametrize("path", COMMENTED, ids=name_of)
def test_template_opens_with_its_owner(path: Path) -> None:
    lines = path.read_text(encoding="utf-8").splitlines()
    first = lines[1] if lines[0].startswith("#!") else lines[0]
    assert re.fullmatch(r"\{\{ ansible_managed \| comment(\(.+\))? \}\}", first)
    assert not re.search(r"template_run_date|ansible_date_time|\['date_time'\]|\bnow\(", "\n".join(lines)), (
        "holds a date"
    )


def files_of(task: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the files that a task writes, those that it repeats too."""
    written = task.get("slipway.kit.config_files", {})
    return [*written.get("files", []), *written.get("repeat", {}).get("files", [])]


@pytest.mark.parametrize("path", TEMPLATES, ids=name_of)
def test_template_mirrors_its_target(path: Path) -> None:
    """A literal target is that of the template, where {{ }} or {name} stands for the name that differs.

    A template that several roles write has the path of the first part of a name (app-starter, slipway).
    """
    role = ROOT / "roles" / path.relative_to(ROOT / "roles").parts[0]
    source = str(path.relative_to(role / "templates"))
    assert source.split("/")[0] in ("etc", "usr", "srv", "var", "opt", "lib")
    target = f"/{source.removesuffix('.j2')}"
    wanted = [
        file["dest"]
        for where, task in TASKS
        if where.is_relative_to(ROOT / "roles")
        for file in files_of(task)
        if (where.parents[1] / "templates" / file["src"]).resolve() == path
    ]
    assert wanted, f"{source} is written nowhere"
    shared = {"app-starter": "[^/]+", "lib/slipway/": "lib/slipway(-[a-z]+)?/"}
    for dest in wanted:
        if common := next((name for name in shared if name in target and role.name == "base"), ""):
            pattern = re.escape(target).replace(re.escape(common), shared[common])
            literal = re.sub(r"\{\{.*?\}\}", "x", dest)
            assert re.fullmatch(pattern, literal), f"{source} is written to {dest}"
            continue
        pattern = "".join(
            ".*" if part.startswith("{") else re.escape(part) for part in re.split(r"(\{\{.*?\}\}|\{name\})", dest)
        )
        assert re.fullmatch(pattern, target), f"{source} is written to {dest}"


# What a service would not start with, or somebody be locked out by, and the units that read it.
VALIDATED = {
    r"/etc/nginx/(nginx\.conf|conf\.d/slipway(-hosts|-http|-extra)?\.conf|snippets/.*)": "nginx.service",
    r".*/(pg_hba|pg_ident|conf\.d/slipway(-restart)?)\.conf": "{{ __postgresql_unit }}",
    r"/etc/redis/redis-.*\.(conf|acl)": "",
    r"/etc/pgbouncer/(pgbouncer\.ini|userlist\.txt|pg_hba\.conf)": "pgbouncer.service",
    r"/etc/ssh/sshd_config\.d/.*": "ssh.service",
    r"/etc/sudoers\.d/.*": "",
    r"/etc/nftables-slipway/.*": "",
}


@pytest.mark.parametrize("pattern", VALIDATED)
def test_configuration_is_validated_where_it_is_written_and_before_it_is_loaded(pattern: str) -> None:
    writing = [
        (path, task)
        for path, task in TASKS
        if "slipway.kit.config_files" in task and any(re.fullmatch(pattern, file["dest"]) for file in files_of(task))
    ]
    assert writing
    for path, task in writing:
        assert task["slipway.kit.config_files"].get("validate"), f"{name_of(path)}: {task['name']}"
    if unit := VALIDATED[pattern]:
        loading = [
            (path, task)
            for path, task in TASKS
            if task.get("slipway.kit.managed_unit", {}).get("name") == unit
            and task["slipway.kit.managed_unit"].get("state") != "stopped"
        ]
        assert loading
        for path, task in loading:
            assert task["slipway.kit.managed_unit"].get("validate"), f"{name_of(path)}: {task['name']}"


def test_templates_are_written_in_one_way() -> None:
    """By config_files: a task for each file is most of what a run that changes nothing costs."""
    assert not [f"{name_of(path)}: {task['name']}" for path, task in TASKS if "ansible.builtin.template" in task]


def test_no_file_is_edited_by_line() -> None:
    by_line = {f"ansible.builtin.{name}" for name in ("lineinfile", "blockinfile", "replace")}
    assert not [f"{name_of(path)}: {task['name']}" for path, task in TASKS if by_line & task.keys()]


def test_nothing_is_ignored_and_nothing_moves() -> None:
    for path, task in TASKS:
        assert not {"ignore_errors", "ignore_unreachable"} & task.keys(), f"{name_of(path)}: {task['name']}"
        for arguments in task.values():
            assert not (isinstance(arguments, dict) and arguments.get("state") == "latest"), (
                f"{name_of(path)}: {task['name']}"
            )


# Secrets


def secret_names() -> set[str]:
    """Return the variables that are secrets or are made of them."""
    names = {
        name
        for role in ROLES
        for name, spec in options_of(role).items()
        if any(s.get("no_log") for _, s in every_option({name: spec}))
    }
    made: dict[str, str] = {}
    files = [
        path
        for path in tracked(
            "playbooks/group_vars/*", "inventories/*/group_vars/*", "roles/*/vars/*", "roles/*/defaults/*"
        )
        if path.name != "vault.yml"
    ]
    for path in files:
        if path.suffix == ".yml":
            made |= {name: texts(value) for name, value in (load_yaml(path) or {}).items()}
    while True:
        # Of the identifier of a vault the digest is shown, on purpose.
        pattern = re.compile(rf"\b(vault_(?!site_id\b)\w+|{'|'.join(sorted(names))})\b")
        more = {name for name, text in made.items() if pattern.search(text)} - names
        if not more:
            return names
        names |= more


def test_task_with_a_secret_does_not_show_it() -> None:
    """Its arguments, environment, loop and rendered templates: all that Ansible would print."""
    names = secret_names()
    assert {"postgresql_password", "topology_database_url", "django_app_environment"} <= names
    pattern = re.compile(rf"\b(vault_\w+|{'|'.join(sorted(names))})\b")
    silent = {
        "slipway.kit.preflight",
        "slipway.kit.preflight_report",
        "ansible.builtin.import_role",
        "ansible.builtin.include_role",
    }
    found, seen = [], False
    for path, task in TASKS:
        if silent & task.keys() or path.name == "secrets.yml":
            continue
        shown = texts({key: value for key, value in task.items() if key not in ("name", "when", "no_log", "notify")})
        for file in files_of(task):
            if file.get("secret"):  # an option of config_files, which then never shows the content
                seen = True
                continue
            role = ROOT / "roles" / path.relative_to(ROOT / "roles").parts[0]
            shown += (role / "templates" / file["src"]).read_text(encoding="utf-8")
        if secret := pattern.search(shown):
            seen = True
            if not task.get("no_log"):
                found.append(f"{name_of(path)}: {task['name']} ({secret[0]})")
    assert seen, "no task has a secret, so nothing was tested"
    assert not found


def test_secret_lies_nowhere_in_plain_text() -> None:
    for path in tracked("inventories/*"):
        text = path.read_text(encoding="utf-8")
        assert path.name != "vault.yml" or text.startswith("$ANSIBLE_VAULT;"), f"{name_of(path)} is not encrypted"
        for line in text.splitlines():
            value = re.search(r"^\s*\w*(password|secret_key|token)\w*:\s*(\S.*)$", line, re.IGNORECASE)
            assert not value or "{{" in value[2] or "vault" in value[2], f"{name_of(path)}: {line.strip()}"


# The tree


def test_no_file_names_a_registry() -> None:
    """Where packages come from is the machine's own setting."""
    hosts = [
        ".".join(reversed(labels)).encode()
        for labels in (
            *(("org", "debian", name) for name in ("deb", "security", "ftp", "httpredir", "snapshot")),
            *(("org", "pypi"), ("org", "pythonhosted", "files"), ("org", "npmjs", "registry")),
        )
    ]
    for path in tracked():
        if path.is_file() and not path.is_symlink():
            content = path.read_bytes()
            assert not [host for host in hosts if host in content], name_of(path)


def test_links_lead_somewhere_in_the_tree() -> None:
    links = [path for path in tracked() if path.is_symlink()]
    assert links
    for path in links:
        assert not os.path.isabs(os.readlink(path)), name_of(path)
        assert path.exists() and path.resolve().is_relative_to(ROOT), name_of(path)


def test_scripts_can_be_run() -> None:
    for path in tracked():
        if path.is_file() and not path.is_symlink():
            script = path.read_bytes()[:2] == b"#!" and path.suffix != ".j2"
            executable = bool(path.stat().st_mode & stat.S_IXUSR)
            in_python = path.suffix == ".py" and path.is_relative_to(ROOT / "plugins/modules")
            assert script == executable or in_python, name_of(path)


def test_a_unit_is_run_by_the_same_files_everywhere() -> None:
    """What is remembered of a unit is remembered once: another list of files elsewhere would restart it, each time."""
    lists: dict[str, dict[str, set[str]]] = {}
    for path, task in TASKS:
        unit = task.get("slipway.kit.managed_unit", {})
        if unit and unit.get("state", "running") == "running":
            files = repr((unit.get("restart_on", []), unit.get("reload_on", [])))
            lists.setdefault(unit["name"], {}).setdefault(files, set()).add(name_of(path))
    assert len(lists) > 5
    assert {unit: found for unit, found in lists.items() if len(found) > 1} == {}
