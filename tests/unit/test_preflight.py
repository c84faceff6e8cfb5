"""Preflight: each kind of fault is found, told in words, and told together with all others."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleActionFail
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar, trust_as_template
from conftest import RELEASES, ROLES, ROOT, facts, load_yaml, options_of

from ansible_collections.slipway.kit.plugins.action import preflight_report as report
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.outcomes import Outcomes
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.suggestions import show

OPTIONS = yaml.safe_load("""
web_name: {type: str, required: true}
web_port: {type: int, default: 80}
web_ratio: {type: float, default: 0.5}
web_tls: {type: bool, default: false}
web_mode: {type: str, choices: [fast, safe], default: fast}
web_modes: {type: list, elements: str, choices: [fast, safe], default: []}
web_path: {type: path, default: /srv}
web_banner: {type: str, default: ""}
web_extra: {type: raw}
web_hosts: {type: list, elements: str, required: true}
web_settings: {type: dict, default: {}}
web_password: {type: str, required: true, no_log: true}
web_token: {type: str, default: "", no_log: true}
web_environment: {type: dict, default: {}, no_log: true}
web_workers:
  type: list
  elements: dict
  default: []
  options:
    name: {type: str, required: true}
    size: {type: int}
    key: {type: str, no_log: true}
    limits: {type: dict, options: {soft: {type: int, required: true}}}
