"""Inventories that cannot work: what is wrong with each, and what preflight says of it.

tests/unit tries them all in one run, a site for each; tests/hosts/cluster tries each alone, on real hosts.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

from certificates import OperatorFiles

SECRET = "q8Zt63nQp0Lk47Vs"
# All that Unix, YAML, Jinja, systemd, a shell or a URL could stumble over.
ODD = """ a'b"c@d%e#f$g{h}i/j:k?l&m=n+o\\p`q;ä€ """
TWICE = "base_journald_max_use: 2G\nbase_timezone: UTC\nbase_journald_max_use: 1G\n"
ACME = {"tls_mode": "acme", "tls_acme_email": "a@example.com"}
PLAIN = (
    *("postgresql", "postgresql_reader", "postgresql_replication"),
    *("redis_admin", "redis_broker", "redis_cache"),
)
NAMES = {"nginx_server_names", "tls_names"}

# Host, by the row of the matrix: what is wrong with it, as variables or as the text of its file; the variables that
# are told, with those that are made of them, and a name in a file of YAML with an @; what is said.
Row = tuple[dict[str, Any] | str, set[str], str]
ROWS: dict[str, Row] = {
    "r01-port": (
        {"nginx_http_port": 99999},
        {"nginx_http_port", "release_edge_port"},
        "must be a port from 1 to 65535",
    ),
    "r01-socket": ({"gunicorn_listen": ["10.0.0.1:99999"]}, {"gunicorn_listen"}, "with ports from 1 to 65535"),
    "r02-negative": ({"redis_broker_port": -5}, {"redis_broker_port"}, "must be a port from 1 to 65535"),
    "r02-none": ({"postgresql_port": 0}, {"postgresql_port"}, "must be a port from 1 to 65535"),
    "r03-text": ({"postgresql_port": "80a"}, {"postgresql_port"}, "must be a whole number"),
    "r04-twice": ({"redis_cache_port": 5432}, {""}, "port 5432 is wanted by PostgreSQL and by Redis cache"),
    "r06-misspelt": ({"gunicorn_wokers": 2}, {"gunicorn_wokers"}, "did you mean gunicorn_workers?"),
    "r06-prefix": ({"ngimx_http_port": 80}, {"ngimx_http_port"}, "did you mean nginx_http_port?"),
    "r07-list": ({"postgresql_extensions": "a,b"}, {"postgresql_extensions"}, "write a list: [a, b]"),
    "r08-blank": ({"base_timezone": "  "}, {"base_timezone"}, "is blank, must be text"),
    "r08-empty": (
        {"nginx_server_names": []},
        {"nginx_server_names", "release_probe_host", "gunicorn_warm_up"},
        "is empty and required",
    ),
    "r09-null": (
        {"gunicorn_timeout": None},
        {"gunicorn_timeout", "gunicorn_graceful_timeout"},
        "is null, must be a whole number",
    ),
    "r10-name": (
        {"postgresql_database": "a; drop table b"},
        {"postgresql_database"},
        "must match ^[a-z_][a-z0-9_]{0,62}$",
    ),
    "r10-long": ({"postgresql_user": "a" * 64}, {"postgresql_user"}, "must match ^[a-z_][a-z0-9_]{0,62}$"),
    "r11-scheme": ({"nginx_server_names": ["https://a.example"]}, NAMES, "must be host names without scheme"),
    "r11-underscore": ({"nginx_server_names": ["a_b.example"]}, NAMES, "must be host names without scheme"),
    "r11-blank": (
        {"nginx_server_names": ["a.example "]},
        NAMES | {"gunicorn_warm_up"},
        "without scheme, port or blanks",
    ),
    "r11-address": (ACME | {"nginx_server_names": ["192.0.2.1"]}, {"tls_names"}, "must be names: a client that asks"),
    "r12-wildcard": (
        ACME | {"tls_names": ["*.a.example"]},
        {"tls_names"},
        "a file proves one name, never all below it",
    ),
    "r13-short": ({"vault_postgresql_password": "k9!tZ4hq"}, {"postgresql_password"}, "8 characters, needs 16"),
    "r13-known": ({"redis_cache_password": "changeme-changeme"}, {"redis_cache_password"}, "everybody knows"),
    "r14-plain": (
        {"topology_plain_secrets": "refuse", "vault_redis_admin_password": f"a-{SECRET}"},
        {f"vault_{name}_password" for name in PLAIN},
        "stands there as plain text",
    ),
    "r15-newline": ({"postgresql_password": f"{SECRET}\nx"}, {"postgresql_password"}, "holds a newline"),
    "r17-group": ({}, {"django_app_environment"}, "needs a host in the group redis, which has none"),
    "r20-one": ({"ansible_host": "10.9.9.9"}, {"ansible_host"}, "10.9.9.9 is the address of r20-one and of r20-two"),
    "r20-two": ({"ansible_host": "10.9.9.9"}, {"ansible_host"}, "10.9.9.9 is the address of r20-one and of r20-two"),
    "r21-one": ({"topology_offline": False, "ansible_host": "127.0.0.1"}, {""}, "cannot be reached: "),
    "r21-two": ({"topology_offline": False, "ansible_host": "127.0.0.2"}, {""}, "cannot be reached: "),
    "r24-disk": ({"topology_disk_mb": 409}, {"topology_disk_mb"}, "0.4 GiB are free, and 4.5 GiB are needed"),
    "r24-memory": ({"topology_memory_mb": 1100}, {"topology_memory_mb"}, "and the host has 1100 MiB"),
    "r25-redis": ({"redis_broker_memory_mb": 3000}, {"topology_memory_mb"}, "3000 Redis broker"),
    "r25-postgresql": ({"postgresql_memory_mb": 16000}, {"topology_memory_mb"}, "4000 shared_buffers"),
    "r26-workers": (
        {"gunicorn_workers": 12, "postgresql_max_connections": 30},
        {"postgresql_max_connections"},
        "12 gunicorn (1 host x 12 workers) + 2 Celery and services + 1 beat and timers + 10 kept for administration + "
        "12 gunicorn's second generation + 2 Celery's second generation + 2 trial and migrations = 41 connections",
    ),
    "r28-twice": (
        {"celery_task_time_limit": 900, "celery_visibility_timeout": 600},
        {"celery_task_time_limit"},
        "they would run twice",
    ),
    "r33-ref": (
        {"django_app_source_type": "git", "django_app_source": "SOURCE", "django_app_version": "v9"},
        {"django_app_version"},
        "v9",
    ),
    "r34-hashes": (
        {"django_app_require_hashes": True, "django_app_source": "SOURCE"},
        {"django_app_require_hashes"},
        "django (requirements.txt)",
    ),
    "r38-world": ({"postgresql_allowed_clients": ["0.0.0.0/0"]}, {"postgresql_allowed_clients"}, "to the world"),
    "r38-cidr": ({"postgresql_allowed_clients": ["10.0.0.1/33"]}, {"postgresql_allowed_clients"}, "10.0.0.1/33"),
    "r38-bits": ({"nginx_trusted_proxies": ["10.0.0.5/24"]}, {"nginx_trusted_proxies"}, "the network is 10.0.0.0/24"),
    "r38-redis": ({"redis_listen_addresses": ["0.0.0.0"]}, {"redis_listen_addresses"}, "opens Redis to the world"),
    "r41-memory": (
        {"gunicorn_worker_memory_mb": "2 GB"},
        {"gunicorn_worker_memory_mb"},
        "write 2048, the number of MiB",
    ),
    "r41-short": ({"redis_cache_memory_mb": "512mb"}, {"redis_cache_memory_mb"}, "write 512, the number of MiB"),
    "r41-time": (
        {"gunicorn_timeout": "1h"},
        {"gunicorn_timeout", "gunicorn_graceful_timeout"},
        "write 3600, the number of seconds",
    ),
    "r42-on": ("base_timezone: on\n", {"base_timezone"}, "without them YAML takes yes, no, on and off"),
    "r42-key": ("on: 1\n", {"@on"}, "is a key that YAML reads as True"),
    "r42-octal": ("my_mode: 0755\n", {"@my_mode"}, "0755 is octal for YAML, which reads 493"),
    "r42-float": ("gunicorn_max_requests: 1e3\n", {"@gunicorn_max_requests", "gunicorn_max_requests"}, "write 1000"),
    "r42-twice": (TWICE, {"@base_journald_max_use"}, "stands in line 1 already"),
    # Out of the bounds that stand beside the specification; tests/unit/test_bounds.py tries many more.
    "r43-system": ({"topology_system_memory_mb": -9999}, {"topology_system_memory_mb"}, "must be from 64 to 65536 MiB"),
    "r43-swap": ({"hardening_swap_size": 1073741824}, {"hardening_swap_size"}, "must be from 16 to 65536"),
    "r43-workers": ({"celery_workers": []}, {"celery_workers"}, "celery_beat sends tasks that nobody takes"),
    "r43-flush": ({"firewall_extra_rules": ["flush ruleset"]}, {"firewall_extra_rules"}, "no command of nft"),
    "r43-user": ({"base_sandbox_settings": {"User": "root"}}, {"base_sandbox_settings"}, "decided by the kit"),
    "r43-listen": (
        {"postgresql_settings": {"listen_addresses": "*"}},
        {"postgresql_settings"},
        "is set by postgresql_listen_addresses, and not here",
    ),
    "r43-nul": ({"django_app_environment": {"A": "a\0b"}}, {"django_app_environment"}, "holds a NUL"),
    "r43-wiring": ({"topology_adress": "10.0.0.9"}, {"topology_adress"}, "did you mean topology_address?"),
    "pair-timeout": ({"gunicorn_timeout": 120, "nginx_proxy_timeout": 60}, {"nginx_proxy_timeout"}, "get 504"),
    "pair-graceful": (
        {"gunicorn_timeout": 120, "gunicorn_graceful_timeout": 30},
        {"gunicorn_graceful_timeout"},
        "a deploy would cut requests",
    ),
    "pair-soft": (
        {"celery_workers": [{"name": "default", "soft_time_limit": 400}]},
        {"celery_workers"},
        "and so never comes: default (400 s)",
    ),
    "name-idna": ({"nginx_server_names": ["bücher.example"]}, NAMES, "xn--bcher-kva.example: write that"),
    "name-wildcard": (
        ACME | {"nginx_server_names": ["example.com", "*.example.com"]},
        {"tls_names"},
        "a file proves one name, never all below it",
    ),
    "path-static": (
        {"release_smoke_paths": [{"path": "/static/site.css"}]},
        {"release_smoke_paths"},
        "has /static/site.css (below /static/): Nginx answers it itself",
    ),
    "path-media": (
        {"release_health_path": "/dateien/a", "nginx_media_url": "/dateien/"},
        {"release_health_path"},
        "Nginx answers it itself",
    ),
    "path-redirect": (
        {"release_smoke_paths": [{"path": "/alt/"}], "nginx_redirects": [{"path": "/alt/", "to": "/"}]},
        {"release_smoke_paths"},
        "Nginx answers it itself",
    ),
    # A wildcard beside a name, one timeout alone, and paths of any letters are sound.
    "sound-wide": (
        {
            "nginx_server_names": ["example.com", "*.example.com"],
            "tls_mode": "selfsigned",
            "gunicorn_timeout": 120,
            "release_smoke_paths": [{"path": "/über uns/?q=100%"}, {"path": "/alt/b/"}],
            "nginx_redirects": [{"path": "/", "to": "/en/"}, {"path": "/alt/", "to": "/neu/"}],
            "nginx_media_url": "none",
        },
        set(),
        "",
    ),
    # Secrets of any characters work, and a sound host has no fault.
    "sound": ({"vault_postgresql_password": ODD, "vault_redis_broker_password": ODD}, set(), ""),
}
TLS: dict[str, tuple[Callable[[OperatorFiles], object], str]] = {
    "r29-key": (lambda files: files.private(files.middle), "is not the key of the certificate"),
    "r30-ended": (lambda files: files.chain(files.leaf(days=-0.5, begin=-2), files.intermediate), "has ended on"),
    "r30-name": (
        lambda files: files.chain(files.leaf(names=("other.example",)), files.intermediate),
        "does not cover www.example.com",
    ),
    "r30-chain": (lambda files: files.chain(files.leaf()), "the intermediate certificate is missing"),
    "r31-mode": (lambda files: files.key.chmod(0o644), "anybody can read it (mode 0644)"),
    "r32-missing": (lambda files: files.certificate.unlink(), "is no file on the control node"),
    "sound-tls": (lambda files: None, ""),
}


def write_source(folder: Path) -> None:
    """Write the smallest application that has a version, in a repository of git; rows call its folder SOURCE."""
    folder.mkdir()
    (folder / "manage.py").touch()
    (folder / "requirements.txt").write_text("django\n", encoding="utf-8")
    git = ["git", "-c", "user.name=x", "-c", "user.email=x@example.com", "-C", str(folder)]
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "x"]):
        subprocess.run([*git, *words], check=True)
