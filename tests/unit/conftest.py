"""What the tests without hosts share: the tree, the project's plugins, playbook runs, shipped variables."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
import yaml

ROOT = Path(__file__).resolve().parents[2]
# Before Ansible is imported: it reads its configuration once.
os.environ["ANSIBLE_CONFIG"] = str(ROOT / "ansible.cfg")

from ansible.inventory.manager import InventoryManager  # noqa: E402 (as said above)
from ansible.parsing.dataloader import DataLoader  # noqa: E402
from ansible.plugins.loader import init_plugin_loader  # noqa: E402
from ansible.template import Templar  # noqa: E402
from ansible.vars.hostvars import HostVars  # noqa: E402
from ansible.vars.manager import VariableManager  # noqa: E402

ROLES = sorted(path.parent.parent for path in ROOT.glob("roles/*/tasks/main.yml"))
# All inventories of the repository: the shipped ones, of the Molecule scenarios and of the development hosts.
INVENTORIES = sorted(
    str(path.parent.relative_to(ROOT))
    for pattern in ("inventories/*/hosts.yml", "molecule/*/inventory/hosts.yml", "dev/*/hosts.yml")
    for path in ROOT.glob(pattern)
)
RELEASES = {"12": "bookworm", "13": "trixie"}
WIRING = sorted((ROOT / "playbooks/group_vars/all").glob("*.yml"))
init_plugin_loader()
# It knows the repository as the collection slipway.kit.
from ansible_collections.slipway.kit.plugins.plugin_utils.authority import new_authority  # noqa: E402
from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.bounds import read_options  # noqa: E402


@cache
def load_yaml(path: Path) -> Any:
    """Load a file as Ansible does for what a role or a playbook says."""
    return DataLoader().load_from_file(str(path), trusted_as_template=True)


@cache
def options_of(role: Path) -> dict[str, Any]:
    """Return the options in a role's argument specification, with their bounds."""
    return read_options(role, DataLoader())


def defaults_of(role: Path) -> dict[str, Any]:
    """Return a role's defaults."""
    path = role / "defaults/main.yml"
    return (load_yaml(path) if path.exists() else None) or {}


def facts(release: str) -> dict[str, Any]:
    """Return what Ansible would find on a host, as far as roles read it."""
    return {
        "architecture": "x86_64",
        "default_ipv4": {"address": "192.0.2.10"},
        "distribution": "Debian",
        "distribution_major_version": release,
        "distribution_release": RELEASES[release],
        "distribution_version": f"{release}.1",
        "hostname": "host",
        "memfree_mb": 3000,
        "memtotal_mb": 4096,
        "os_family": "Debian",
        "processor_nproc": 2,
        "processor_vcpus": 2,
        "python_version": {"12": "3.11.2", "13": "3.13.5"}[release],
        "service_mgr": "systemd",
        "virtualization_role": "guest",
        "virtualization_type": "kvm",
    }


# Whatever an inventory takes from its vault; long enough for preflight, and easy to find again.
SECRETS = {
    f"vault_{name}": f"marker-{name}-0123456789-'\"%@/:#"
    for name in (
        *("django_secret_key", "postgresql_password", "redis_broker_password", "redis_cache_password"),
        *("redis_admin_password", "demo_admin_password", "postgresql_replication_password"),
        "postgresql_reader_password",
    )
}


SECRETS["vault_site_authority"] = new_authority()


# What an inventory may leave empty, filled: a template in a loop over it is rendered too.
EXAMPLES = {
    "nginx_cache_locations": ["/", "/shop/"],
    "nginx_connections_per_address": 100,
    "nginx_extra_locations": [{"path": "= /robots.txt", "config": "default_type text/plain;\nreturn 204;"}],
    "nginx_extra_servers": [{"name": "another", "config": "listen 127.0.0.1:8082;\nreturn 204;"}],
    "nginx_extra_upstreams": [{"name": "other", "servers": ["10.0.0.9:3000"]}],
    "nginx_maintenance_allowed": ["192.0.2.7", "2001:db8::/32"],
    "nginx_rate_limits": [
        {"name": "general", "path": "/", "rate": "50r/s", "burst": 100},
        {"name": "login", "path": "/accounts/login/", "rate": "6r/m", "methods": ["POST"]},
    ],
    "nginx_redirects": [{"path": "/old/", "to": "/new/"}, {"path": "/x", "to": "https://a.example/", "status": 302}],
    "nginx_trusted_proxies": ["192.0.2.0/24", "2001:db8::/32"],
    "nginx_trusted_proxies_urls": ["https://cdn.example.com/networks%20v4"],
    "processes_services": [{"name": "listener", "command": ["python", "manage.py", "listen"]}],
    "processes_timers": [{"name": "sweep", "command": ["python", "manage.py", "sweep"], "schedule": "daily"}],
}