""")
GOOD = {"web_name": "www", "web_hosts": ["a"], "web_password": "kTz81LmQw0Xy72Rb", "web_port": 8080}


def trusted(value: Any) -> Any:
    """Return a value as it would come from an inventory: its templates may be resolved."""
    if isinstance(value, dict):
        return {key: trusted(item) for key, item in value.items()}
    if isinstance(value, list):
        return [trusted(item) for item in value]
    return trust_as_template(value) if isinstance(value, str) else value


def inspect(
    variables: Mapping[str, Any],
    checks: list[Any] | None = None,
    roles: tuple[str, ...] = ("web", "web_proxy"),
) -> list[Any]:
    """Return the faults of variables of the role web."""
    every = trusted({name: value for name, value in {**GOOD, **variables}.items() if value is not ...})
    inspector = Inspector("web", roles, OPTIONS, every, Templar(DataLoader(), every))
    inspector.inspect_options()
    inspector.inspect_names()
    inspector.inspect_checks(trusted(checks or []))
    return inspector.faults


def test_good_values_have_no_fault() -> None:
    assert not inspect(
        {
            "web_ratio": 1,
            "web_tls": True,
            "web_mode": "safe",
            "web_modes": ["fast", "safe"],
            "web_banner": "",
            "web_token": "",
            "web_extra": None,
            "web_settings": {"free": [None, "", 1]},
            "web_environment": {"SHORT": "x", "EMPTY": ""},
            "web_hosts": "{{ ['a', web_name] }}",
            "web_workers": [
                {
                    "name": "{{ web_name }}",
                    "size": "{{ 1 + 1 }}",
                    "key": "Zt63nQp0Lk47Vs8f",
                    "limits": {"soft": 1},
                }
            ],
        }
    )


@pytest.mark.parametrize(
    ("variable", "value", "why", "fix"),
    [
        ("web_name", ..., "is required and not set", ""),
        ("web_name", None, "is null, must be text", ""),
        ("web_name", "", "is empty, must be text", ""),
        ("web_name", " \t", "is blank, must be text", ""),
        ("web_name", 12, "must be text, is a whole number", 'write it in quotes: "12"'),
        ("web_name", True, "must be text, is true or false", "write it in quotes: without them YAML takes"),
        ("web_name", ["a"], "must be text, is a list", ""),
        ("web_name", "{{ omit }}", "is required and omitted", ""),
        ("web_name", "{{ other }}", "refers to other, which is not defined", ""),
        ("web_name", "{{ other.a.b }}", "refers to other, which is not defined", ""),
        (
            "web_name",
            "{{ vault_name }}",
            "refers to vault_name, which is not defined",
            "run playbooks/secrets.yml",
        ),
        (
            "web_name",
            "{{ web_hosts.nope }}",
            "cannot be resolved: object of type 'list' has no attribute",
            "",
        ),
        ("web_name", "{{ 1 + }}", "cannot be resolved: Syntax error", ""),
        ("web_name", "{{ [] | first | mandatory('no host') }}", "cannot be resolved: no host", ""),
        ("web_port", "80", "must be a whole number, is text", "write it without quotes: 80"),
        ("web_port", "080", "must be a whole number, is text", "write it without quotes: 80"),
        ("web_port", "80a", "must be a whole number, is text", ""),
        ("web_port", 80.5, "must be a whole number, is a number", ""),
        ("web_port", True, "must be a whole number, is true or false", ""),
        ("web_port", None, "is null, must be a whole number", "leave it out to have the default"),
        ("web_port", "", "is empty, must be a whole number", "leave it out to have the default"),
        ("web_port", "{{ '8' ~ '0' }}", "must be a whole number, is text", "write it without quotes: 80"),
        ("web_ratio", "0.5", "must be a number, is text", "write it without quotes: 0.5"),
        ("web_tls", "yes", "must be true or false, is text", "write true without quotes"),
        ("web_tls", "Off", "must be true or false, is text", "write false without quotes"),
        ("web_tls", 1, "must be true or false, is a whole number", ""),
        ("web_mode", "saef", "must be one of fast, safe", "did you mean safe?"),
        ("web_mode", "", "is empty, must be text", "leave it out to have the default"),
        ("web_modes", ["fast", "slow"], "must be one of fast, safe", ""),
        ("web_banner", None, "is null, must be text", "leave it out to have the default"),
        ("web_hosts", "a, b", "must be a list, is text", "write a list: [a, b]"),
        ("web_hosts", [], "is empty and required", ""),
        ("web_hosts", ["a", ""], "is empty, must be text", ""),
        ("web_hosts", ["a", 1], "must be text, is a whole number", 'write it in quotes: "1"'),
        ("web_settings", ["a"], "must be a dictionary, is a list", ""),
        ("web_settings", {"a": "{{ other }}"}, "refers to other, which is not defined", ""),
        ("web_password", ..., "is required and not set", ""),
        ("web_password", "", "is empty, must be text", ""),
        (
            "web_password",
            "{{ vault_x }}",
            "refers to vault_x, which is not defined",
            "run playbooks/secrets.yml",
        ),
        ("web_password", "k9!", "is a secret of 3 characters, needs 16", "write one of your own"),
        (
            "web_password",
            "kTz81LmQw0Xy72R",
            "is a secret of 15 characters, needs 16",
            "write one of your own",
        ),
        ("web_password", "kTz81LmQw0X\n72Rb", "is a secret and holds a newline", "write it on one line"),
        ("web_password", "changeme-changeme", "is a secret that everybody knows", "write one of your own"),
        (
            "web_password",
            "My_Secret_Password_1234",
            "is a secret that everybody knows",
            "write one of your own",
        ),
        (
            "web_password",
            "django-insecure-q3z8w7k2v5",
            "is a secret that everybody knows",
            "write one of your own",
        ),
        ("web_password", "aaaaaaaaaaaaaaaaaaaa", "is a secret that everybody knows", "write one of your own"),
        ("web_password", "12345678901234567890", "is a secret that everybody knows", "write one of your own"),
        ("web_password", 1234567890123456789, "must be text, is a whole number", ""),
        ("web_workers", [{}], "is required and not set", ""),
        ("web_workers", [{"nam": "a", "name": "a"}], "is not an option here", "did you mean name?"),
        (
            "web_workers",
            [{"colour": 1, "name": "a"}],
            "is not an option here",
            "known are: name, size, key, limits",
        ),
        (
            "web_workers",
            [{"name": "a", "size": "2"}],
            "must be a whole number, is text",
            "write it without quotes",
        ),
        ("web_workers", [{"name": "a", "limits": {}}], "is required and not set", ""),
        ("web_workers", ["a"], "must be a dictionary, is text", ""),
        ("web_workers", {"name": "a"}, "must be a list, is a dictionary", ""),
    ],
)
def test_fault_of_a_value(variable: str, value: Any, why: str, fix: str) -> None:
    (fault,) = inspect({variable: value})
    assert re.split(r"[.\[]", fault.variable)[0] == variable
    assert why in fault.why
    assert fault.fix.startswith(fix) and bool(fault.fix) == bool(fix)


def test_each_part_has_its_own_fault_and_path() -> None:
    faults = inspect(
        {
            "web_settings": {"a": "{{ one }}", "b": ["{{ two }}"]},
            "web_workers": [{"name": "a", "size": "x"}, {"limits": {"soft": "y"}}],
        }
    )
    assert [fault.variable for fault in faults] == [
        *("web_settings.a", "web_settings.b[0]"),
        *("web_workers[0].size", "web_workers[1].limits.soft", "web_workers[1].name"),
    ]


@pytest.mark.parametrize(
    ("name", "near"),
    [
        ("web_prot", "web_port"),
        ("web_hostz", "web_hosts"),
        ("web_zzzzzzzz", None),
        ("wweb_port", "web_port"),  # in the prefix
        ("weeb_password", "web_password"),
    ],
)
def test_unknown_name(name: str, near: str | None) -> None:
    (fault,) = inspect({name: "Zt63nQp0Lk47Vs8f"})
    assert fault.variable == name
    assert "is not a variable of" in fault.why
    assert fault.fix == (f"did you mean {near}?" if near else "")
    assert "Zt63" not in str(fault), "the value may be a secret with its name misspelt"


@pytest.mark.parametrize(
    "name",
    [
        "web_proxy_port",
        "__web_slots",
        "website",
        "ansible_web_port",
        "other",
        "vault_web_password",
        "my_web_port",
    ],
)
def test_name_that_is_not_the_roles(name: str) -> None:
    assert not inspect({name: 1})


def test_registered_result_is_no_configuration() -> None:
    assert not inspect({"web_result": {"changed": False, "failed": False, "rc": 0}})


def test_secret_is_never_shown() -> None:
    secret = "hidden5"
    faults = inspect(
        {
            "web_password": secret,
            "web_token": [secret],
            "web_environment": {"A": f"{{{{ undef('{secret}') }}}}", "B": "{{ vault_b }}"},
            "web_workers": [{"name": "a", "key": secret}, secret],
        },
        [
            {"that": "false", "variable": "web_environment"},
            {"that": f"'{secret}' + 1", "variable": "web_banner"},
        ],
    )
    shown = [fault for fault in faults if fault.variable != "web_banner"]
    assert len(shown) == 6
    assert secret not in str(shown)
    assert [fault.value for fault in shown if fault.variable == "web_password"] == ["7 characters, not shown"]


def test_check_on_a_secret_does_not_show_it() -> None:
    check = {
        "that": "web_password is match('x')",
        "variable": "web_password",
        "fail_msg": "must begin with x",
    }
    (fault,) = inspect({}, [check])
    assert (fault.why, fault.value) == ("must begin with x", "16 characters, not shown")
    (fault,) = inspect({}, [{"that": "web_password + 1", "variable": "web_password"}])
    assert str(GOOD["web_password"]) not in str(fault)


def test_all_checks_are_evaluated() -> None:
    checks = [
        {
            "that": "web_port < 1000",
            "variable": "web_port",
            "fail_msg": "is {{ web_port }}, not below 1000",
            "fix": "take {{ 10 * 8 }}",
        },
        {"that": ["web_tls", "web_mode == 'safe'"], "variable": "web_mode"},
        {"that": "web_port == 8080", "variable": "web_port"},
        {"that": "ansible_facts['x'] == 1"},
        {"that": "web_name + 1", "variable": "web_name"},
        {"that": "web_hosts", "variable": "web_hosts"},
        {"that": "false", "fail_msg": "{{ nowhere }}"},
    ]
    faults = inspect({"ansible_facts": {"y": 1}, "web_tls": False, "web_mode": "fast"}, checks)
    assert [(fault.variable, fault.value, fault.why.split("\n")[0], fault.fix) for fault in faults[:2]] == [
        ("web_port", "8080", "is 8080, not below 1000", "take 80"),
        ("web_mode", '"fast"', "does not hold: web_tls", ""),
    ]
    assert "cannot be checked by 'ansible_facts['x'] == 1': object of type 'dict'" in faults[2].why
    assert "cannot be checked by 'web_name + 1'" in faults[3].why
    assert "Conditionals must have a boolean result" in faults[4].why
    assert faults[5].why == "refers to nowhere, which is not defined"
    assert len(faults) == 6


def test_check_of_a_variable_with_a_fault_is_not_evaluated() -> None:
    checks = [
        {"that": "web_port > 1", "variable": "web_port"},
        {"that": "web_name != web_port | string", "variable": "web_name"},
        {"that": "web_workers | map(attribute='size') | sum > 1", "variable": "web_workers"},
    ]
    faults = inspect({"web_port": "x", "web_workers": [{"name": "a", "size": "y"}]}, checks)
    assert [fault.variable for fault in faults] == ["web_port", "web_workers[0].size"]


@pytest.mark.parametrize("check", ["web_port > 1", {"variable": "web_port"}, {"that": "true", "fail_message": "x"}])
def test_check_that_is_written_wrong(check: Any) -> None:
    with pytest.raises(AnsibleActionFail, match="a check of web has that"):
        inspect({}, [check])


def test_long_secret_is_judged_at_once() -> None:
    """A search that tries all ways to read a text as words would take for ever on this one."""
    assert not inspect({"web_password": "x" * 500 + "changeme" * 50 + "q9Zk"})


def test_long_value_is_cut() -> None:
    (fault,) = inspect({"web_port": "x" * 500})
    assert len(fault.value) == 80 and fault.value.endswith("…")


def test_same_fault_of_several_hosts_is_told_once() -> None:
    one = {
        "role": "web",
        "variable": "web_port",
        "value": '"x"',
        "why": "must be a number",
        "fix": "",
        "where": "a.yml:1",
    }
    other = one | {"variable": "", "value": "", "why": "is old", "fix": "upgrade it", "where": ""}
    paragraphs = report.write_report(
        [one | {"host": "a"}, other | {"host": "a"}, one | {"host": "b"}, one | {"host": "b"}], 3
    )
    assert paragraphs == [
        dedent("""\
            1. web_port  (role web, on a, b)
               value:      "x"
               why:        must be a number
               written in: a.yml:1
               read:       docs/preflight.md"""),
        dedent("""\
            2. the host  (role web, on a)
               why:        is old
               what to do: upgrade it
               read:       docs/preflight.md"""),
    ]
    assert "on all hosts" in report.write_report([one | {"host": "a"}, one | {"host": "b"}], 2)[0]


def test_every_fault_names_a_page_that_is_there() -> None:
    assert {page for page in report.PAGES.values() if not (ROOT / page).is_file()} == set()
    for role in ROLES:
        for name in options_of(role):
            page = report.page_of(name, role.name)
            assert page != "docs/preflight.md", f"PAGES of preflight_report.py has no page for {name}"
    assert report.page_of("topology_memory_mb", "topology") == "docs/capacity.md"
    assert report.page_of("", "firewall") == "docs/network.md"
    assert report.page_of("", "inventory") == "docs/preflight.md"
    text = {
        "role": "x",
        "variable": "x",
        "value": "",
        "why": "docs/tls.md says why",
        "fix": "",
        "where": "",
        "host": "a",
    }
    assert "read:" not in report.write_report([text], 1)[0]


PLAYBOOK = """
- hosts: all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - ansible.builtin.import_role: {name: web, tasks_from: preflight}
- hosts: all
  gather_facts: false
  any_errors_fatal: true
  tasks:
    - name: Refuse
      slipway.kit.preflight_report:
