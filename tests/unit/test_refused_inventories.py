"""Wrong inventories, through the shipped playbook: each fault is told, on its host and no other, and all at once.

One inventory can hold many sites that know nothing of each other. Here each is one host with one fault, so that one run
of preflight shows for all of them that they are told, that they are told together, and that nothing else is. What only
a host could say of itself is said by facts that a play sets beforehand; two of the hosts are really asked, at a port
where nobody listens.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest
import yaml
from ansible.errors import AnsibleConnectionFailure, AnsibleError
from certificates import OperatorFiles
from conftest import ROOT, run_action
from wrong_inventories import ROWS, SECRET, TLS, write_source

from ansible_collections.slipway.kit.plugins.action import preflight_host as host_plugin
from ansible_collections.slipway.kit.plugins.action import preflight_inventory as inventory_plugin

Run = Callable[..., CompletedProcess[str]]
KINDS = ("database", "redis", "app", "worker", "edge")
# What hosts say of themselves.
FACTS: dict[str, tuple[dict[str, Any], str]] = {
    "r05-port": ({"preflight_ports": {"80": ["apache2 (pid 99)"]}}, "is held by apache2 (pid 99)"),
    "r22-release": (
        {
            "ansible_distribution": "Debian",
            "ansible_distribution_version": "11.9",
            "ansible_distribution_major_version": "11",
        },
        "the host runs Debian 11.9; Slipway needs Debian 12 or 13",
    ),
    "taken-name": (
        {"preflight_taken": ["the account shop (user id 1000, home /home/shop)"]},
        "and not by Slipway: the account",
    ),
    "site-renamed": ({"preflight_site": {"application": "blog"}}, "belongs to the site of the application blog"),
    "site-vault": ({"preflight_site": {"vault": "1"}}, "the vault is not the one that this host was set up with"),
    "site-database": ({"preflight_site": {"database": "blog"}}, "the data of this site is in the database blog"),
    "site-group": ({"preflight_site": {"groups": ["database", "mail"]}}, "the group mail has no host any more"),
    "newer-kit": (
        {"preflight_site": {"version": "99.1.0"}},
        "Slipway 99.1.0 has set up this host",
    ),
    "sound-older-kit": ({"preflight_site": {"version": "0.9.9"}}, ""),
    "r37-clock": ({"preflight_clock_offset": 95.0, "preflight_clock_error": 0.5}, "more than 30 s apart"),
    "name-reserved": ({"preflight_account": ""}, "is a name that Debian, systemd or PostgreSQL uses itself"),
    "sound-reserved": ({"preflight_account": "network"}, ""),
    "sound-port": ({"preflight_ports": {"80": ["nginx (pid 9)"], "5432": ["postgres (pid 8)"]}}, ""),
    "sound-clock": ({"preflight_clock_offset": 0.5, "preflight_clock_error": 0.5}, ""),
    "sound-clocks": ({"preflight_clock_offset": -1.0, "preflight_clock_error": 9.0}, ""),
}
RESERVED = {"name-reserved": "public", "sound-reserved": "network"}
# Where it is a variable that is told of, and not the host.
OF = {
    **{
        "name-reserved": "base_app_name",
        "taken-name": "base_app_name",
        "site-renamed": "django_app_name",
    },
    **{"site-vault": "vault_site_id", "site-database": "postgresql_database"},
}


def write_inventory(folder: Path, hosts: dict[str, dict[str, Any] | str]) -> None:
    """Write an inventory in which each host is a site of its own."""
    source = folder / "source"
    write_source(source)
    inventory: dict[str, Any] = {
        "all": {"hosts": {name: {"ansible_host": f"10.1.1.{number}"} for number, name in enumerate(hosts, start=1)}},
        **{kind: {"hosts": dict.fromkeys(hosts)} for kind in KINDS},
        **{f"site_{name.replace('-', '_')}": {"hosts": {name: None}} for name in hosts},
    }
    if "r17-group" in hosts:
        del inventory["redis"]["hosts"]["r17-group"]
    shared = {
        **{"django_app_name": "shop", "django_app_source": str(source), "nginx_server_names": ["www.example.com"]},
        **{"topology_site": "site_{{ inventory_hostname | replace('-', '_') }}", "topology_offline": True},
        **{
            "topology_cores": 2,
            "topology_memory_mb": 4096,
            "topology_disk_mb": 20000,
            "topology_plain_secrets": "allow",
        },
        **{"ansible_port": 1, "django_app_environment": {"BROKER": "{{ topology_celery_broker_url }}"}},
        **{f"vault_{name}": f"{name}-{SECRET}" for name in ("postgresql_password", "redis_admin_password")},
        **{f"vault_postgresql_{name}_password": f"{name}-{SECRET}" for name in ("reader", "replication")},
        **{f"vault_redis_{name}_password": f"{name}-{SECRET}" for name in ("broker", "cache")},
    }
    texts = {"hosts.yml": inventory, "group_vars/all/variables.yml": shared}
    texts |= {f"host_vars/{name}.yml": own for name, own in hosts.items()}
    for path, content in texts.items():
        (folder / "wrong" / path).parent.mkdir(parents=True, exist_ok=True)
        text = content if isinstance(content, str) else yaml.safe_dump(content, allow_unicode=True)
        # As somebody wrote it, not a template.
        text = re.sub(rf"^(\w+): (.*{re.escape('{h}')}.*)$", r"\1: !unsafe \2", text, flags=re.MULTILINE)
        (folder / "wrong" / path).write_text(text.replace("SOURCE", str(source)), encoding="utf-8")


def told(output: str) -> dict[str, list[tuple[str, str]]]:
    """Return the faults in a run's list by host, those of no host by their file: variable and text."""
    assert "faults: |-\n" in output, output[-4000:]
    report = re.split(r"faults: \|-\n", output)[1].partition("    msg:")[0]
    found: dict[str, list[tuple[str, str]]] = {}
    for paragraph in re.split(r"\n\s*\n", report):
        head, _, text = paragraph.strip().partition("\n")
        parts = re.fullmatch(r"\d+\. (.*?)  \((?:role \w+, )?(?:on )?(.*)\)", head)
        assert parts, head
        variable, hosts = parts[1].replace("the host", ""), parts[2].split(", ")
        text = " ".join(text.split())
        if hosts == ["the inventory"]:
            file = re.search(r"host_vars/(\S+)\.yml:\d+", text)
            assert file, text
            hosts, variable = [file[1]], f"@{variable}"
        for host in hosts:
            found.setdefault(host, []).append((re.split(r"[.\[]", variable)[0], text))
    return found


