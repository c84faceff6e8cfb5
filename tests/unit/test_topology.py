"""The wiring: how the hosts of a site find each other, and what it tells the application."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, unquote, urlsplit

import pytest
import yaml
from ansible.errors import AnsibleError
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from conftest import ROLES, defaults_of, facts, variables_of, wiring

from ansible_collections.slipway.kit.plugins.filter import urls
from ansible_collections.slipway.kit.plugins.filter.slipway import environment_file
from ansible_collections.slipway.kit.plugins.plugin_utils.authority import new_authority

# All that Unix, YAML, Jinja, systemd, a shell or a URL could stumble over.
ODD = """ a'b"c@d%e#f$g{h}i/j:k?l&m=n+o\\p`q;ä€ """

Resolve = Callable[[str, str], Any]


@pytest.fixture
def resolve_in(tmp_path: Path) -> Callable[..., Resolve]:
    """Return a function that makes an inventory and gives what a variable is on one of its hosts."""

    def make(hosts: dict[str, list[str]], addresses: dict[str, str] | None = None, **variables: Any) -> Resolve:
        folder = tmp_path / "inventory"
        (folder / "group_vars/all").mkdir(parents=True)
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
        variable_manager = variables_of(folder)
        manager = variable_manager._inventory
        for name in hosts:
            variable_manager.set_host_facts(name, facts("12"))

        def resolve(host: str, name: str) -> Any:
            known: dict[str, Any] = {}
            for role in ROLES:
                known |= defaults_of(role)
            known |= variable_manager.get_vars(host=manager.get_host(host))
            return Templar(DataLoader(), known).template(known[name])

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
    resolve = resolve_in(MANY, ADDRESSES, slipway_host="app2")
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


def openings(resolve: Resolve, host: str) -> dict[tuple[int, str], set[str]]:
    """Return what is open on a host: port and protocol, and to whom."""
    return {
        (one["port"], one.get("protocol", "tcp")): set(one["sources"]) for one in resolve(host, "firewall_openings")
    }


def test_services_are_open_to_the_hosts_that_need_them(resolve_in: Callable[..., Resolve]) -> None:
    world = {"0.0.0.0/0", "::/0"}
    hosts = MANY | {"db2": ["database"], "elsewhere": []}
    resolve = resolve_in(hosts, ADDRESSES | {"worker1": "10.0.0.5", "db2": "fd00::7", "elsewhere": "10.0.0.99"})
    clients = {"10.0.0.3", "fd00::4", "10.0.0.5"}
    assert openings(resolve, "db") == {(5432, "tcp"): clients | {"fd00::7"}}
    assert openings(resolve, "db2") == {(5432, "tcp"): clients | {"10.0.0.1"}}
    assert openings(resolve, "redis1") == {(6379, "tcp"): clients, (6380, "tcp"): clients}
    assert openings(resolve, "app1") == {(8000, "tcp"): {"10.0.0.6"}, (80, "tcp"): world}
    assert openings(resolve, "app2") == {(8000, "tcp"): {"10.0.0.3", "10.0.0.6"}}
    assert openings(resolve, "worker1") == {}
    assert openings(resolve, "edge1") == {(80, "tcp"): world}
    assert "10.0.0.99" not in resolve("db", "firewall_reject_sources")
    # The same list on all hosts, so preflight has to work it out once.
    assert set(resolve("db", "firewall_reject_sources")) == clients | {"10.0.0.1", "fd00::2", "fd00::7", "10.0.0.6"}


def test_one_host_is_open_for_visitors_alone(resolve_in: Callable[..., Resolve]) -> None:
    world = {"0.0.0.0/0", "::/0"}
    resolve = resolve_in(ONE, tls_mode="acme", nginx_http_port=8080)
    assert openings(resolve, "www") == {(8080, "tcp"): world, (443, "tcp"): world, (443, "udp"): world}
    assert resolve("www", "firewall_reject_sources") == []


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
        assert (url.port, url.path, url.fragment) == (port, path, ""), name
        assert unquote(url.password or "") == ODD, name
    assert urlsplit(resolve("app1", "topology_database_url")).hostname == "10.0.0.1"
    assert urlsplit(resolve("app1", "topology_cache_url")).hostname == "fd00::2"


