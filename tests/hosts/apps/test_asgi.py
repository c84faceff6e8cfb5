"""An asynchronous project: streams, WebSockets, queues, hooks, files, a service and a timer."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
import requests
import yaml
from conftest import INVENTORY, Site, WebSocket, live_unit, wait_until
from testinfra.host import Host

testinfra_hosts = ["ansible://site_asgi"]

STATE = "/var/lib/mysite"
GIVEN = yaml.safe_load((INVENTORY / "group_vars/site_asgi/variables.yml").read_text(encoding="utf-8"))


# HTTP and WebSockets


def test_answers_while_others_wait(site: Site) -> None:
    """Two workers, twelve requests that take two seconds each: one process has several of them under way at once."""
    with ThreadPoolExecutor(12) as pool:
        answers = [answer.json() for answer in pool.map(lambda _: site.get("/slow/"), range(12))]
    assert max(answer["waiting"] for answer in answers) > 1, "each waited for the one before"


def test_stream_arrives_in_pieces(site: Site) -> None:
    """The first line is here before the last one is made; control node and host are one machine, with one clock."""
    with requests.get(f"{site.url}/pieces/", stream=True, timeout=60) as answer:
        arrived, lines = zip(*((time.time(), line) for line in answer.iter_lines() if line), strict=True)
    made = [float(line) for line in lines]
    assert len(made) == 5 and made == sorted(made)
    assert arrived[0] < made[-1], f"made at {made}, arrived at {arrived}"


def test_websocket_says_back_what_it_is_told(websocket: Callable[[str], WebSocket]) -> None:
    connection = websocket("/echo/")
    assert connection.status == 101
    for text in ("one", "zwei äöü", "x" * 125):
        connection.send(text)
        assert connection.receive() == text


def test_websocket_that_is_not_there_is_refused(websocket: Callable[[str], WebSocket]) -> None:
    assert websocket("/none/").status == 403


def test_only_a_websocket_is_let_through(site: Site) -> None:
    """Another protocol that a client would change to gets no further than Nginx."""
    answer = site.get("/", headers={"Upgrade": "h2c", "Connection": "Upgrade, HTTP2-Settings", "HTTP2-Settings": ""})
    assert answer.status_code == 200 and "Upgrade" not in answer.headers


@pytest.mark.parametrize("path", ["/internal/secret/", "/%69nternal/secret/", "//internal/secret/", "/assets/x.secret"])
def test_denied_path_is_not_there(site: Site, path: str) -> None:
    assert requests.get(site.url + path, timeout=15).status_code == 404
    assert site.get("/alive").status_code == 204, "the view behind /internal/secret/ does not answer at all"


def test_notes_are_kept(site: Site) -> None:
    text = f"note {time.time_ns()} ä"
    assert site.post("/notes/", data=text.encode()).status_code == 200
    assert text in site.get("/notes/").json()["notes"]


# Static and uploaded files


def test_static_files_under_another_path(site: Site) -> None:
    link = re.search(r'href="(/assets/mysite/site\.[0-9a-f]{12}\.css)"', site.get("/").text)
    assert link
    assert site.get(link[1]).headers["Cache-Control"] == "public, max-age=31536000, immutable"
    assert site.get("/assets/mysite/site.css").headers["Cache-Control"] == "public, max-age=3600"


def test_uploaded_files_from_another_folder(host: Host, site: Site) -> None:
    """The name is as a fingerprint would be: an upload is never kept for ever."""
    host.check_output("install -m 644 /dev/null %s/uploads/a.0123456789ab.txt", STATE)
    answer = site.get("/files/uploaded/a.0123456789ab.txt")
    assert answer.status_code == 200
    assert answer.headers["Content-Security-Policy"] == "default-src 'none'; sandbox; frame-ancestors 'none'"
    assert "immutable" not in answer.headers["Cache-Control"]


def test_files_below_directories_are_served(host: Host, site: Site) -> None:
    """Whoever writes them, in whatever directories, with whatever permissions for the group."""
    text = f"kept {time.time_ns()}"
    paths = site.post("/keep/", data=text.encode()).json()["files"]
    code = f"from mysite.files import keep; print(*keep({text!r}))"
    paths += host.check_output("mysite-manage shell -v0 -c %s", code).split()
    answers = {path: site.get(f"/files/uploaded/{path}") for path in paths}
    assert {path: (answer.status_code, answer.text) for path, answer in answers.items()} == dict.fromkeys(
        paths, (200, text)
    )
    assert len(paths) == 9
    # Nobody else of the host reads what is the group's.
    assert host.run("runuser -u nobody -- cat %s/uploads/%s", STATE, paths[1]).failed


# What the inventory says


def test_environment_arrives_as_written(site: Site) -> None:
    told = site.get("/told/").json()["environment"]
    assert told == {"ODD_VALUE": GIVEN["django_app_environment"]["ODD_VALUE"], "ONLY_WEB": "for the web server"}


def test_files_arrive_as_written(host: Host, site: Site, inventory: dict[str, str]) -> None:
    told = site.get("/told/").json()["files"]
    assert told["told.txt"] == "line 1: \"a\" 'b' $c ${d} %e \\f `g` {{ h }} ä €\n\n  line 3, and no end of it"
    assert told["mysite.conf"] == f"secret of {inventory['ansible_host']}: {inventory['vault_django_secret_key']}\n"
    file = host.file("/etc/mysite.conf")
    assert (file.user, file.group, file.mode) == ("root", "mysite", 0o640)


HOOKS = {
    "before_migrate": "mysite",
    "before_collectstatic": "src",
    "after_collectstatic": "mysite",
    "after_switch": "a hook's own",
}


def test_hooks_ran_once_each_in_their_place(host: Host) -> None:
    """Molecule has deployed twice, and the second time there was nothing to do."""
    lines = host.file(f"{STATE}/hooks").content_string.splitlines()
    ran = dict(line.split(" ", 1) for line in lines)
    assert len(lines) == len(ran) and ran == HOOKS
    assert list(ran)[-1] == "after_switch"
    assert list(ran).index("before_collectstatic") < list(ran).index("after_collectstatic")


def test_what_hooks_of_the_build_write_is_served_and_belongs_to_root(
    host: Host, site: Site, inventory: dict[str, str]
) -> None:
    """Before collectstatic they write into the source, after it into the folder of static files."""
    token = inventory["vault_django_secret_key"]
    assert site.get("/assets/mysite/built.css").text == f"/* a token of {len(token)} characters */\n"
    assert site.get("/assets/packed.css").text == "b{}\n"
    for path in ("src/mysite/static/mysite/built.css", "src/mysite/static/mysite", "static/packed.css"):
        file = host.file(f"/srv/mysite/current/{path}")
        assert (file.user, file.group, file.mode & 0o022) == ("root", "root", 0), path
    assert host.run("find /srv/mysite/current/src -user mysite | grep .").failed


def test_secrets_of_the_build_are_in_no_log(host: Host) -> None:
    """The token is taken from a file of the host: sudo would write an argument into the journal."""
    host.check_output("sed 's/^secret of [^:]*: //' /etc/mysite.conf >/run/token && test -s /run/token")
    search = "grep --fixed-strings --file=/run/token"
    assert host.run(f"journalctl --no-pager --output=cat | {search}").rc == 1
    assert host.run(f"{search} --recursive /srv/mysite/current/ /opt/slipway").rc == 1


# Celery


@pytest.mark.parametrize(("queue", "worker"), [("quick", "quick"), ("slow", "slow"), ("bulk", "slow")])
def test_queue_has_its_worker(site: Site, queue: str, worker: str) -> None:
    assert re.fullmatch(rf"{worker}-[ab]@asgi", site.get(f"/worker/{queue}/").json()["worker"])


def test_worker_with_a_command_of_its_own(host: Host, site: Site) -> None:
    """Its words arrive as they are written; Celery itself makes %% of a hostname one %."""
    assert site.get("/worker/own/").json()["worker"] == 'own "$x" 100%@asgi'
    assert host.check_output("systemctl show -P NRestarts %s", live_unit(host, "mysite", "celery-own")) == "0"


def test_beat_is_off(host: Host) -> None:
    assert host.run("systemctl list-unit-files --no-legend 'mysite-celery-beat*' | grep .").failed


# A service and a timer


def ticks(host: Host) -> list[str]:
    """Return what the service wrote last: its pid, its count, and what its environment told it."""
    return host.file(f"{STATE}/ticks").content_string.rstrip("\n").split(" ", 2)


def test_service_runs_in_a_slot(host: Host) -> None:
    pid, count, told = ticks(host)
    assert told == GIVEN["processes_services"][0]["environment"]["ONLY_TICK"]
    wait_until(lambda: int(ticks(host)[1]) > int(count), "the service counts on")
    assert host.check_output("systemctl show -P MainPID %s", live_unit(host, "mysite", "ticker")) == pid
    assert host.check_output("systemctl is-enabled mysite-ticker.service") == "enabled"
    assert host.check_output("ps -o user= -p %s", pid) == "mysite"


@pytest.mark.disruptive
def test_service_comes_back(host: Host) -> None:
    pid = ticks(host)[0]
    host.check_output("kill -9 %s", pid)
    wait_until(lambda: ticks(host)[0] != pid, "the service is started again")


def test_timer_runs_its_command(host: Host) -> None:
    assert host.check_output("systemctl is-enabled mysite-sweep.timer") == "enabled"
    wait_until(lambda: host.file(f"{STATE}/swept").exists, "the timer runs its command")
    first = host.file(f"{STATE}/swept").content_string.splitlines()[0]
    assert first == 'two words "quoted" $HOME 100% by the timer'


@pytest.mark.disruptive
def test_deployment_lets_a_websocket_end(
    host: Host, site: Site, playbook: Callable[..., Any], websocket: Callable[[str], WebSocket]
) -> None:
    """A change of the environment is a switch: the slot that goes serves its connections while the other serves."""
    connection = websocket("/echo/")
    before = live_unit(host, "mysite", "web"), ticks(host)[0]
    changed = GIVEN["gunicorn_environment"] | {"ONLY_WEB": "changed"}
    done = playbook("deploy.yml", "asgi", gunicorn_environment=changed)
    assert done.returncode == 0, done.stdout[-3000:]
    assert live_unit(host, "mysite", "web") != before[0]
    assert site.get("/told/").json()["environment"]["ONLY_WEB"] == "changed"
    assert ticks(host)[0] == before[1], "a service that did not change was restarted"
    new = websocket("/echo/")
    new.send("after")
    assert (new.status, new.receive()) == (101, "after")
    assert connection.status == 101
    again = playbook("deploy.yml", "asgi")
    assert again.returncode == 0, again.stdout[-3000:]
    assert site.get("/told/").json()["environment"]["ONLY_WEB"] == GIVEN["gunicorn_environment"]["ONLY_WEB"]


@pytest.mark.disruptive
def test_what_is_taken_out_is_stopped_and_removed(host: Host, playbook: Callable[..., Any]) -> None:
    done = playbook("deploy.yml", "asgi", processes_services=[], processes_timers=[])
    try:
        assert done.returncode == 0, done.stdout[-3000:]
        assert host.run(
            "systemctl list-units --all --no-legend 'mysite-ticker*' 'mysite-sweep*' | grep -w active"
        ).failed
        left = "find /etc/systemd/system /etc/mysite /srv/mysite/slots -name '*ticker*' -o -name '*sweep*'"
        assert host.check_output(left) == ""
    finally:
        again = playbook("deploy.yml", "asgi")
    assert again.returncode == 0, again.stdout[-3000:]
    count = ticks(host)[1]
    wait_until(lambda: ticks(host)[1] != count, "the service is back")


def test_inventory_that_cannot_work_is_refused(playbook: Callable[..., Any]) -> None:
    done = playbook(
        "preflight.yml",
        "asgi",
        nginx_media_url="files",
        nginx_denied_locations=["internal"],
        processes_services=[{"name": "web", "command": ["python"]}],
    )
    assert done.returncode != 0
    for words in ("refused for 3 faults", "nginx_media_url", "nginx_denied_locations", "processes_services"):
        assert words in done.stdout, done.stdout[-3000:]