@pytest.fixture(scope="module")
def everything(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[dict[str, list[tuple[str, str]]], dict[str, Any], str]:
    """Run preflight over all rows, and return what is told, what was expected, and the output."""
    folder = tmp_path_factory.mktemp("rows")
    hosts = {name: own for name, (own, _, _) in ROWS.items()}
    hosts |= {name: {"base_app_name": RESERVED[name]} if name in RESERVED else {} for name in FACTS}
    for name, (spoil, _) in TLS.items():
        place = folder / name
        place.mkdir()
        files = OperatorFiles(place)
        spoil(files)
        paths = {"tls_provided_certificate": str(files.certificate), "tls_provided_key": str(files.key)}
        hosts[name] = {"tls_mode": "provided"} | paths
    write_inventory(folder, hosts)
    said_before = [
        {"hosts": name, "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": facts | {"cacheable": True}}]}
        for name, (facts, _) in FACTS.items()
    ]
    plays = [*said_before, {"ansible.builtin.import_playbook": str(ROOT / "playbooks/preflight.yml")}]
    (folder / "site.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    done = subprocess.run(
        ["ansible-playbook", "-i", "wrong", "site.yml"],
        cwd=folder,
        env={k: v for k, v in os.environ.items() if not k.startswith("ANSIBLE_")}
        | {
            **{"ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"), "ANSIBLE_ROLES_PATH": str(ROOT / "roles")},
            **{"ANSIBLE_NOCOLOR": "1", "LC_ALL": "C.UTF-8"},
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode != 0, done.stdout[-4000:]
    expected = {name: (variables, said) for name, (_, variables, said) in ROWS.items()}
    expected |= {name: ({OF.get(name, "")} if said else set(), said) for name, (_, said) in FACTS.items()}
    expected |= {name: ({"tls_provided_certificate"} if said else set(), said) for name, (_, said) in TLS.items()}
    return told(done.stdout), expected, done.stdout + done.stderr


@pytest.mark.parametrize("host", [*ROWS, *FACTS, *TLS])
def test_fault_is_told_on_its_host(host: str, everything: tuple[Any, ...]) -> None:
    found, expected, _ = everything
    variables, said = expected[host]
    own = found.get(host, [])
    assert {variable for variable, _ in own} == variables, own
    if said:
        assert any(said in text for _, text in own), own


def test_they_are_told_at_once_and_nothing_was_done(everything: tuple[Any, ...]) -> None:
    found, expected, output = everything
    assert len(re.findall("^fatal:", output, re.MULTILINE)) == 1
    assert found.keys() == {name for name, (variables, _) in expected.items() if variables}
    assert not re.search("changed=[1-9]|unreachable=[1-9]", output)
    rows = {re.match(r"r(\d\d)", name)[1] for name in expected if name.startswith("r")}  # type: ignore[index]
    # 23 and 40 are below; 16, 35 and 36 are with PostgreSQL; 18, 19, 27 and 39 are of services that there are not.
    assert len(rows) == 34


def test_no_secret_is_shown(everything: tuple[Any, ...]) -> None:
    assert not [one for one in (SECRET, "k9!tZ4hq", "changeme-") if one in everything[2]]


def test_plain_secrets_can_be_warned_of(tmp_path: Path, run_playbook: Run) -> None:
    write_inventory(tmp_path, {"one": {"topology_plain_secrets": "warn"}})
    done = run_playbook("-i", "wrong", ROOT / "playbooks/preflight.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert done.returncode == 0, done.stdout
    assert re.search(r"variables\.yml:\d+: vault_postgresql_password is a secret", " ".join(done.stderr.split()))
    assert SECRET not in done.stdout + done.stderr


def test_plain_secret_of_a_second_inventory_is_told(tmp_path: Path, run_playbook: Run) -> None:
    write_inventory(tmp_path, {"one": {"topology_plain_secrets": "refuse"}})
    more = tmp_path / "more/group_vars/all.yml"
    more.parent.mkdir(parents=True)
    more.write_text(f"redis_cache_password: another-{SECRET}\n", encoding="utf-8")
    (tmp_path / "more/hosts.yml").write_text("all: {}\n", encoding="utf-8")
    words = ["-i", "wrong", "-i", "more", ROOT / "playbooks/preflight.yml"]
    done = run_playbook(*words, ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert done.returncode != 0
    assert re.search(
        r"redis_cache_password .*stands there as plain text.*more/group_vars/all\.yml:1", done.stdout, re.DOTALL
    )


NEEDS_BASE = [
    "deploy.yml",
    "rollback.yml",
    "rotate_secrets.yml",
    "promote_replica.yml",
    "database.yml",
    "redis.yml",
    "edge.yml",
]


@pytest.mark.parametrize("playbook", NEEDS_BASE)
def test_host_that_site_yml_of_this_version_has_not_set_up_is_refused(
    tmp_path: Path, run_playbook: Run, playbook: str
) -> None:
    write_inventory(tmp_path, {"one": {}})
    older = {"preflight_site": {"application": "shop"}}
    plays = [
        {"hosts": "one", "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": older | {"cacheable": True}}]},
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks" / playbook)},
    ]
    (tmp_path / "run.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    done = run_playbook("-i", "wrong", "run.yml", "-e", "slipway_promote=one", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    said = " ".join(done.stdout.split())
    assert done.returncode != 0 and "site.yml of this version of Slipway has not run on the host" in said, said
    assert not re.search("changed=[1-9]", said)


def test_limit_that_leaves_out_hosts_of_a_release_is_refused(tmp_path: Path, run_playbook: Run) -> None:
    site = {"topology_site": "all"}
    write_inventory(tmp_path, {"one": site, "two": site})
    done = run_playbook(
        "-i", "wrong", ROOT / "playbooks/preflight.yml", "--limit", "one", ANSIBLE_ROLES_PATH=str(ROOT / "roles")
    )
    assert done.returncode != 0
    assert "--limit leaves out two" in " ".join(done.stdout.split())


@pytest.mark.parametrize("account", ["network", ""])
def test_new_host_joins_a_live_site_of_a_reserved_name(account: str, tmp_path: Path, run_playbook: Run) -> None:
    site = {"topology_site": "all", "django_app_name": "network"}
    write_inventory(tmp_path, {"one": site, "two": site})
    fact = {"preflight_account": account, "cacheable": True}
    plays = [
        {"hosts": "one", "gather_facts": False, "tasks": [{"ansible.builtin.set_fact": fact}]},
        {"ansible.builtin.import_playbook": str(ROOT / "playbooks/preflight.yml")},
    ]
    (tmp_path / "site.yml").write_text(yaml.safe_dump(plays), encoding="utf-8")
    done = run_playbook("-i", "wrong", "site.yml", ANSIBLE_ROLES_PATH=str(ROOT / "roles"))
    assert "PLAY RECAP" in done.stdout
    said = "is a name that Debian, systemd or PostgreSQL uses itself" in " ".join(done.stdout.split())
    assert said is (account == ""), done.stdout[-3000:]


def test_names_of_one_host_are_refused() -> None:
    facts = {
        **{"a": {"preflight_machine": "1 7"}, "b": {"preflight_machine": "1 7"}, "c": {"preflight_machine": "1 8"}},
        **{"d": {}, "e": {"preflight_machine": ""}, "f": {"preflight_machine": ""}},
    }
    found = dict(inventory_plugin.machine_faults(facts, set()))
    assert found.keys() == {"a", "b"} and "a and b are names of one host" in found["a"].why
    assert not list(inventory_plugin.machine_faults(facts, {"a", "b"}))


SITE = {"application": "shop", "database": "shop", "vault": "1f2e", "groups": ["database", "worker"]}


@pytest.mark.parametrize(
    ("record", "wanted", "groups", "variables"),
    [
        (SITE, {}, ["database", "worker"], []),
        (SITE, {"groups": ["worker"]}, ["database", "worker", "app"], []),  # another host has the database now
        ({}, {}, [], []),
        (SITE | {"vault": ""}, {"vault": "9a9a"}, ["database", "worker"], []),  # a vault of before had no identifier
        (SITE, {"application": "blog", "database": "blog", "vault": "2"}, [], ["django_app_name"]),
        (SITE, {"vault": "9a9a"}, ["database", "worker"], ["vault_site_id"]),
        (SITE, {"vault": ""}, ["database", "worker"], ["vault_site_id"]),
        (SITE, {"database": "blog"}, ["database", "worker"], ["postgresql_database"]),
        (SITE, {"database": "blog"}, ["worker"], [""]),
        (SITE, {}, ["database"], [""]),
        (SITE, {"vault": "2", "database": "x"}, ["database"], ["vault_site_id", "postgresql_database", ""]),
        ({"error": "site.json cannot be read"}, {}, ["database", "worker"], [""]),
    ],
)
def test_another_site_than_the_recorded_one_is_refused(
    record: dict[str, Any], wanted: dict[str, Any], groups: list[str], variables: list[str]
) -> None:
    faults = list(inventory_plugin.site_faults(record, SITE | wanted, groups))
    assert [fault.variable for fault in faults] == variables
    assert all("base_site_change" in fault.fix for fault in faults)
    assert not any("1f2e" in f"{fault.why} {fault.value} {fault.fix}" for fault in faults)


def test_missing_collection_is_named() -> None:
    (fault,) = inventory_plugin.collection_faults(("ansible.posix", "nobody.nothing"))
    assert "nobody.nothing" in fault.why


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (
            {"failed": True, "msg": "MODULE FAILURE", "module_stderr": "sudo: a password is required\n"},
            "cannot become root",
        ),
        ({"failed": True, "msg": "ops is not in the sudoers file"}, "cannot become root: ops is not in the sudoers"),
        ({"failed": True, "module_stderr": "python3: not found"}, "cannot be asked: python3: not found"),
        (
            {"ansible_facts": {"preflight_clock": 1.0, "preflight_user": 1000}},
            "answers as the user with the number 1000, who is not root",
        ),
        (
            {"ansible_facts": {"preflight_clock": 1.0, "preflight_user": 0, "preflight_path": False}},
            "the PATH of root has no /usr/sbin",
        ),
    ],
)
def test_host_without_rights_is_a_fault(monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any], said: str) -> None:
    monkeypatch.setattr(host_plugin.ActionModule, "_execute_module", lambda *_, **__: dict(answer))
    result = run_action(host_plugin, variables={"inventory_hostname": "one"})
    (fault,) = result["ansible_facts"]["__preflight_faults"]
    assert said in fault["why"] and fault["host"] == "one" and fault["fix"]
    assert not result.get("failed")