- hosts: all
  gather_facts: false
  connection: local
  tasks:
    - name: Change
      ansible.builtin.copy: {content: x, dest: "{{ playbook_dir }}/changed"}
      vars: {ansible_python_interpreter: "{{ ansible_playbook_python }}"}
"""
TASKS = """
- name: Preflight
  slipway.kit.preflight:
    role: web
    checks:
      - that: web_port < 65536
        variable: web_port
        fail_msg: must be a port, not {{ web_port }}
"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    """Return a folder with a playbook, one role and an inventory of three hosts that nobody could reach."""
    for name, text in {
        "site.yml": PLAYBOOK,
        "roles/web/tasks/preflight.yml": TASKS,
        "roles/web/tasks/main.yml": "---\n[]\n",
        "roles/web/meta/argument_specs.yml": yaml.safe_dump({"argument_specs": {"main": {"options": OPTIONS}}}),
        "roles/web/defaults/main.yml": "web_port: 80\nweb_tls: false\n",
        "inventory/hosts.yml": "all:\n  hosts:\n    one:\n    two:\n    three:\n",
        "inventory/group_vars/all.yml": yaml.safe_dump(GOOD | {"web_port": 80, "web_password": "{{ vault_web }}"}),
        "inventory/group_vars/all_vault.yml": "",
    }.items():
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(text, encoding="utf-8")
    return tmp_path


def test_run_refuses_all_faults_at_once_before_any_change(site: Path, run_playbook: Callable[..., Any]) -> None:
    (site / "inventory/host_vars").mkdir()
    (site / "inventory/host_vars/one.yml").write_text("web_port: 99999\nweb_password: hidden-one\n", encoding="utf-8")
    (site / "inventory/host_vars/two.yml").write_text('web_tls: "yes"\nweb_prot: 1\n', encoding="utf-8")
    for arguments in ([], ["--check"]):
        done = run_playbook("-i", "inventory", "site.yml", "-v", *arguments)
        assert done.returncode != 0
        output = done.stdout
        assert len(re.findall("^fatal:", output, re.MULTILINE)) == 1
        text = dedent(re.split(r"    faults: \|-\n", output)[1].partition("    msg:")[0])
        assert [line for line in text.splitlines() if re.match(r"\d", line)] == [
            "1. web_password  (role web, on one)",
            "2. web_port  (role web, on one)",
            "3. web_password  (role web, on two, three)",
            "4. web_tls  (role web, on two)",
            "5. web_prot  (role web, on two)",
        ]
        assert "why:        must be a port, not 99999" in text
        assert "written in: inventory/host_vars/one.yml:1" in text
        assert "written in: inventory/host_vars/two.yml:2" in text, "a misspelt name is told with its place too"
        assert "what to do: run playbooks/secrets.yml for this inventory" in text
        assert "refused for 5 faults" in output
        assert "hidden-one" not in done.stdout + done.stderr
        assert "changed=1" not in output and not (site / "changed").exists()


def test_run_goes_on_without_faults(site: Path, run_playbook: Callable[..., Any]) -> None:
    done = run_playbook("-i", "inventory", "site.yml", "-e", "vault_web=Zt63nQp0Lk47Vs8f", "--limit", "one")
    assert done.returncode == 0, done.stdout + done.stderr
    assert (site / "changed").exists()
    assert "WARNING" not in done.stdout + done.stderr


def test_faults_of_an_earlier_run_are_forgotten(site: Path, run_playbook: Callable[..., Any]) -> None:
    """A persistent cache of facts brings the last run's faults back, those of roles that went too."""
    cache = {"ANSIBLE_CACHE_PLUGIN": "ansible.builtin.jsonfile", "ANSIBLE_CACHE_PLUGIN_CONNECTION": "cache"}
    assert run_playbook("-i", "inventory", "site.yml", "--limit", "one", **cache).returncode != 0
    assert "__preflight_faults" in next((site / "cache").glob("*one*")).read_text(encoding="utf-8")
    (site / "report.yml").write_text(
        "- hosts: one\n  gather_facts: false\n  tasks: [slipway.kit.preflight_report: ]\n", encoding="utf-8"
    )
    done = run_playbook("-i", "inventory", "report.yml", **cache)
    assert done.returncode == 0, done.stdout + done.stderr