def test_hosts_ask_each_other_by_tls(resolve_in: Callable[..., Resolve]) -> None:
    authority = new_authority()
    resolve = resolve_in(MANY, ADDRESSES, vault_postgresql_password="a", vault_redis_cache_password="b",
                         vault_redis_broker_password="c", vault_site_authority=authority)  # fmt: skip
    database = urlsplit(resolve("app1", "topology_database_url"))
    assert parse_qs(database.query) == {"sslmode": ["verify-full"], "sslrootcert": ["/etc/my-app/authority.pem"]}
    for name in ("topology_cache_url", "topology_celery_broker_url", "topology_celery_result_url"):
        url = urlsplit(resolve("app1", name))
        assert url.scheme == "rediss"
        assert parse_qs(url.query) == {"ssl_cert_reqs": ["required"], "ssl_ca_certs": ["/etc/my-app/authority.pem"]}
    for role in ("postgresql", "redis"):
        assert resolve("redis1", f"{role}_tls_names") == ["fd00::2", "localhost", "127.0.0.1", "::1"]
        assert resolve("redis1", f"{role}_tls_authority") == authority
        assert resolve("redis1", f"{role}_tls") is True
    assert "PRIVATE" not in resolve("app1", "django_app_authority_certificate")


@pytest.mark.parametrize(("hosts", "variables"), [(ONE, {}), (MANY, {"topology_internal_tls": False})])
def test_one_host_and_a_private_network_go_without_tls(
    resolve_in: Callable[..., Resolve], hosts: dict[str, list[str]], variables: dict[str, Any]
) -> None:
    """And without an authority in the vault."""
    resolve = resolve_in(hosts, ADDRESSES, vault_redis_cache_password="b", **variables)
    host = next(name for name, groups in hosts.items() if "app" in groups)
    assert urlsplit(resolve(host, "topology_cache_url")).scheme == "redis"
    assert resolve(host, "topology_database_parameters") == ""
    assert resolve(host, "postgresql_tls") is resolve(host, "redis_tls") is False
    for name in ("postgresql_tls_authority", "redis_tls_authority", "django_app_authority_certificate"):
        assert resolve(host, name) == ""


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
    used = [
        name for name in wiring() if name.startswith(("gunicorn_listen", "nginx_", "celery_", "processes_", "base_"))
    ]
    assert len(used) > 6
    for name in used:
        resolve("www", name)
    for name, group in (("topology_database_url", "database"), ("topology_cache_url", "redis")):
        with pytest.raises(AnsibleError, match=f"no host of the site is in the group {group}"):
            resolve("www", name)


def test_odd_passwords_arrive_in_the_environment_as_written(resolve_in: Callable[..., Resolve]) -> None:
    """The file is read by systemd and by shells; tests/unit/test_filters.py holds the filter to both."""
    resolve = resolve_in(
        ONE, vault_postgresql_password=ODD, django_app_environment={"PASSWORD": "{{ topology_database_password }}"}
    )
    written = environment_file(resolve("www", "django_app_environment"))
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


def test_application_goes_by_the_second_role_while_a_password_changes(resolve_in: Callable[..., Resolve]) -> None:
    secrets = {"vault_postgresql_password": "old", "vault_postgresql_password_next": ODD}
    resolve = resolve_in(MANY, ADDRESSES, **secrets)
    assert resolve("db", "postgresql_password") == "old"
    assert resolve("db", "postgresql_second_password") == ODD
    assert resolve("app1", "topology_database_user") == resolve("db", "postgresql_second_user") == "my_app_next"
    url = urlsplit(resolve("app1", "topology_database_url"))
    assert (unquote(url.username or ""), unquote(url.password or "")) == ("my_app_next", ODD)


@pytest.mark.parametrize(
    ("secrets", "who", "second"),
    [
        ({}, ("my_app_ro", "new"), ""),
        ({"vault_postgresql_reader_password_next": ODD}, ("my_app_ro_next", ODD), ODD),
        (
            {"vault_postgresql_reader_password_next": "", "vault_postgresql_reader_password_previous": "old"},
            ("my_app_ro", "new"), "new",
        ),
    ],
)  # fmt: skip
def test_who_only_reads_goes_by_a_second_role_too(
    resolve_in: Callable[..., Resolve], secrets: dict[str, str], who: tuple[str, str], second: str
) -> None:
    resolve = resolve_in(MANY, ADDRESSES, vault_postgresql_reader_password="new", **secrets)
    url = urlsplit(resolve("app1", "topology_database_replica_url"))
    assert (unquote(url.username or ""), unquote(url.password or "")) == who
    assert resolve("db", "postgresql_second_reader_password") == second