NO_SUDO = "nice: ‘sudo’: No such file or directory"


@pytest.mark.parametrize(
    ("answer", "said", "fix"),
    [
        ({"module_stderr": NO_SUDO, "msg": "x"}, f"cannot become root: {NO_SUDO}", "set ansible_user: root"),
        ({"module_stderr": "/bin/sh: 1: sudo: not found", "msg": "x"}, "sudo: not found", "ansible_become_method: su"),
        ({"module_stdout": "sh: 1: doas: not found\r\n", "msg": "x"}, "doas: not found", "ansible_become_method names"),
        ({"module_stderr": "sudo: sorry, you must have a tty to run sudo"}, "a tty", "ansible_pipelining: false"),
        ({"module_stderr": "sudo: a password is required"}, "a password is required", "--ask-become-pass"),
        (AnsibleError("Incorrect su password"), "Incorrect su password", "--ask-become-pass"),
        (AnsibleError("Missing sudo password"), "Missing sudo password", "--ask-become-pass"),
        (
            AnsibleConnectionFailure("Timeout (12s) waiting for privilege escalation prompt: "),
            "cannot become root: Timeout",
            "--ask-become-pass",
        ),
        (
            AnsibleConnectionFailure("ops@192.0.2.1: Permission denied (publickey,password)."),
            "cannot be reached: ops@192.0.2.1: Permission denied",
            "let ssh reach it",
        ),
    ],
)
def test_way_to_root_that_fails_is_told_with_what_helps(
    monkeypatch: pytest.MonkeyPatch, answer: dict[str, Any] | AnsibleError, said: str, fix: str
) -> None:
    def execute(*_: Any, **__: Any) -> dict[str, Any]:
        if isinstance(answer, AnsibleError):
            raise answer
        return {"failed": True} | answer

    monkeypatch.setattr(host_plugin.ActionModule, "_execute_module", execute)
    (fault,) = run_action(host_plugin, variables={"inventory_hostname": "one"})["ansible_facts"]["__preflight_faults"]
    assert said in fault["why"] and fix in fault["fix"], fault


