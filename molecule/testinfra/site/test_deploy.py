"""A change on a host that serves: no request fails, and what was changed by hand is put right."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from conftest import APP, Site, Visitors, journal, live_unit, main_pid, recap, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]
# Deploys take their time; one site of the inventory is enough.
pytestmark = [pytest.mark.disruptive, pytest.mark.runs_on("app", first=True, site=0)]


@pytest.fixture
def deploy(site_playbook: Callable) -> Callable[..., str]:
    """Return a function that deploys to the site with variables changed."""

    def run(*variables: str) -> str:
        extra = [word for variable in variables for word in ("--extra-vars", variable)]
        result = site_playbook("deploy.yml", *extra)
        assert result.returncode == 0, result.stdout[-4000:]
        return result.stdout

    return run


def test_change_fails_no_request(host: Host, site: Site, deploy: Callable[..., str]) -> None:
    before = live_unit(host, "web")
    with Visitors(site) as visitors:
        deploy('{"gunicorn_workers": 3}')
        changed = live_unit(host, "web")
        workers = host.check_output("pgrep --count --parent %s", str(main_pid(host, changed)))
        deploy()
    assert changed != before and workers == "3"
    assert live_unit(host, "web") == before
    assert host.run("systemctl is-active %s", changed).stdout.strip() == "inactive"
    assert len(visitors.answers) > 40 and set(visitors.answers) == {"200"}


@pytest.mark.parametrize("worker_class", ["gthread", "gevent"])
def test_other_classes_of_workers_serve(host: Host, site: Site, site_playbook: Callable, worker_class: str) -> None:
    wanted = (
        f'{{"gunicorn_worker_class": "{worker_class}", "gunicorn_threads": {4 if worker_class == "gthread" else 1}}}'
    )
    result = site_playbook("deploy.yml", "--extra-vars", wanted)
    try:
        assert result.returncode == 0, result.stdout[-4000:]
        assert f"Using worker: {worker_class}" in journal(host, live_unit(host, "web"), 100)
        assert all(site.answers() for _ in range(5))
    finally:
        assert site_playbook("deploy.yml").returncode == 0


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


def test_what_was_changed_by_hand_is_put_right(
    host: Host, edge_host: Host, worker_host: Host, site: Site, site_playbook: Callable
) -> None:
    edge_host.check_output("echo '# by hand' >>/etc/nginx/conf.d/slipway.conf")
    edge_host.check_output("rm /srv/%s/static/site.css*", APP)
    worker_host.check_output("systemctl stop %s-celery-beat", APP)
    host.check_output("chmod 644 /etc/%s/app.env", APP)
    # Nginx knows for some seconds what it has opened.
    wait_until(lambda: site.get("/static/site.css").status_code == 404, 30, "the end of a file")
    result = site_playbook("site.yml")
    assert result.returncode == 0, result.stdout[-4000:]
    assert "by hand" not in edge_host.file("/etc/nginx/conf.d/slipway.conf").content_string
    assert site.get("/static/site.css").status_code == 200
    assert worker_host.run("systemctl is-active %s", live_unit(worker_host, "celery-beat")).stdout.strip() == "active"
    assert host.file(f"/etc/{APP}/app.env").mode == 0o640
    again = site_playbook("site.yml")
    assert again.returncode == 0, again.stdout[-4000:]
    assert {counts["changed"] for counts in recap(again.stdout).values()} == {0}
