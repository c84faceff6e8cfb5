"""One site on many servers: every Nginx shows it, every host has the same release."""

from __future__ import annotations

import json
import re
import secrets

import pytest
from conftest import APP, Servers, Site
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]


@pytest.fixture
def all_sites(servers: Servers) -> list[Site]:
    """Return the site by each of its Nginx."""
    return [Site(f"http://{edge.ansible.get_variables()['ansible_host']}") for edge in servers.of("edge")]


@pytest.mark.runs_on("edge", first=True)
@pytest.mark.parametrize("path", ["/posts/", "/shop/", "/search/?q=harbour"])
def test_every_edge_host_serves_the_same(all_sites: list[Site], articles: None, path: str) -> None:
    answers = [site.get(path) for site in all_sites]
    assert len(answers) > 1 and {answer.status_code for answer in answers} == {200}
    # A page has the visitor's token in it, which is new each time.
    assert len({re.sub(r'csrfmiddlewaretoken" value="[^"]+"', "", answer.text) for answer in answers}) == 1
    sheets = {sheet for answer in answers for sheet in re.findall(r'href="(/static/[^"]+\.css)"', answer.text)}
    assert sheets
    for sheet in sheets:
        assert len({(site.get(sheet).text, site.get(sheet).headers["ETag"]) for site in all_sites}) == 1


def test_every_edge_host_asks_every_host_of_the_application(host: Host, servers: Servers, site: Site) -> None:
    mark = f"/healthz?{secrets.token_hex(8)}"
    for _ in range(8):
        assert site.get(mark).status_code == 200
    log = host.check_output("grep -F -- %s /var/log/nginx/access.log", mark).splitlines()
    asked = {json.loads(line)["upstream"] for line in log}
    assert asked == {f"{app.ansible.get_variables()['ansible_host']}:8000" for app in servers.of("app")}


@pytest.mark.runs_on("edge", first=True)
def test_one_release_serves_everywhere(servers: Servers) -> None:
    releases = {}
    for name in dict.fromkeys(servers.names["app"] + servers.names["worker"]):
        host = servers.host(name)
        for service in host.check_output("ls /srv/%s/slots", APP).split():
            slot = host.check_output("readlink /srv/%s/slots/%s/live", APP, service)
            releases[name, service] = host.check_output("readlink -f /srv/%s/slots/%s/%s/release", APP, service, slot)
    assert len(releases) > len(servers.names["app"]) and len(set(releases.values())) == 1, releases