@pytest.mark.parametrize(
    ("text", "traps"),
    [
        ("a: 1\nb: {c: 1, d: 2}\n", []),
        ("a: '0755'\nb: \"on\"\nc: yes\nd: 1.5\ne: 0\n", []),
        ("a:\n  - {b: 0644}\n", [(2, "b")]),
        ("a: 12:30\n", [(1, "a")]),
        ("a: 1E5\n", [(1, "a")]),
        ("a: 1\nb: 2\na: 3\n", [(3, "a")]),
        ("no: 1\n", [(1, "no")]),
        ("a: !vault x\nb: !unsafe 1e3x\n", []),
    ],
)
def test_traps_of_yaml(text: str, traps: list[tuple[int, str]]) -> None:
    assert [(line, name) for line, name, *_ in inventory_plugin.yaml_traps(text)] == traps


def test_variables_of_nobody_are_named(tmp_path: Path) -> None:
    for name in ("group_vars/all/a.yml", "group_vars/workers.yml", "group_vars/worker/a.yml", "host_vars/app2.yml"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "host_vars/app01").mkdir()
    (tmp_path / "group_vars/README.md").touch()
    faults = list(inventory_plugin.unread_faults([str(tmp_path)], ["all", "app", "worker"], ["app1", "app2"]))
    assert [(fault.variable, fault.fix) for fault in faults] == [
        ("group_vars/workers.yml", "did you mean worker?"),
        ("host_vars/app01", "did you mean app1?"),
    ]


