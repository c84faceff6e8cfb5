#!/usr/bin/env python3
"""Write an inventory of many hosts that exist nowhere, for the capacity plan: hosts.py FOLDER [NUMBER OF HOSTS].

One host has PostgreSQL and one Redis; of the others six tenths serve the application, three run workers and one is
edge. What a host has is stated by variables, so that the plan and preflight ask none of them. The hosts are named by
their kind.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from ansible.plugins.loader import init_plugin_loader

ROOT = Path(__file__).resolve().parents[2]
CORES = {"database": 16, "redis": 4, "app": 4, "worker": 8, "edge": 2}
MEMORY_MB = {"database": 65536, "redis": 16384, "app": 8192, "worker": 16384, "edge": 2048}
SECRETS = (
    *("django_secret_key", "postgresql_password", "postgresql_reader_password", "postgresql_replication_password"),
    *("redis_broker_password", "redis_cache_password"),
)


def kinds(count: int) -> dict[str, int]:
    """Return how many hosts of each kind there are among `count`."""
    rest = count - 2
    edge, worker = max(1, rest // 10), max(1, rest * 3 // 10)
    return {"database": 1, "redis": 1, "app": rest - edge - worker, "worker": worker, "edge": edge}


def authority() -> str:
    """Return an authority as playbooks/secrets.yml makes one."""
    init_plugin_loader([str(ROOT / "collections")])
    from ansible_collections.slipway.kit.plugins.plugin_utils.authority import new_authority

    return new_authority()


def write(folder: Path, count: int = 100, **variables: object) -> dict[str, list[str]]:
    """Write the inventory, with further variables for all hosts, and return the hosts of each kind."""
    groups = {kind: [f"{kind}{number}" for number in range(1, of + 1)] for kind, of in kinds(count).items()}
    names = [name for members in groups.values() for name in members]
    inventory: dict[str, object] = {
        "all": {
            "hosts": {
                name: {"ansible_host": f"10.0.{number // 250}.{number % 250 + 1}"} for number, name in enumerate(names)
            }
        }
    }
    for kind, members in groups.items():
        inventory[kind] = {"hosts": dict.fromkeys(members)}
    own = {
        "django_app_name": "many",
        "django_app_source": str(ROOT / "app"),
        "django_app_media": "elsewhere",
        "django_app_environment": {"DATABASE_URL": "{{ topology_database_url }}", "SITE_URL": "{{ topology_url }}"},
        "nginx_server_names": ["www.example.com"],
        "topology_offline": True,
        "secrets_encrypted": False,
        "postgresql_max_connections": 1000,
    }
    own["vault_site_authority"] = authority()
    own |= {f"vault_{name}": f"{name}-q8Zt63nQp0Lk47Vs" for name in (*SECRETS, "redis_admin_password")}
    texts = {"hosts.json": inventory, "group_vars/all/variables.json": own | variables}
    for kind in groups:
        stated = {"topology_cores": CORES[kind], "topology_memory_mb": MEMORY_MB[kind], "topology_disk_mb": 51200}
        texts[f"group_vars/{kind}/hardware.json"] = stated
    for path, content in texts.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(json.dumps(content, indent=1), encoding="utf-8")
    return groups


if __name__ == "__main__":
    write(Path(sys.argv[1]), *map(int, sys.argv[2:]))