@pytest.mark.parametrize(
    ("secrets", "second"),
    [
        ({"vault_postgresql_password_next": "", "vault_postgresql_password_previous": "old"}, "new"),
        ({"vault_postgresql_password_next": "", "vault_postgresql_password_previous": ""}, ""),
        ({}, ""),
    ],
)
def test_second_role_stays_until_the_old_password_is_gone(
    resolve_in: Callable[..., Resolve], secrets: dict[str, str], second: str
) -> None:
    resolve = resolve_in(MANY, ADDRESSES, vault_postgresql_password="new", **secrets)
    assert resolve("db", "postgresql_second_password") == second
    assert resolve("app1", "topology_database_user") == "my_app"
    assert resolve("app1", "topology_database_password") == "new"


@pytest.mark.parametrize(
    ("secrets", "second"),
    [({"next": "new"}, "new"), ({"next": "", "previous": "old"}, "old"), ({"next": "", "previous": ""}, ""), ({}, "")],
)
def test_redis_takes_two_passwords_for_a_while(
    resolve_in: Callable[..., Resolve], secrets: dict[str, str], second: str
) -> None:
    names = ("broker", "cache", "admin")
    known = {f"vault_redis_{name}_password_{when}": value for name in names for when, value in secrets.items()}
    resolve = resolve_in(MANY, ADDRESSES, **known, **{f"vault_redis_{name}_password": "used" for name in names})
    assert {resolve("redis1", f"redis_{name}_second_password") for name in names} == {second}
    assert resolve("app1", "topology_cache_password") == resolve("app1", "topology_broker_password") == "used"


def test_django_accepts_the_key_that_comes_and_the_one_before(resolve_in: Callable[..., Resolve]) -> None:
    keys = {
        "vault_django_secret_key": "b",
        "vault_django_secret_key_next": "c",
        "vault_django_secret_key_previous": "a",
    }
    resolve = resolve_in(ONE, **keys)
    assert (resolve("www", "topology_secret_key"), resolve("www", "topology_secret_key_fallbacks")) == ("b", ["c", "a"])


def test_primary_database_is_restarted_last(resolve_in: Callable[..., Resolve]) -> None:
    hosts = {"db": ["database"], "db2": ["database"], "redis1": ["redis"], "app2": ["app", "worker"], "app3": ["app"]}
    resolve = resolve_in(hosts | {"edge1": ["edge"], "edge2": ["edge"]})
    order = ["db2", "app2", "app3", "edge1", "edge2", "redis1", "db"]
    assert resolve("app2", "topology_restart_order") == order
    assert [host for host in order if resolve(host, "topology_stops")] == ["redis1", "db"]