# What is found on one host holds for others where nothing that it depends on differs.


def found_on(one: dict[str, Any], two: dict[str, Any], value: str) -> int:
    """Return on how many of two hosts a value is looked at."""
    outcomes, asked = Outcomes(), []
    for variables in (one, two):
        outcomes.of("what", value, variables, lambda: asked.append(1))
    return len(asked)


@pytest.mark.parametrize(
    ("value", "two", "times"),
    [
        ("{{ a }}", {"a": "{{ b }}", "b": 1, "c": 2}, 1),
        ("{{ a }}", {"a": "{{ b }}", "b": 1, "c": 3}, 1),  # names no c
        ("{{ a }}", {"a": "{{ b }}", "b": 2, "c": 2}, 2),
        ("{{ a }}", {"a": "{{ b }}", "c": 2}, 2),
        ("{{ c | map(a) }}", {"a": "{{ b }}", "b": True, "c": 2}, 2),  # true is not 1
        ("{{ lookup('vars', 'x') }}", {"a": "{{ b }}", "b": 1, "c": 2}, 2),
        ("{{ broken", {"a": "{{ b }}", "b": 1, "c": 2}, 2),
        ("text", {"a": "{{ b }}", "b": 3, "c": 4}, 1),
    ],
)
def test_what_was_found_is_remembered(value: str, two: dict[str, Any], times: int) -> None:
    assert found_on({"a": "{{ b }}", "b": 1, "c": 2}, two, value) == times


