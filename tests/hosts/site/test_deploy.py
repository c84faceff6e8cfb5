"""A change on a site that serves: no request fails, and what was changed by hand is put right."""

from __future__ import annotations

import json
from collections.abc import Callable

import pytest
from conftest import APP, Servers, Site, Visitors, changes, journal, live_unit, main_pid, recap, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]
# Deploys take their time; one site of the inventory is enough.
pytestmark = [pytest.mark.disruptive, pytest.mark.runs_on("app", first=True, site=0)]


def test_change_fails_no_request(servers: Servers, site: Site, site_playbook: Callable) -> None:
    """Another number of workers and other classes of them, one after the other, and back to what the inventory says."""
    slots = [live_slots(servers)]
    for variables, said in (
        ({"gunicorn_workers": 3}, "Using worker: sync"),
        ({"gunicorn_worker_class": "gthread", "gunicorn_threads": 4}, "Using worker: gthread"),
        ({"gunicorn_worker_class": "gevent"}, "Using worker: gevent"),
        ({}, "Using worker: sync"),
    ):
        with Visitors(site) as visitors:
            result = site_playbook("deploy.yml", "--extra-vars", json.dumps(variables))
        assert result.returncode == 0, result.stdout[-4000:]
        assert len(visitors.answers) > 20 and set(visitors.answers) == {"200"}
        slots.append(live_slots(servers))
        for server, before, now in zip(servers.of("app"), *slots[-2:], strict=True):
            assert now != before and said in journal(server, now, 100)
            # It ends beside what serves; a deployment does not wait for that.
            wait_until(lambda host=server, unit=before: is_inactive(host, unit), f"{before} still runs")
            workers = server.check_output("pgrep --count --parent %s", str(main_pid(server, now)))
            assert workers == "3" or "gunicorn_workers" not in variables
        assert all(site.answers() for _ in range(5))
    assert slots[0] == slots[-1]


def is_inactive(host: Host, unit: str) -> bool:
    """Tell whether a unit has ended."""
    return host.run("systemctl is-active %s", unit).stdout.strip() == "inactive"


def live_slots(servers: Servers) -> list[str]:
    """Return the unit of gunicorn that serves on each host of the application."""
    return [live_unit(server, "web") for server in servers.of("app")]


def test_slot_that_does_not_start_leaves_the_other_serving(host: Host, site: Site, site_playbook: Callable) -> None:
    before = live_unit(host, "web")
    pid = main_pid(host, before)
    with Visitors(site) as visitors:
        wrong = '{"gunicorn_application": "config.nosuchmodule:application"}'
        result = site_playbook("deploy.yml", "--extra-vars", wrong)
    assert result.returncode != 0
    said = " ".join(result.stdout.split())
    assert "did not start" in said and "No module named" in said, result.stdout[-4000:]
    assert (live_unit(host, "web"), main_pid(host, before)) == (before, pid)
    assert set(visitors.answers) == {"200"}
    assert site_playbook("deploy.yml").returncode == 0
    assert (live_unit(host, "web"), main_pid(host, before)) == (before, pid)


def test_service_that_does_not_stay_up_is_refused(host: Host, site: Site, site_playbook: Callable) -> None:
    """It has started as far as systemd can tell, ends a moment later, and would be started again for ever."""
    before = live_unit(host, "web"), main_pid(host, live_unit(host, "web"))
    wrong = {"processes_services": [{"name": "dying", "command": ["sh", "-c", "sleep 1; echo last words; exit 3"]}]}
    result = site_playbook("deploy.yml", "--extra-vars", json.dumps(wrong))
    said = " ".join(result.stdout.split())
    assert result.returncode != 0
    assert f"{APP}-dying@a.service did not stay up" in said and "it ended with status 3" in said, result.stdout[-4000:]
    assert "last words" in said and "(nothing ran before)" in said, result.stdout[-4000:]
    again = site_playbook("deploy.yml")
    assert again.returncode == 0, again.stdout[-4000:]
    assert (live_unit(host, "web"), main_pid(host, before[0])) == before and site.answers()
    assert host.run("systemctl list-units --all --plain --no-legend '%s-dying*' | grep .", APP).failed


def test_what_was_changed_by_hand_is_put_right(
    host: Host, servers: Servers, edge_host: Host, site: Site, site_playbook: Callable
) -> None:
    beat_host = servers.first("worker")
    edge_host.check_output("echo '# by hand' >>/etc/nginx/conf.d/slipway.conf")
    edge_host.check_output("rm /srv/%s/static/site.css*", APP)
    beat_host.check_output("systemctl stop %s-celery-beat", APP)
    # A unit of a slot, and a file of a slot: no role's own, but copies of them.
    host.check_output("echo '# by hand' >>/etc/systemd/system/%s", live_unit(host, "web"))
    worker = live_unit(beat_host, "celery-default")
    beat_host.check_output("echo X=1 >>/srv/%s/slots/celery-default/live/app.env", APP)
    host.check_output("chmod 644 /etc/%s/app.env", APP)
    # Nginx knows for some seconds what it has opened.
    wait_until(lambda: site.get("/static/site.css").status_code == 404, "the end of a file")
    result = site_playbook("site.yml")
    assert result.returncode == 0, result.stdout[-4000:]
    assert "by hand" not in edge_host.file("/etc/nginx/conf.d/slipway.conf").content_string
    assert site.get("/static/site.css").status_code == 200
    assert beat_host.run("systemctl is-active %s", live_unit(beat_host, "celery-beat")).stdout.strip() == "active"
    assert host.file(f"/etc/{APP}/app.env").mode == 0o640
    assert "by hand" not in host.file(f"/etc/systemd/system/{live_unit(host, 'web')}").content_string
    assert live_unit(beat_host, "celery-default") != worker
    assert "X=1" not in beat_host.file(f"/srv/{APP}/slots/celery-default/live/app.env").content_string
    again = site_playbook("site.yml")
    assert again.returncode == 0, again.stdout[-4000:]
    assert changes(again.stdout) == []


def test_host_that_an_older_version_has_set_up_is_refused(host: Host, site_playbook: Callable) -> None:
    record = "/var/lib/slipway-applied/site.json"
    before = host.file(record).content_string
    assert json.loads(before)["setup"] > 0
    older = {name: value for name, value in json.loads(before).items() if name != "setup"}
    host.check_output("printf %%s %s >%s", json.dumps(older), record)
    try:
        for playbook in ("deploy.yml", "rollback.yml"):
            result = site_playbook(playbook)
            said = " ".join(result.stdout.split())
            assert result.returncode != 0 and "site.yml of this version of Slipway has not run on the host" in said
            assert all(counts["changed"] == 0 for counts in recap(result.stdout).values())
    finally:
        host.check_output("printf %%s %s >%s", before, record)
