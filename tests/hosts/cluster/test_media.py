"""Uploads: whichever host takes one, every host has it; a folder that only looks shared is refused."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator

import pytest
from conftest import APP, Servers, Site, live_unit, main_pid
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]

MEDIA = f"/srv/{APP}/media"
STORE = (
    "from django.core.files.base import ContentFile; from django.core.files.storage import default_storage as storage;"
)


def test_upload_is_there_on_every_host(manage: Callable[..., str], servers: Servers) -> None:
    text = secrets.token_hex(20)
    save = f"{STORE} name = storage.save('probe.txt', ContentFile({text!r})); print(name, storage.url(name))"
    name, url = manage("shell", "-v0", "-c", save).split()
    for edge in servers.of("edge"):
        answer = Site(f"http://{edge.ansible.get_variables()['ansible_host']}").get(url)
        assert (answer.status_code, answer.text) == (200, text)
    read = f"{STORE} print(storage.open({name!r}).read().decode())"
    for other in servers.of("app") + servers.of("worker"):
        assert other.check_output("%s-manage shell -v0 -c %s", APP, read) == text
    # What one host wrote another may change and remove.
    servers.first("worker").check_output("%s-manage shell -v0 -c %s", APP, f"{STORE} storage.delete({name!r})")
    assert not servers.first("app").file(f"{MEDIA}/{name}").exists


@pytest.fixture
def own_folder(servers: Servers) -> Iterator[Host]:
    """Give the last host of the application a folder of its own for uploads."""
    host = servers.of("app")[-1]
    host.check_output("mount -t tmpfs -o size=1m,mode=755 none %s && chown %s: %s", MEDIA, APP, MEDIA)
    yield host
    host.check_output("umount %s", MEDIA)


@pytest.mark.disruptive
@pytest.mark.runs_on("app", first=True)
def test_folder_that_is_not_shared_is_refused(servers: Servers, own_folder: Host, site_playbook: Callable) -> None:
    serving = [main_pid(host, live_unit(host, "web")) for host in servers.of("app")]
    result = site_playbook("deploy.yml", "--extra-vars", json.dumps({"gunicorn_workers": 3}))
    said = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert f"{MEDIA} on {own_folder.backend.host} is not that of the first host" in said, result.stdout[-4000:]
    assert [main_pid(host, live_unit(host, "web")) for host in servers.of("app")] == serving