def test_what_names_the_host_is_the_same_where_it_comes_to_the_same() -> None:
    outcomes, asked = Outcomes(), []
    for host in ("one", "two", "three"):
        variables = trusted({"inventory_hostname": host, "here": "{{ inventory_hostname == 'one' }}"})
        templar = Templar(DataLoader(), variables)
        found = outcomes.of(
            "what", trusted("{{ here }}"), variables, lambda host=host: asked.append(host) or host, templar
        )
        assert found == {"one": "one", "two": "two", "three": "two"}[host]
    assert asked == ["one", "two"]


def test_same_text_from_another_file_is_looked_at(tmp_path: Path) -> None:
    """Where it stands is told with the fault."""
    values = []
    for name in ("one.yml", "two.yml"):
        (tmp_path / name).write_text("a: [x]\n", encoding="utf-8")
        values.append(DataLoader().load_from_file(str(tmp_path / name)))
    assert found_on(values[0], values[0], "{{ a }}") == 1
    assert found_on(values[0], values[1], "{{ a }}") == 2


# The shipped roles and inventory.


def inspect_role(role: Path, variables: dict[str, Any]) -> list[Any]:
    """Return the faults of a shipped role, with the checks in its tasks/preflight.yml."""
    tasks = [task for task in load_yaml(role / "tasks/preflight.yml") if "slipway.kit.preflight" in task]
    assert [task["slipway.kit.preflight"]["role"] for task in tasks] == [role.name]
    names = [path.name for path in ROLES]
    templar = Templar(DataLoader(), variables)
    inspector = Inspector(role.name, names, options_of(role), variables, templar)
    inspector.inspect_options()
    inspector.inspect_names()
    inspector.inspect_checks(tasks[0]["slipway.kit.preflight"].get("checks", []))
    return inspector.faults


