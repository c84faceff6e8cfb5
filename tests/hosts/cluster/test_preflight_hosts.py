"""An inventory that cannot work is refused before any host of the site is changed; the plan is what hosts have.

What can be told without hosts is told in tests/unit/test_refused_inventories.py; here is what they are asked.
"""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from conftest import APP, Playbooks, recap
from testinfra.host import Host

testinfra_hosts = ["local://"]


@pytest.mark.parametrize(
    ("variables", "said"),
    [
        ({"ansible_become": False}, "answers as the user with the number"),
        ({"ansible_port": 1}, "cannot be reached: "),
        ({"ansible_user": "nobody"}, "cannot be reached: "),
    ],
    ids=str,
)
def test_hosts_that_cannot_be_used_are_one_line(
    variables: dict[str, object], said: str, hosts: dict[str, Host], playbook: Playbooks
) -> None:
    result = playbook("site.yml", "--extra-vars", json.dumps(variables))
    assert result.returncode != 0
    text = " ".join(result.stdout.split())
    assert said in text, result.stdout[-6000:]
    counts = recap(result.stdout)
    assert counts.keys() >= hosts.keys()
    assert all(own["changed"] == own["unreachable"] == 0 for own in counts.values())


def test_plan_is_what_the_hosts_have(hosts: dict[str, Host], tmp_path: Path, playbook: Playbooks) -> None:
    """What gunicorn is configured with is what was planned, on each host that serves the application."""
    page = tmp_path / "plan.html"
    result = playbook("plan_capacity.yml", "--extra-vars", f"slipway_plan_file={page}")
    assert result.returncode == 0, result.stdout
    assert "It fits." in result.stdout
    text = page.read_text(encoding="utf-8")
    assert all(f"<b>{name}</b>" in text for name in hosts)
    planned = dict(
        re.findall(r"^ +(\S+) .* (\d+) by (?:cores|memory|connections|set) \(", result.stdout, flags=re.MULTILINE)
    )
    assert planned
    for name, workers in planned.items():
        configured = hosts[name].file(f"/etc/{APP}/services/web/gunicorn.conf.py").content_string
        assert f"\nworkers = {workers}\n" in configured, name
