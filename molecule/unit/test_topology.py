"""The shipped topology: how the hosts of a site find each other, and what it tells the application."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.inventory.manager import InventoryManager
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from ansible.vars.hostvars import HostVars
from ansible.vars.manager import VariableManager
from conftest import ROLES, ROOT, defaults_of, facts, load_plugin

TOPOLOGY = ROOT / "inventories/single/group_vars/all/topology.yml"
# All that Unix, YAML, Jinja, systemd, a shell or a URL could stumble over.
ODD = """ a'b"c@d%e#f$g{h}i/j:k?l&m=n+o\\p`q;ä€ """

Resolve = Callable[[str, str], Any]


@pytest.fixture
def resolve_in(tmp_path: Path) -> Callable[..., Resolve]:
    """Return a function that makes an inventory and gives what a variable is on one of its hosts."""

    def make(hosts: dict[str, list[str]], addresses: dict[str, str] | None = None, **variables: Any) -> Resolve:
        folder = tmp_path / "inventory"
        (folder / "group_vars/all").mkdir(parents=True)
        (folder / "group_vars/all/topology.yml").symlink_to(TOPOLOGY)
        # What a user writes as it stands is no template.
        texts = {name: {"__ansible_unsafe": value} if value == ODD else value for name, value in variables.items()}
        own = {"django_app_name": "my-app", "nginx_server_names": ["www.example.com", "example.com"], **texts}
        (folder / "group_vars/all/variables.json").write_text(json.dumps(own), encoding="utf-8")
        inventory: dict[str, Any] = {
            "all": {"hosts": {name: {"ansible_host": (addresses or {}).get(name, name)} for name in hosts}}
        }
        for name, groups in hosts.items():
            for group in groups:
                inventory.setdefault(group, {"hosts": {}})["hosts"][name] = None
        (folder / "hosts.yml").write_text(yaml.safe_dump(inventory), encoding="utf-8")
        loader = DataLoader()
        manager = InventoryManager(loader, sources=[str(folder)])
        variable_manager = VariableManager(loader, manager)
        HostVars(manager, variable_manager, loader)  # makes itself known to the manager
        for name in hosts:
            variable_manager.set_host_facts(name, facts("12"))

        def resolve(host: str, name: str) -> Any:
            known: dict[str, Any] = {}
            for role in ROLES:
                known |= defaults_of(role)
            known |= variable_manager.get_vars(host=manager.get_host(host))
            return Templar(loader, known).template(known[name])

        return resolve

    return make


ONE = {"www": ["database", "redis", "app", "worker", "edge"]}
MANY = {
    "db": ["database"],
    "redis1": ["redis"],
    "app1": ["app", "edge"],
    "app2": ["app", "worker"],
    "worker1": ["worker"],
    "edge1": ["edge"],
}
ADDRESSES = {"db": "10.0.0.1", "redis1": "fd00::2", "app1": "10.0.0.3", "app2": "fd00::4", "edge1": "10.0.0.6"}