@pytest.mark.parametrize("release", RELEASES)
@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_shipped_example_has_no_fault(role: Path, release: str, variables_for: Callable[..., dict[str, Any]]) -> None:
    assert not inspect_role(role, variables_for(role, release))


def root_of(fault: Any) -> str:
    """Return the name of the variable that has a fault, without the place in it."""
    return re.split(r"[.\[]", fault.variable)[0]


def roots(faults: list[Any]) -> set[str]:
    """Return the names of the variables that have a fault."""
    return {root_of(fault) for fault in faults}


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_every_option_of_a_shipped_role_is_held_to_its_type(
    role: Path, variables_for: Callable[..., dict[str, Any]]
) -> None:
    """Null, a wrong type and a misspelt name are refused for each option there is."""
    options = {name: spec for name, spec in options_of(role).items() if spec.get("type") != "raw"}
    nulls = {name: None for name, spec in options.items() if spec.get("default", ...) is not None}
    assert roots(inspect_role(role, variables_for(role, "12", **nulls))) >= nulls.keys()
    wrong = {name: "text" if spec.get("type") == "dict" else {"a": "dictionary"} for name, spec in options.items()}
    assert roots(inspect_role(role, variables_for(role, "12", **wrong))) >= wrong.keys()
    misspelt = {f"{name}z": 1 for name in options}
    faults = inspect_role(role, variables_for(role, "12", **misspelt))
    assert {(fault.variable, fault.fix) for fault in faults} == {
        (f"{name}z", f"did you mean {name}?") for name in options
    }