def wiring() -> dict[str, Any]:
    """Return the variables of the wiring as they are written."""
    return {name: value for path in WIRING for name, value in yaml.safe_load(path.read_text()).items()}


def variables_of(source: Path) -> VariableManager:
    """Return Ansible's variables of an inventory as the project's playbooks see them, with the wiring below it."""
    loader = DataLoader()
    loader.set_basedir(str(ROOT / "playbooks"))
    manager = InventoryManager(loader, sources=[str(source)])
    variable_manager = VariableManager(loader, manager)
    HostVars(manager, variable_manager, loader)  # makes itself known to the manager
    return variable_manager


@pytest.fixture(scope="session")
def inventories(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a directory with a copy of all inventories, without the vault files that somebody may have made there."""
    tree = tmp_path_factory.mktemp("tree")
    (tree / "app").symlink_to(ROOT / "app")
    for name in INVENTORIES:
        shutil.copytree(ROOT / name, tree / name, symlinks=True, ignore=shutil.ignore_patterns("vault.yml"))
    return tree


@pytest.fixture(scope="session")
def variables_for(inventories: Path) -> Callable[..., dict[str, Any]]:
    """Return a function that gives what a task of a role sees on the first host of a shipped inventory."""

    @cache
    def from_inventory(name: str, release: str) -> dict[str, Any]:
        variable_manager = variables_of(inventories / "inventories" / name)
        manager = variable_manager._inventory
        names = [host.name for host in manager.get_hosts()]
        for host in names:  # what others ask of it
            variable_manager.set_host_facts(host, facts(release))
        return variable_manager.get_vars(host=manager.get_hosts()[0]) | {"ansible_play_hosts_all": names}

    def variables(role: Path, release: str, inventory: str = "single", **extra: Any) -> dict[str, Any]:
        own: dict[str, Any] = {}
        for other in ROLES:  # a host of all kinds: what the inventory takes from one role for another is there
            own |= defaults_of(other)
        own |= EXAMPLES | from_inventory(inventory, release)
        if (path := role / "vars/main.yml").exists():
            own |= load_yaml(path) or {}
        own |= SECRETS | {"ansible_facts": facts(release), "ansible_check_mode": False} | extra
        return own

    return variables


@pytest.fixture
def templar_for() -> Callable[[Mapping[str, Any]], Templar]:
    """Return a function that gives Ansible's own templar over variables."""
    return lambda variables: Templar(DataLoader(), dict(variables))


def run_action(
    plugin: ModuleType,
    loader: DataLoader | None = None,
    check: bool = False,
    variables: Mapping[str, Any] | None = None,
    **arguments: Any,
) -> dict[str, Any]:
    """Run an action plugin as a task would, in this process; what it refuses is raised."""
    task = SimpleNamespace(args=arguments, action=plugin.__name__, async_val=0, check_mode=check, environment=[])
    connection = SimpleNamespace(_shell=SimpleNamespace(tmpdir=None))
    loader = loader or DataLoader()
    action = plugin.ActionModule(task, connection, None, loader, Templar(loader, {}), None)
    return action.run(task_vars=dict(variables or {}))


def run_here(command: str, **_: Any) -> dict[str, Any]:
    """Run what an action would have a host's shell do, on this machine; in place of _low_level_execute_command."""
    done = subprocess.run(["/bin/sh", "-c", command], capture_output=True, text=True, check=False)
    return {"rc": done.returncode, "stdout": done.stdout, "stderr": done.stderr}


@pytest.fixture
def run_playbook(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Return a function that runs ansible-playbook in an empty folder with the project's configuration."""
    command = Path(sys.executable).with_name("ansible-playbook")
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ANSIBLE_")} | {
        "ANSIBLE_CONFIG": str(ROOT / "ansible.cfg"),
        "ANSIBLE_ROLES_PATH": str(tmp_path / "roles"),
        "ANSIBLE_NOCOLOR": "1",
        "LC_ALL": "C.UTF-8",
    }

    def run(*arguments: str | Path, **more: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [command, *map(str, arguments)],
            cwd=tmp_path,
            env=environment | more,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.fixture(scope="session")
def rendered(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """Return a function that gives all files of a release by path, rendered with further variables."""
    # Here, as it takes the roles from this file.
    from rendering import USES, render

    @cache
    def texts(release: str, **extra: Any) -> dict[str, str]:
        return {file.path: file.text for use in USES for file in render(use, variables_for(use.role, release, **extra))}

    return texts
