"""One site on eight servers."""

from __future__ import annotations

import requests
from testinfra.host import Host

testinfra_hosts = ["ansible://edge"]


def test_every_edge_host_serves_the_site(host: Host) -> None:
    """A visitor gets the same site from each Nginx."""
    address = host.ansible.get_variables()["ansible_host"]
    answer = requests.get(f"http://{address}/posts/", timeout=15)
    assert answer.status_code == 200
    assert "Stories" in answer.text