@pytest.mark.parametrize("role", ROLES, ids=lambda role: role.name)
def test_missing_secret_names_the_way_out(role: Path, variables_for: Callable[..., dict[str, Any]]) -> None:
    variables = variables_for(role, "12")
    secrets = [
        name
        for name, spec in options_of(role).items()
        if spec.get("no_log") and spec.get("type", "str") == "str" and "default" not in spec
    ]
    for name in secrets:
        without = {key: value for key, value in variables.items() if not key.startswith("vault_")}
        faults = [fault for fault in inspect_role(role, without) if fault.variable == name]
        assert [fault.fix for fault in faults] == ["run playbooks/secrets.yml for this inventory"]


def test_shipped_playbook_lists_the_faults_of_all_roles_together(
    tmp_path: Path, inventories: Path, run_playbook: Callable[..., Any]
) -> None:
    """The hosts' facts are set beforehand, so that playbooks/preflight.yml itself runs and needs no host."""
    found = {f"ansible_{name}": value for name, value in facts("12").items()} | {"ansible_distribution": "Ubuntu"}
    task = {"ansible.builtin.set_fact": found | {"cacheable": True}}
    plays = [
        {"hosts": "all", "gather_facts": False, "tasks": [task]},
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks/preflight.yml")},
    ]
    (tmp_path / "site.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    wrong = {
        "postgresql_port": 99999,
        "redis_broker_port": "6379a",
        "redis_cache_pasword": "a secret with its name misspelt",
        "django_app_name": "",
        "gunicorn_workers": -1,
        "celery_workers": [{"nam": "default"}],
        "nginx_server_names": ["https://www.example.com"],
    }
    # Whether a login by password would be shut out is asked of the host.
    no_host = {"hardening_ssh": False, "vault_django_secret_key": "short"}
    (tmp_path / "wrong.yml").write_text(yaml.safe_dump(wrong | no_host), encoding="utf-8")
    done = run_playbook(
        "-i",
        inventories / "inventories/single",
        "site.yml",
        "-e",
        "@wrong.yml",
        ANSIBLE_ROLES_PATH=str(ROOT / "roles"),
        ANSIBLE_GATHERING="explicit",
    )
    output = done.stdout + done.stderr
    assert done.returncode != 0
    for name in (*wrong, "postgresql_password", "the host"):
        assert re.search(rf"^ +\d+\. {name}[^\n]*  \(role ", done.stdout, re.MULTILINE), f"{name} in {output}"
    assert "misspelt" not in output


def test_host_that_is_no_debian_is_refused(variables_for: Callable[..., dict[str, Any]]) -> None:
    ubuntu = {"distribution": "Ubuntu", "distribution_version": "24.04", "distribution_major_version": "24"}
    role = ROOT / "roles/base"
    assert "Ubuntu 24.04" in str(inspect_role(role, variables_for(role, "12", ansible_facts=facts("12") | ubuntu)))


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (["x @ git+https://u:s3cret@h/x.git"], '["x @ git+https://***@h/x.git"]'),
        ("https://s3cret@h/x", '"https://***@h/x"'),
        ("git+ssh://git:s3cret@h/x", '"git+ssh://***@h/x"'),
        ("git+ssh://git@h/x", '"git+ssh://git@h/x"'),
        ("https://h/x@v1", '"https://h/x@v1"'),
    ],
)
def test_credentials_in_the_url_of_a_value_are_not_shown(value: Any, shown: str) -> None:
    assert show(value, secret=False) == shown
