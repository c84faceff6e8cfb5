"""A site of the version before is upgraded to this one, by the steps of docs/upgrading.md and under load."""

from __future__ import annotations

import json
from collections import Counter

import pytest
from conftest import APP, PROJECT, Playbooks, Site, Visitors, changes, state_of, wait_until
from testinfra.host import Host

from ansible_collections.slipway.kit.plugins.plugin_utils.version import kit_version

testinfra_hosts = ["ansible://app"]

# What converge.yml has written and the version before was used with.
INVENTORY = PROJECT / ".cache/upgrade/site"
ROWS = (
    "SELECT (SELECT count(*) FROM blog_post), (SELECT count(*) FROM blog_comment), (SELECT max(id) FROM accounts_user)"
)
RECORD = "/var/lib/slipway-applied/site.json"


@pytest.fixture(scope="module")
def upgrade() -> Playbooks:
    """Return what runs the playbooks of this version against the inventory of the version before."""
    return Playbooks(str(INVENTORY))


def rows(host: Host) -> str:
    """Return how many posts and comments the site has, and the newest account."""
    return host.check_output("runuser -u postgres -- psql -d %s -Atqc %s", APP, ROWS)


def test_site_is_upgraded_under_load_by_the_documented_steps(host: Host, site: Site, upgrade: Playbooks) -> None:
    before, kept = state_of(host), rows(host)

    # As it is, the inventory is refused with what to do, and nothing is changed.
    refused = upgrade("site.yml")
    assert refused.returncode != 0, refused.stdout[-4000:]
    assert "topology.yml" in refused.stdout and "docs/upgrading.md" in refused.stdout, refused.stdout[-4000:]
    assert state_of(host) == before

    (INVENTORY / "group_vars/all/topology.yml").unlink()
    secrets = upgrade("secrets.yml")
    assert secrets.returncode == 0, secrets.stdout[-4000:]
    files = sorted(path.name for path in INVENTORY.rglob("*") if path.is_file())
    assert files == ["hosts.yml", "variables.yml", "vault.yml"]

    with Visitors(site, count=8) as visitors:
        wait_until(lambda: len(visitors.answers) > 50, "the load has not begun")
        done = upgrade("site.yml")
        after = len(visitors.answers)
        wait_until(lambda: len(visitors.answers) > after + 50, "the load has ended early")
    assert done.returncode == 0, done.stdout[-6000:]
    assert set(visitors.answers) == {"200"}, Counter(visitors.answers)
    assert rows(host) == kept
    print(f"{len(visitors.answers)} requests during the upgrade, none failed")

    again = upgrade("site.yml")
    assert again.returncode == 0, again.stdout[-6000:]
    assert changes(again.stdout) == []


def test_version_is_recorded_and_an_older_one_refused(host: Host, upgrade: Playbooks) -> None:
    assert json.loads(host.check_output("cat %s", RECORD))["version"] == kit_version()
    shown = upgrade("status.yml")
    assert f"Slipway {kit_version()}" in shown.stdout and "was set up by" not in shown.stdout, shown.stdout[-4000:]

    # As if a newer version had upgraded the site from another checkout.
    host.check_output(
        """cp -p %s /root/site.json && sed -i 's/"version": "[^"]*"/"version": "99.0.0"/' %s""", RECORD, RECORD
    )
    try:
        state = state_of(host)
        refused = upgrade("deploy.yml")
        assert refused.returncode != 0 and state_of(host) == state, refused.stdout[-4000:]
        assert "Slipway 99.0.0 has set up this host, and this is the older version" in refused.stdout
    finally:
        host.check_output("mv /root/site.json %s", RECORD)