def test_everything_stops_with_the_only_host(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(ONE)
    assert resolve("www", "topology_restart_order") == ["www"]
    assert len(resolve("www", "topology_stops")) == 4
    assert resolve("www", "topology_only_of") == ["the only worker"]


def test_site_without_a_database_has_an_order_too(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in({"www1": ["app", "edge"], "www2": ["app", "edge"]})
    assert resolve("www1", "topology_restart_order") == ["www1", "www2"]
    assert resolve("www1", "topology_stops") == []


DATABASES = {"db1": ["database"], "db2": ["database"], "db3": ["database"], "app1": ["app"], "app2": ["app", "worker"]}


def test_first_database_host_is_the_primary_unless_another_is_named(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, {"db2": "10.0.0.2"}, vault_postgresql_password="x")
    assert [resolve(host, "postgresql_primary_address") for host in ("db1", "db2", "db3")] == ["", "db1", "db1"]
    assert resolve("db2", "postgresql_peers") == [{"name": "db1", "address": "db1"}, {"name": "db3", "address": "db3"}]
    assert resolve("db1", "postgresql_members") == {"db1": {}, "db2": {}, "db3": {}}
    assert urlsplit(resolve("app1", "topology_database_url")).hostname == "db1"


def test_named_primary_is_it_everywhere(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, topology_database_primary="db2", vault_postgresql_password="x")
    assert [resolve(host, "postgresql_primary_address") for host in ("db1", "db2", "db3")] == ["db2", "", "db2"]
    assert urlsplit(resolve("app1", "topology_database_url")).hostname == "db2"
    assert resolve("app1", "topology_database_replicas") == ["db1", "db3"]


def test_primary_that_is_no_host_of_the_group_is_refused(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, topology_database_primary="app1")
    with pytest.raises(AnsibleError, match="topology_database_primary is app1, which is no host of the group database"):
        resolve("db1", "postgresql_primary_address")


def test_readers_share_the_replicas(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, vault_postgresql_reader_password="a/b")
    urls = [urlsplit(resolve(host, "topology_database_replica_url")) for host in ("app1", "app2", "db3")]
    assert [url.hostname for url in urls] == ["db2", "db3", "127.0.0.1"]
    assert (urls[0].username, unquote(urls[0].password or ""), urls[0].path) == ("my_app_ro", "a/b", "/my_app")


def test_readers_without_a_replica_read_the_primary(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in({"db1": ["database"], "app1": ["app"]}, vault_postgresql_reader_password="x")
    assert urlsplit(resolve("app1", "topology_database_replica_url")).hostname == "db1"
    assert resolve("db1", "postgresql_peers") == []


def test_pool_is_there_where_it_is_enabled(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, pgbouncer_enabled=True, vault_postgresql_password="x")
    assert urlsplit(resolve("app1", "topology_database_pool_url")).netloc.rpartition("@")[2] == "db1:6432"


def test_pool_that_is_not_enabled_is_refused(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(DATABASES, vault_postgresql_password="x")
    with pytest.raises(AnsibleError, match="pgbouncer_enabled is false"):
        resolve("app1", "topology_database_pool_url")


def test_limits_of_the_web_server_follow_from_each_other(resolve_in: Callable[..., Resolve]) -> None:
    """Each side's limits are known to the other, on whichever host each is."""
    resolve = resolve_in(
        MANY, ADDRESSES, gunicorn_timeout=120, nginx_request_header_size="32k", nginx_client_max_body_size="25m"
    )
    assert resolve("edge1", "nginx_upstream_timeout") == 120
    assert resolve("edge1", "nginx_proxy_timeout") == 125
    assert resolve("app2", "gunicorn_graceful_timeout") == 120
    assert resolve("app2", "gunicorn_limit_request_field_size") == 8 * 32768
    assert resolve("app2", "topology_upload_bytes") == 25 * 2**20


def test_edges_of_the_site_are_believed_and_nobody_else(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(MANY, ADDRESSES)
    assert resolve("app1", "gunicorn_forwarded_allow_ips") == ["127.0.0.1", "::1", "10.0.0.6"]
    assert resolve("app2", "gunicorn_forwarded_allow_ips") == ["127.0.0.1", "::1", "10.0.0.3", "10.0.0.6"]


def test_redirect_takes_its_own_path_alone(resolve_in: Callable[..., Resolve]) -> None:
    redirects = [{"path": "/", "to": "/en/"}, {"path": "/shop/", "to": "/store/"}]
    resolve = resolve_in(MANY, ADDRESSES, nginx_redirects=redirects, nginx_denied_locations=["/internal", "~ [.]bak$"])
    asked = ["/healthz", "/shop/cart/", "/", "/shop/", "/static/x.css", "/internal/x"]
    assert urls.paths_below(asked, resolve("app1", "release_edge_paths")) == [
        "/", "/shop/", "/static/x.css (below /static/)", "/internal/x (below /internal)",
    ]  # fmt: skip


def test_wildcard_is_no_main_name(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(ONE, nginx_server_names=["*.example.com", "example.com"], tls_mode="selfsigned")
    assert resolve("www", "topology_url") == "https://example.com"
    assert resolve("www", "release_probe_host") == "example.com"
    assert resolve("www", "topology_allowed_hosts") == [".example.com", "example.com"]
    assert resolve("www", "tls_names") == ["*.example.com", "example.com"]


def test_health_checks_by_address_are_let_in(resolve_in: Callable[..., Resolve]) -> None:
    resolve = resolve_in(ONE, nginx_health_port=8088, nginx_health_allowed=["10.0.0.0/8"])
    assert openings(resolve, "www")[8088, "tcp"] == {"10.0.0.0/8"}
    assert resolve("www", "nginx_health_path") == "/healthz"