def test_variables_of_somebody_else_are_warned_of(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those of a second inventory in the directory, of a host that is away for a while, or for example."""
    warned: list[str] = []
    monkeypatch.setattr(inventory_plugin.Display, "warning", lambda _, text: warned.append(text))
    texts = {
        "prod.yml": "app: {hosts: {app1: , app3: }}\n",
        "staging.yml": "app: {hosts: {stage: }}\napps: {hosts: {stage: }}\n",
        "old.ini": "[workers]\n#workr ansible_host=10.0.0.1\n",
    }
    names = ("group_vars/apps.yml", "group_vars/workers.yml", "group_vars/all.example.yml", "group_vars/eu/a.yml")
    names += ("host_vars/stage.yml", "host_vars/app2/a.yml", "host_vars/workr.yml", "host_vars/app1.yml")
    names += ("host_vars/app1x.yml",)
    for name in names:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    for name, text in texts.items():
        (tmp_path / name).write_text(text, encoding="utf-8")
    source = str(tmp_path / "prod.yml")
    assert not list(inventory_plugin.unread_faults([source], ["all", "app", "worker"], ["app1", "app3", "worker"]))
    assert len(warned) == len(names) - 1, warned  # all but that of app1
    assert all("so nothing in it is read" in text for text in warned)


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a: 1\nA_b2: 2\n_x: {my-key: 1}\n", []),
        ("a: 1\nmy-variable: 1\n", [(2, "my-variable", "write my_variable")]),
        ("1x: 1\n", [(1, "1x", "write _1x")]),
        ("my variable: 1\nü: 2\n", [(1, "my variable", "write my_variable"), (2, "ü", "write _")]),
        ("groups: x\nhostvars: y\n", [(1, "groups", "take another name"), (2, "hostvars", "take another name")]),
        ("- a\n", []),
        ("", []),
        ("common: &common {a: 1}\n<<: *common\nb: 2\n", []),
        ("common: &common\n  my-key: 1\n<<: [*common]\n", [(2, "my-key", "write my_key")]),
        ('"<<": 1\n', [(1, "<<", "write __")]),
    ],
)
def test_names_that_no_template_can_use(text: str, found: list[tuple[int, str, str]]) -> None:
    assert [(line, name, fix) for line, name, _, fix in inventory_plugin.name_traps(text)] == found
