"""The capacity plan: its arithmetic, that it is what hosts are configured with, and what it refuses."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any
from xml.etree import ElementTree

import hosts as bench
import pytest
import yaml
from conftest import INVENTORIES, ROOT
from rendering import USES, render

from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.limits import excess
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.model import (
    Host,
    background_connections,
    celery_processes,
    gunicorn_sizing,
    memory_parts,
    overlap_mb,
    sites_of,
    sum_of,
    total,
    web_connections,
)
from ansible_collections.slipway.kit.plugins.plugin_utils.capacity.report import table

ALL = ["database", "redis", "app", "worker", "edge"]
Run = Callable[..., CompletedProcess[str]]


@pytest.mark.parametrize(
    ("arguments", "workers", "won"),
    [
        ({"cores": 2, "memory_mb": 1152, "worker_memory_mb": 150}, 5, "cores"),
        ({"cores": 4, "memory_mb": 1152, "worker_memory_mb": 150}, 5, "memory"),  # 1152 / (150 + 50)
        ({"cores": 4, "memory_mb": 9999, "worker_memory_mb": 150, "connections": 8}, 8, "connections"),
        (
            {"cores": 4, "memory_mb": 9999, "worker_memory_mb": 150, "connections": 8, "worker_connections": 4},
            2,
            "connections",
        ),
        ({"cores": 4, "memory_mb": 10, "worker_memory_mb": 150}, 1, "memory"),
        ({"asked": 12, "cores": 4, "memory_mb": 10, "worker_memory_mb": 150, "connections": 1}, 12, "set"),
    ],
)
def test_workers(arguments: dict[str, int], workers: int, won: str) -> None:
    found = gunicorn_sizing(**{"asked": 0} | arguments)
    assert (found["workers"], found["won"]) == (workers, won)


@pytest.mark.parametrize(
    ("workers", "processes", "connections"),
    [
        ([{}], 5, 4),
        ([{"concurrency": 2}, {"pool": "solo", "concurrency": 9}, {"pool": "gevent", "concurrency": 50}], 5, 53),
        ([], 0, 0),
    ],
)
def test_celery(workers: list[dict[str, Any]], processes: int, connections: int) -> None:
    assert celery_processes(workers, 4) == {"processes": processes, "connections": connections}


def test_what_is_marked_once_is_counted_on_the_first_host_alone() -> None:
    own = {"services": [{}, {"once": True}], "timers": [{"once": True}]}
    assert background_connections([{}], 2, True, **own) == {"twice": 4, "once": 2, "services": 2}
    assert background_connections([{}], 2, False, **own, first=False) == {"twice": 3, "once": 0, "services": 1}


def test_the_web_gets_what_the_background_leaves_for_two_generations() -> None:
    background = [{"twice": 8, "once": 1}, {"twice": 8, "once": 0}]
    # 100 - 10 kept - 2 for the deployment - beat = 87; halved 43; less 16 is 27, for two hosts 13 each.
    assert web_connections(100, 10, background, 2) == 13
    assert 2 * (2 * 13 + 16) + 1 + 2 + 10 <= 100 < 2 * (2 * 14 + 16) + 1 + 2 + 10
    assert web_connections(20, 10, background, 2) == 1
    assert web_connections(0, 10, background, 2) == 0, "no limit is known"


def server(**changes: Any) -> Any:
    """Return one host that does everything, with 4 GiB."""
    own: dict[str, Any] = {
        **{"name": "www", "site": "all", "kinds": ALL, "cores": 2, "memory_mb": 4096, "disk_mb": 9000},
        **{"disk_needed_mb": 4608, "system_mb": 256, "reserved": 10, "connection_limit": 100, "max_connections": 100},
        **{"worker_mb": 150, "celery_process_mb": 80, "beat": True, "shared_buffers_mb": 384},
        "sizing": gunicorn_sizing(0, 2, 1152, 150, 40),
        "celery": celery_processes([{}], 2),
        "background": background_connections([{}], 2, True),
        "redis_mb": {"broker": 144, "cache": 144},
        "ports": {"PostgreSQL": 5432, "Redis broker": 6379},
    }
    return Host(**own | changes)


def test_a_server_is_added_up() -> None:
    (site,) = sites_of([server()])
    # Two generations of 5 workers and 2 tasks, beat, the trial and the migrations, and the ten that are kept.
    assert site.connections() == 2 * (5 + 2) + 1 + 2 + 10
    memory = 256 + 384 + 27 * 4 + 144 + 144 + 5 * 150 + (3 + 1) * 80 + 64
    assert total(memory_parts(site.hosts[0], 27)) == memory
    assert overlap_mb(site.hosts[0]) == (5 * 150 + 3 * 80) // 3
    assert not excess([site])
    assert "It fits." in table([site])


@pytest.mark.parametrize(
    ("changes", "variable", "said"),
    [
        ({"memory_mb": 2400}, "topology_memory_mb", "= 2500 MiB are wanted, and the host has 2400 MiB"),
        ({"shared_buffers_mb": 3000}, "topology_memory_mb", "3000 shared_buffers"),
        ({"redis_mb": {"broker": 2048, "cache": 144}}, "topology_memory_mb", "2048 Redis broker"),
        ({"disk_mb": 409}, "topology_disk_mb", "0.4 GiB are free, and 4.5 GiB are needed"),
        ({"connection_limit": 26, "max_connections": 26}, "postgresql_max_connections", "= 27 connections, and 26 is"),
        ({"pool": 95}, "postgresql_max_connections", "95 pools + 10 kept for administration = 105 connections"),
        ({"ports": {"PostgreSQL": 80, "Nginx HTTP": 80}}, "", "port 80 is wanted by PostgreSQL and by Nginx HTTP"),
    ],
)
def test_what_does_not_fit_is_told_with_the_sum(changes: dict[str, Any], variable: str, said: str) -> None:
    (found,) = excess(sites_of([server(**changes)]))
    assert (found.host, found.variable) == ("www", variable)
    assert said in found.why
    assert found.fix
    assert f"DOES NOT FIT: www {variable}".strip() in table(sites_of([server(**changes)]))


def test_a_sum_is_the_sum_of_what_it_shows() -> None:
    (site,) = sites_of([server(kinds=ALL)])
    for parts in (site.steady + site.deploying, memory_parts(site.hosts[0], 27)):
        terms, _, result = sum_of(parts).rpartition(" = ")
        without = re.sub(r" \([^)]*\)", "", terms)
        assert sum(int(term.split()[0]) for term in without.split(" + ")) == int(result)


# The whole, without hosts


def play(run_playbook: Run, name: str, inventory: Path, *arguments: str, **more: str) -> CompletedProcess[str]:
    """Run one of the shipped playbooks."""
    return run_playbook(
        "-i", inventory, ROOT / "playbooks" / name, *arguments, ANSIBLE_ROLES_PATH=str(ROOT / "roles"), **more
    )


def test_hundred_hosts_are_added_up_without_asking_one(tmp_path: Path, run_playbook: Run) -> None:
    """The sums are worked out here once more, in another way, from what the generator wrote."""
    groups = bench.write(tmp_path / "many", 100)
    assert sum(map(len, groups.values())) == 100
    page = tmp_path / "plan.html"
    done = play(run_playbook, "plan_capacity.yml", tmp_path / "many/hosts.json", "-e", f"slipway_plan_file={page}")
    assert done.returncode == 0, done.stdout + done.stderr
    said = " ".join(done.stdout.split())

    tasks = len(groups["worker"]) * bench.CORES["worker"]
    each = ((1000 - 10 - 2 - 1) // 2 - tasks) // len(groups["app"])
    assert each < 2 * bench.CORES["app"] + 1, "otherwise the connections decide nothing here"
    web = each * len(groups["app"])
    assert f"app7 app 4 8192 {256 + each * 150} {256 + each * 150 + each * 50} 51200 {each} by connections" in said
    assert f"{web} gunicorn ({len(groups['app'])} hosts x {each} workers) + {tasks} Celery" in said
    assert f"kept for administration = {web + tasks + 1 + 10} " in said
    assert f"{web + tasks + 2} more, {2 * (web + tasks) + 1 + 2 + 10} in all, of 1000" in said
    cache = (65536 - 256) // 4
    assert f"database1 database 16 65536 {256 + cache + 4 * (2 * (web + tasks) + 13)} " in said
    redis = (16384 - 256) * 3 // 8
    assert f"redis1 redis 4 16384 {256 + 2 * redis} " in said
    assert "It fits." in said
    assert str(page) in said

    text = page.read_text(encoding="utf-8")
    body = ElementTree.fromstring(re.sub(r"<!DOCTYPE html>|<meta [^>]*>", "", text))
    assert len([node for node in body.iter("div") if node.get("class") == "host"]) == 100
    assert not re.search(r"https?://|\b(src|href)=|url\(|@import", text), "the page needs something from elsewhere"


def test_preflight_asks_no_host_that_is_described(tmp_path: Path, run_playbook: Run) -> None:
    bench.write(tmp_path / "many", 7)
    done = play(run_playbook, "preflight.yml", tmp_path / "many/hosts.json")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "unreachable=0" in done.stdout and "unreachable=1" not in done.stdout


def test_what_is_not_known_is_said(tmp_path: Path, run_playbook: Run) -> None:
    bench.write(tmp_path / "many", 7)
    (tmp_path / "many/group_vars/app/hardware.json").unlink()
    done = play(run_playbook, "preflight.yml", tmp_path / "many/hosts.json")
    assert done.returncode != 0
    for name in ("topology_cores", "topology_memory_mb", "topology_disk_mb"):
        assert re.search(rf"\d\. {name}  \(on app1, app2, app3\)", done.stdout), done.stdout[-6000:]


def test_plan_says_what_it_does_not_know(tmp_path: Path, run_playbook: Run) -> None:
    bench.write(tmp_path / "many", 7)
    (tmp_path / "many/group_vars/worker/hardware.json").unlink()
    for offline, said in ((True, "topology_cores is not known"), (False, "cannot be reached: ")):
        settings = f'{{"topology_offline": {str(offline).lower()}, "ansible_host": "127.0.0.1", "ansible_port": 1}}'
        done = play(
            run_playbook,
            "plan_capacity.yml",
            tmp_path / "many/hosts.json",
            "-e",
            settings,
            "-e",
            f"slipway_plan_file={tmp_path}/x",
        )
        assert done.returncode == 0, done.stdout + done.stderr
        assert f"NOT KNOWN: worker1 {said}" in done.stdout, done.stdout
        assert "What is known fits." in done.stdout and "It fits." not in done.stdout
        assert "NOT KNOWN: app1" not in done.stdout, "it was said what that host has"


def test_markup_in_a_name_is_text_on_the_page(tmp_path: Path, run_playbook: Run) -> None:
    bench.write(tmp_path / "many", 7, topology_address="<script>alert(1)</script>")
    page = tmp_path / "plan.html"
    play(run_playbook, "plan_capacity.yml", tmp_path / "many/hosts.json", "-e", f"slipway_plan_file={page}")
    text = page.read_text(encoding="utf-8")
    assert "<script" not in text and "&lt;script&gt;" in text


@pytest.mark.parametrize("inventory", INVENTORIES)
def test_shipped_inventory_fits_hosts_of_four_gib(
    inventory: str, inventories: Path, tmp_path: Path, run_playbook: Run
) -> None:
    stated = {"topology_cores": 2, "topology_memory_mb": 4096, "topology_disk_mb": 20000, "topology_offline": True}
    secrets = {f"vault_{name}": f"{name}-q8Zt63nQp0Lk47Vs" for name in (*bench.SECRETS, "redis_admin_password")}
    (tmp_path / "stated.yml").write_text(yaml.safe_dump(stated | secrets), encoding="utf-8")
    done = play(
        run_playbook,
        "plan_capacity.yml",
        inventories / inventory,
        "-e",
        "@stated.yml",
        "-e",
        f"slipway_plan_file={tmp_path}/plan.html",
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "It fits." in done.stdout and "DOES NOT FIT" not in done.stdout, done.stdout


@pytest.mark.parametrize(
    "extra",
    [
        {},
        {"gunicorn_workers": 7},
        {"topology_connection_limit": 24},
        {"topology_memory_mb": 1024},
        {"gunicorn_worker_class": "gthread", "gunicorn_threads": 8},
        {"gunicorn_worker_class": "gevent"},
    ],
    ids=str,
)
def test_what_is_planned_is_what_gunicorn_gets(
    extra: dict[str, Any],
    variables_for: Callable[..., dict[str, Any]],
    inventories: Path,
    tmp_path: Path,
    run_playbook: Run,
) -> None:
    """The number on the plan, and the one in the file that the role writes."""
    stated = {"topology_cores": 2, "topology_memory_mb": 4096, "topology_disk_mb": 20000, "topology_offline": True}
    role = ROOT / "roles/gunicorn"
    variables = variables_for(role, "12", **stated | extra)
    (use,) = [use for use in USES if use.role == role and "service definition" in use.task["name"]]
    (text,) = [file.text for file in render(use, variables) if file.path.endswith("gunicorn.conf.py")]
    configured = re.search(r"^workers = (\d+)$", text, re.MULTILINE)
    assert configured
    (tmp_path / "stated.yml").write_text(yaml.safe_dump(stated | extra), encoding="utf-8")
    done = play(
        run_playbook,
        "plan_capacity.yml",
        inventories / "inventories/single",
        "-e",
        "@stated.yml",
        "-e",
        f"slipway_plan_file={tmp_path}/plan.html",
    )
    planned = re.search(r"(\d+) by (cores|memory|connections|set) \(", done.stdout)
    assert planned, done.stdout + done.stderr
    assert planned[1] == configured[1]
    assert f"decided by {planned[2]}" in text
