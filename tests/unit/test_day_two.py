"""What status.yml shows and patch_hosts.yml plans, from what hosts say of themselves."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, load_yaml

from ansible_collections.slipway.kit.plugins.action import patch_plan as plan
from ansible_collections.slipway.kit.plugins.action import status_table as status
from ansible_collections.slipway.kit.plugins.plugin_utils.version import is_newer, kit_version

APP = {
    "application": "shop",
    "units": {"shop-web@a.service": "active", "shop-web.socket": "active"},
    "failed": [],
    "enabled": [],
    "serves": {"0123456789ab": ["web"]},
    "migrations": {"pending": 0, "conflicts": 0, "lines": []},
    "disk": {"/": 40},
    "memory": {"all": 4096, "available": 2048},
    "load": [0.5, 2.0],
    "updates": 0,
    "reboot": [],
    "uptime": 90000,
    "firewall": True,
}
DATABASE = APP | {
    "serves": {},
    "database": {
        "replica": False, "connections": 10, "most": 100, "seconds": 0, "follows": None,
        "replicas": [{"name": "db2", "address": "10.0.0.2", "state": "streaming", "bytes": 0}],
    },
}  # fmt: skip
EDGE = APP | {"certificate": 60, "nginx": {"drained": [], "maintenance": False, "leaving": False}}
SEEN = {"app1": {"state": APP}, "db1": {"state": DATABASE}, "edge1": {"state": EDGE}}


def start(state: str, restarts: int, result: str, seconds: int) -> dict[str, Any]:
    """Return what host_state says of the starts of a unit."""
    return {"state": state, "restarts": restarts, "result": result, "seconds": seconds}


def test_unit_that_starts_is_not_counted_as_running() -> None:
    starts = {"shop-web@a.service": start("activating", 0, "success", 5)}
    lines, _ = status.screen(SEEN | {"app1": {"state": APP | {"starts": starts}}})
    assert re.match(r"app1 +\d+ of \d+ run ", lines[1])


def test_restart_of_long_ago_and_a_database_ahead_are_told_and_need_nobody() -> None:
    state = APP | {
        "starts": {"shop-web@a.service": start("active", 1, "success", 90000)},
        "migrations": {"pending": 0, "conflicts": 0, "lines": ["unknown to the release: shop.0002"]},
    }
    lines, needs = status.screen(SEEN | {"app1": {"state": state}})
    assert needs == [] and "all is well" in lines
    assert "app1: shop-web@a.service was restarted once by systemd, up for 1 d" in lines
    assert "app1: migrations: unknown to the release: shop.0002" in lines


@pytest.mark.parametrize(
    ("version", "need"),
    [
        ("", "app1: was set up by a Slipway before 1.0.0, this is {}: run site.yml (docs/upgrading.md)"),
        ("0.9.10", "app1: was set up by Slipway 0.9.10, this is {}: run site.yml (docs/upgrading.md)"),
        ("99.0.0", "app1: was set up by Slipway 99.0.0, this is {}: update this checkout (docs/upgrading.md)"),
    ],
)
def test_host_of_another_version_is_told(version: str, need: str) -> None:
    _, needs = status.screen(SEEN | {"app1": {"state": APP | {"version": version}}})
    assert needs == [need.format(kit_version())]


def test_version_is_shown_and_the_same_everywhere_needs_nobody() -> None:
    lines, needs = status.screen(SEEN | {"app1": {"state": APP | {"version": kit_version()}}})
    assert f"Slipway {kit_version()}" in lines and needs == []


def test_version_is_read_from_a_checkout_and_from_an_installed_collection(tmp_path: Path) -> None:
    assert kit_version() == load_yaml(ROOT / "galaxy.yml")["version"]
    assert f"\n## {kit_version()}\n" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    (tmp_path / "MANIFEST.json").write_text('{"collection_info": {"version": "7.8.9"}}', encoding="utf-8")
    assert kit_version(tmp_path) == "7.8.9"
    assert is_newer("1.10.0", "1.9.9") and not is_newer("1.0.0", "1.0.0") and not is_newer("", "1.0.0")


def test_screen_of_a_site_that_is_well() -> None:
    lines, needs = status.screen(SEEN)
    assert needs == []
    assert lines[0].split() == list(status.COLUMNS)
    assert "0123456789ab" in lines[1] and "1 d" in lines[1] and "60 days" in lines[3]
    assert "db1: replica db2 (10.0.0.2) streaming, 0 bytes behind" in lines
    assert lines[-1] == "all is well"
    assert max(map(len, lines)) <= 140


@pytest.mark.parametrize(
    ("host", "seen", "need"),
    [
        ("app1", {"unreachable": True}, "app1 cannot be reached"),
        ("app1", {"failed": True, "msg": "no python"}, "app1 could not be asked: no python"),
        ("app1", {"state": APP, "faults": ["queues: refused"]}, "app1: queues: refused"),
        ("app1", {"state": APP | {"failed": ["shop-web@a.service"]}}, "app1: failed: shop-web@a.service"),
        ("app1", {"state": APP | {"enabled": ["shop-web.service"]}}, "app1: does not run: shop-web.service"),
        (
            "app1",
            {"state": APP | {"migrations": {"pending": 2, "conflicts": 0, "lines": []}}},
            "app1: 2 migrations of the release in use are not applied",
        ),
        (
            "app1",
            {"state": APP | {"migrations": {"pending": 0, "conflicts": 1, "lines": ["unknown: a.0002", "no column"]}}},
            "app1: the release in use does not fit the schema of the database: unknown: a.0002; no column",
        ),
        ("app1", {"state": APP | {"silent": ["Nginx: no answer within 8 s"]}}, "app1: Nginx: no answer within 8 s"),
        (
            "app1",
            {"state": APP | {"starts": {"shop-web@a.service": start("activating", 7, "timeout", 34)}}},
            "app1: shop-web@a.service has been starting for 34 s (restarted 7 times by systemd, last result: timeout)",
        ),
        (
            "app1",
            {"state": APP | {"starts": {"shop-web@a.service": start("active", 40, "success", 2)}}},
            "app1: shop-web@a.service does not stay up: restarted 40 times by systemd, up for 2 s",
        ),
        ("app1", {"state": APP | {"disk": {"/srv": 91}}}, "app1: /srv is 91 % full"),
        ("app1", {"state": APP | {"disk": {"/": 9, "/ (inodes)": 97}}}, "app1: / (inodes) is 97 % full"),
        ("app1", {"state": APP | {"memory": {"all": 4096, "available": 100}}}, "app1: 100 MiB of memory are left"),
        (
            "app1",
            {"state": APP | {"reboot": ["kernel 7 runs"]}},
            "app1: needs a restart: kernel 7 runs (patch_hosts.yml)",
        ),
        ("app1", {"state": APP | {"queues": {"celery": 5000}}}, "app1: 5000 tasks wait in celery"),
        (
            "app1",
            {"state": APP | {"serves": {"ba": ["web"]}}},
            "shop is served in different releases: 0123456789ab, ba",
        ),
        ("edge1", {"state": EDGE | {"certificate": 3}}, "edge1: the certificate ends in 3 days"),
        ("edge1", {"state": EDGE | {"nginx": {"maintenance": True}}}, "edge1: the site is closed (maintenance.yml)"),
        ("edge1", {"state": EDGE | {"nginx": {"leaving": True}}}, "edge1: sends visitors away (patch_hosts.yml)"),
        (
            "edge1",
            {"state": EDGE | {"nginx": {"drained": ["10.0.0.3:8000"]}}},
            "edge1: sends no requests to 10.0.0.3:8000 (undrain_host.yml)",
        ),
    ],
)
def test_what_needs_somebody(host: str, seen: dict[str, Any], need: str) -> None:
    lines, needs = status.screen(SEEN | {host: seen})
    assert needs == [need]
    assert f"! {need}" in lines and "all is well" not in lines
    assert any(line.startswith("db1") for line in lines)


@pytest.mark.parametrize(
    ("database", "need"),
    [
        ({"connections": 95}, "db1: 95 of 100 connections are in use"),
        ({"replica": True, "follows": None}, "db1: the replica follows nobody"),
        ({"replica": True, "follows": "streaming", "seconds": 61.2}, "db1: the replica is 61 s behind"),
        (
            {"replicas": [{"name": "db2", "address": "10.0.0.2", "state": "catchup", "bytes": 9}]},
            "db1: the replica db2 (10.0.0.2) is catchup",
        ),
    ],
)
def test_what_needs_somebody_of_the_database(database: dict[str, Any], need: str) -> None:
    changed = {"state": DATABASE | {"database": DATABASE["database"] | database}}
    assert status.screen(SEEN | {"db1": changed})[1] == [need]


@pytest.mark.parametrize(
    ("state", "reboot", "work"),
    [
        ({}, False, []),
        ({"updates": 1}, False, ["1 update"]),
        ({"updates": 3, "reboot": ["kernel 2 runs"]}, True, ["3 updates", "restart: kernel 2 runs"]),
        ({}, True, ["restart: asked for"]),
        ({"nginx": {"leaving": True}}, False, ["visitors: it was about to go when a run was cut"]),
    ],
)
def test_work_on_a_host(state: dict[str, Any], reboot: bool, work: list[str]) -> None:
    assert plan.work_on({"state": state}, reboot) == work


@pytest.mark.parametrize(
    ("drained", "hosts"),
    [
        ({"edge1": ["10.0.0.2:8000"], "edge2": ["10.0.0.2:8000"]}, {"app2"}),
        # An Nginx beside the application knows it by its socket.
        ({"app1": ["unix:/run/shop/web.sock"], "edge1": ["10.0.0.1:8000"]}, {"app1"}),
        ({"app1": ["unix:/run/shop/web.sock"]}, {"app1"}),
        ({"app1": [], "edge1": []}, set()),
    ],
)
def test_drained_hosts_are_known(drained: dict[str, list[str]], hosts: set[str]) -> None:
    seen = {name: {"state": {"nginx": {"drained": servers}}} for name, servers in drained.items()}
    servers = {"app1": "10.0.0.1:8000", "app2": "10.0.0.2:8000", "edge1": "10.0.0.3:8000", "edge2": "10.0.0.4:8000"}
    assert plan.drained_hosts(seen | {"db1": {"state": DATABASE}, "lost": {}}, servers) == hosts
    assert plan.work_on({"state": APP}, False, drained=True) == ["requests: it is drained"]
