"""What the tests of releases share: the site on two servers, sources that differ, deploys, what serves where."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from conftest import APP, PROJECT, Playbooks, Site, live_unit, main_pid
from testinfra import get_host
from testinfra.host import Host

HOSTS = ("first", "second")
FOLDER = f"/srv/{APP}"


@dataclass
class Cluster:
    """A site on two servers."""

    playbook: Playbooks
    sources: Path
    hosts: dict[str, Host] = field(default_factory=dict)
    sites: list[Site] = field(default_factory=list)

    def __post_init__(self) -> None:
        """Connect to the servers."""
        for name in HOSTS:
            self.hosts[name] = get_host(f"ansible://{name}?ansible_inventory={self.playbook.inventory}")
            self.sites.append(Site(f"http://{self.hosts[name].ansible.get_variables()['ansible_host']}"))

    def source(self, name: str, change: Callable[[Path], None] = lambda folder: None) -> list[str]:
        """Return the words that have a deploy take a copy of the application that `change` has changed."""
        folder = self.sources / name
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(PROJECT / "app", folder, ignore=shutil.ignore_patterns("__pycache__", ".*_cache"))
        settings = folder / "config/settings.py"
        settings.write_text(settings.read_text() + f"\n# {name}\n")
        change(folder)
        return ["--extra-vars", f"django_app_source={folder}"]

    def deploy(self, *arguments: str, playbook: str = "deploy.yml") -> str:
        """Deploy, and return what Ansible said; fail when it failed."""
        result = self.playbook(playbook, *arguments)
        if result.returncode != 0:
            pytest.fail(result.stdout[-6000:])
        return result.stdout

    def serving(self) -> dict[str, tuple[str, int, str]]:
        """Return the unit, the pid and the release of each service that serves, by host and service."""
        found = {}
        for name, host in self.hosts.items():
            for service in ("web", "celery-default", *(["celery-beat"] if name == "first" else [])):
                unit = live_unit(host, service)
                slot = unit.split("@")[1][0]
                release = host.check_output(f"readlink -f {FOLDER}/slots/{service}/{slot}/release")
                found[f"{name} {service}"] = (unit, main_pid(host, unit), Path(release).name)
        return found

    def releases(self) -> set[str]:
        """Return the releases that serve anywhere; one, when all is well."""
        return {release for _, _, release in self.serving().values()}

    def lock(self) -> dict:
        """Return who holds the lock of deployments, nothing when nobody does."""
        return json.loads(self.hosts["first"].run(f"cat {FOLDER}/deploy.lock").stdout or "{}")

    def log(self, host: str = "first") -> list[dict]:
        """Return the release log of a host."""
        return [json.loads(line) for line in self.hosts[host].check_output(f"cat {FOLDER}/deploy.log").splitlines()]

    def only_live_slots_run(self) -> bool:
        """Tell whether no slot runs but those that serve."""
        for host in self.hosts.values():
            running = host.check_output(
                "systemctl list-units --plain --no-legend --state=active,activating '%s-*@*.service' | cut -d' ' -f1",
                APP,
            ).split()
            services = host.check_output(f"ls {FOLDER}/slots").split()
            if sorted(running) != sorted(live_unit(host, service) for service in services):
                return False
        return True


def append(path: str, text: str) -> Callable[[Path], None]:
    """Return a change that puts text behind a file of the source."""

    def change(folder: Path) -> None:
        file = folder / path
        file.write_text((file.read_text() if file.exists() else "") + text)

    return change


def psql(host: Host, statement: str) -> str:
    """Ask the application's database as the superuser."""
    return host.check_output("runuser -u postgres -- psql -d %s -Atc %s", APP, statement)


def stylesheets(site: Site) -> set[str]:
    """Return the paths of the style sheets that the front page names."""
    return set(re.findall(r'href="(/static/[^"]+\.css)"', site.get("/").text))


def restart(host: Host) -> None:
    """Restart a server, and do not wait for it."""
    variables = host.ansible.get_variables()
    container = f"{variables['test_network_name']}-{variables['inventory_hostname']}"
    settings = {
        "CONTAINERS_CONF": str(Path.home() / ".cache/slipway/containers.conf"),
        "PATH": "/usr/bin:/bin:/usr/sbin:/sbin",
    }
    subprocess.run(["podman", "restart", container], env=settings, check=True, capture_output=True)