def test_one_host_speaks_to_itself_by_a_socket(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(ONE)
    assert resolve("www", "gunicorn_listen") == ["/run/my-app/web.sock"]
    assert resolve("www", "nginx_upstream_servers") == ["unix:/run/my-app/web.sock"]
    assert resolve("www", "processes_first") is True


def test_hosts_of_a_site_speak_by_ports(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(MANY, ADDRESSES)
    assert resolve("app1", "nginx_upstream_servers") == ["unix:/run/my-app/web.sock", "[fd00::4]:8000"]
    assert resolve("edge1", "nginx_upstream_servers") == ["10.0.0.3:8000", "[fd00::4]:8000"]
    # The other edge is elsewhere, so both listen for it.
    assert resolve("app1", "gunicorn_listen") == ["/run/my-app/web.sock", "10.0.0.3:8000"]
    assert resolve("app2", "gunicorn_listen") == ["/run/my-app/web.sock", "[fd00::4]:8000"]
    assert [resolve(host, "processes_first") for host in ("app2", "worker1")] == [True, False]


def test_every_edge_knows_the_hosts_that_can_be_drained(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(MANY, ADDRESSES, host="app2")
    assert resolve("app1", "nginx_upstream_hosts") == {"app1": "unix:/run/my-app/web.sock", "app2": "[fd00::4]:8000"}
    assert resolve("edge1", "nginx_upstream_hosts") == {"app1": "10.0.0.3:8000", "app2": "[fd00::4]:8000"}
    assert resolve("edge1", "nginx_target") == "app2"


def test_hosts_stay_in_order(resolve_in: Callable[..., Resolve]) -> None:
    """The first of a kind does what is done once; ten hosts in the order of a set would hardly be in their own."""
    names = [f"app{number}" for number in range(10)]
    resolve = resolve_in({name: ["app", "worker"] for name in names} | {"edge1": ["edge"], "db": ["database"]})
    assert resolve("edge1", "topology_app_hosts") == resolve("edge1", "topology_worker_hosts") == names
    assert resolve("edge1", "nginx_upstream_servers") == [f"{name}:8000" for name in names]
    assert resolve("db", "postgresql_allowed_clients") == names


def test_two_sites_do_not_meet(resolve_in: Callable[..., Resolve]) -> None:
    sites = {"a": ["app", "edge", "site_a"], "b": ["app", "edge", "site_b"]}
    resolve = resolve_in(sites, topology_site="site_{{ inventory_hostname }}")
    assert resolve("a", "gunicorn_listen") == ["/run/my-app/web.sock"]
    assert resolve("b", "nginx_upstream_servers") == ["unix:/run/my-app/web.sock"]


def test_passwords_of_any_kind_arrive(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(
        MANY, ADDRESSES, vault_postgresql_password=ODD, vault_redis_cache_password=ODD, vault_redis_broker_password=ODD
    )
    assert resolve("app1", "topology_database_password") == ODD
    for name, port, path in (
        ("topology_database_url", 5432, "/my_app"),
        ("topology_cache_url", 6380, "/0"),
        ("topology_celery_broker_url", 6379, "/1"),
        ("topology_celery_result_url", 6379, "/2"),
    ):
        url = urlsplit(resolve("app1", name))
        assert (url.port, url.path, url.query, url.fragment) == (port, path, "", ""), name
        assert unquote(url.password or "") == ODD, name
    assert urlsplit(resolve("app1", "topology_database_url")).hostname == "10.0.0.1"
    assert urlsplit(resolve("app1", "topology_cache_url")).hostname == "fd00::2"


def test_facts_are_there_one_by_one(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(ONE, vault_postgresql_password="a/b", vault_redis_cache_password="c@d")
    facts = {
        "topology_domain": "www.example.com",
        "topology_database_address": "127.0.0.1",
        "topology_database_port": 5432,
        "topology_database_name": "my_app",
        "topology_database_user": "my_app",
        "topology_database_password": "a/b",
        "topology_database_password_quoted": "a%2Fb",
        "topology_redis_address": "127.0.0.1",
        "topology_cache_port": 6380,
        "topology_cache_user": "django",
        "topology_cache_password_quoted": "c%40d",
        "topology_broker_port": 6379,
        "topology_broker_user": "celery",
    }
    assert {name: resolve("www", name) for name in facts} == facts


def test_site_without_database_and_redis_misses_them_only_where_it_uses_them(
    resolve_in: Callable[..., Resolve],
) -> None:
    resolve = resolve_in(
        {"www": ["app", "worker", "edge"]}, vault_postgresql_password="x", vault_redis_cache_password="y"
    )
    known = yaml.safe_load(TOPOLOGY.read_text(encoding="utf-8"))
    used = [name for name in known if name.startswith(("gunicorn_listen", "nginx_", "celery_", "processes_", "base_"))]
    assert len(used) > 6
    for name in used:
        resolve("www", name)
    for name, group in (("topology_database_url", "database"), ("topology_cache_url", "redis")):
        with pytest.raises(AnsibleError, match=f"no host of the site is in the group {group}"):
            resolve("www", name)


def test_odd_passwords_arrive_in_the_environment_as_written(resolve_in: Callable[..., Resolve]) -> None:
    """The file is read by systemd and by shells; molecule/unit/test_filters.py holds the filter to both."""
    resolve = resolve_in(
        ONE, vault_postgresql_password=ODD, django_app_environment={"PASSWORD": "{{ topology_database_password }}"}
    )
    written = load_plugin("playbooks/plugins/filter/slipway.py").environment_file(
        resolve("www", "django_app_environment")
    )
    assert written.count("\n") == 1
    assert written.replace("\\\\", "\\").replace('\\"', '"').replace("\\$", "$").replace("\\`", "`") == (
        f'PASSWORD="{ODD}"\n'
    )


@pytest.mark.parametrize(
    ("variables", "url", "port", "tls"),
    [
        ({}, "http://www.example.com", 80, False),
        ({"nginx_trust_forwarded_proto": True}, "https://www.example.com", 80, False),
        ({"tls_mode": "acme"}, "https://www.example.com", 443, True),
        ({"tls_mode": "provided", "nginx_tls_port": 8443}, "https://www.example.com", 8443, True),
    ],
    ids=str,
)
def test_tls_is_known_to_all_whom_it_concerns(
    resolve_in: Callable[..., Resolve], variables: dict[str, Any], url: str, port: int, tls: bool
) -> None:
    resolve = resolve_in(MANY, ADDRESSES, **variables)
    https = url.startswith("https")
    assert resolve("app2", "topology_url") == url
    assert resolve("app2", "topology_https") is https
    assert resolve("app2", "topology_https_text") == str(https).lower()
    assert resolve("edge1", "release_probe_proto") == ("https" if https else "http")
    assert resolve("edge1", "release_edge_port") == port
    assert resolve("edge1", "release_edge_tls") is tls
    certificate = "/etc/my-app/tls/live/fullchain.pem" if tls else ""
    assert resolve("edge1", "nginx_tls_certificate") == certificate
    assert resolve("edge1", "nginx_acme_webroot") == ("/srv/my-app/acme" if variables.get("tls_mode") == "acme" else "")


def test_edge_hosts_know_each_other(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(MANY | {"edge2": ["edge"]}, ADDRESSES | {"edge2": "fd00::7"}, tls_mode="acme")
    assert resolve("edge1", "nginx_acme_peers") == ["10.0.0.3:80", "[fd00::7]:80"]
    assert [resolve(host, "tls_first_host") for host in ("app1", "edge1", "edge2")] == ["app1"] * 3
    assert resolve("edge1", "tls_names") == ["www.example.com", "example.com"]
