"""Releases on two servers: what a deploy drops (nothing), what it refuses, and what is left when it is killed."""

from __future__ import annotations

import json
import re
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from conftest import APP, PROJECT, Playbooks, Visitors, live_unit, main_pid, recap, state_of, wait_until
from release_hosts import FOLDER, Cluster, append, psql, restart, stylesheets
from testinfra.host import Host

testinfra_hosts = ["local://"]

WAIT = """

@shared_task(acks_late=True)
def wait_for_a_test(path, end):
    import os, time

    with open(path + ".begun", "w") as file:
        file.write(str(os.getppid()))
    while end and not os.path.exists(end):
        time.sleep(0.1)
    with open(path, "w") as file:
        file.write(str(os.getppid()))
"""


@pytest.fixture(scope="module")
def cluster(playbook: Playbooks, tmp_path_factory: pytest.TempPathFactory) -> Cluster:
    """Return the site, filled with articles, as Molecule has deployed it."""
    cluster = Cluster(playbook, tmp_path_factory.mktemp("sources"))
    cluster.hosts["first"].check_output("%s-manage seed_demo --admin admin", APP)
    wait_until(lambda: all(site.answers() for site in cluster.sites), "the site")
    return cluster


@pytest.fixture
def visitors(cluster: Cluster) -> Iterator[Visitors]:
    """Have visitors on both servers, and fail when one of them is not answered with 200."""
    with Visitors(*cluster.sites, count=8) as visitors:
        yield visitors
    assert len(visitors.answers) > 40
    assert set(visitors.answers) == {"200"}


def test_release_is_built_once(cluster: Cluster) -> None:
    digest = f"cd {FOLDER}/current && find src/ venv/ -type f -print0 | sort -z | xargs -0 sha256sum | sha256sum"
    assert len({host.check_output(digest) for host in cluster.hosts.values()}) == 1
    assert cluster.hosts["first"].file("/opt/slipway").exists
    assert not cluster.hosts["second"].file("/opt/slipway").exists, "the second host can build"
    assert cluster.hosts["second"].run("%s-manage migrate --check", APP).succeeded


def test_deploys_and_a_rollback_drop_nothing(cluster: Cluster, visitors: Visitors) -> None:
    before = cluster.releases()
    pages = stylesheets(cluster.sites[0])
    changed = cluster.source("second-release", append("static/site.css", "\n/* second */\n"))
    cluster.deploy(*changed)
    after = cluster.releases()
    assert len(after) == 1 and after != before
    now = stylesheets(cluster.sites[1])
    assert now != pages
    for site in cluster.sites:
        for path in pages | now:
            assert site.get(path).status_code == 200, f"{path} is gone"
    cluster.deploy(playbook="rollback.yml")
    assert cluster.releases() == before
    cluster.deploy("--extra-vars", '{"gunicorn_workers": 3, "gunicorn_environment": {"LOG_LEVEL": "WARNING"}}')
    assert cluster.releases() == before
    for host in cluster.hosts.values():
        pid = str(main_pid(host, live_unit(host, "web")))
        assert host.check_output("pgrep --count --parent %s", pid) == "3"
        assert "LOG_LEVEL=WARNING" in host.check_output("tr '\\0' '\\n' </proc/%s/environ", pid)
    cluster.deploy()
    assert cluster.only_live_slots_run()
    assert [entry["what"] for entry in cluster.log()][-4:] == ["deploy", "rollback", "deploy", "deploy"]
    assert cluster.lock() == {}


def last_migration(folder: Path) -> str:
    """Return the name of the newest migration of the shop."""
    return max(file.stem for file in (folder / "shop/migrations").glob("0*.py"))


def failing_migration(folder: Path) -> None:
    """Add a migration whose second operation fails."""
    last = last_migration(folder)
    (folder / "shop/migrations/9001_failing.py").write_text(
        "from django.db import migrations, models\n\n\ndef fail(apps, schema_editor):\n"
        "    raise RuntimeError('this migration fails on purpose')\n\n\n"
        f"class Migration(migrations.Migration):\n    dependencies = [('shop', '{last}')]\n    operations = [\n"
        "        migrations.AddField('product', 'remark', models.TextField(null=True)),\n"
        "        migrations.RunPython(fail),\n    ]\n"
    )


def adding_migration(folder: Path) -> None:
    """Add a migration that needs a lock on a table."""
    last = last_migration(folder)
    (folder / "shop/migrations/9001_adding.py").write_text(
        "from django.db import migrations, models\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('shop', '{last}')]\n"
        "    operations = [migrations.AddField('product', 'remark', models.TextField(null=True))]\n"
    )


def removing_migration(folder: Path) -> None:
    """Add a migration that takes away what the active release uses."""
    last = last_migration(folder)
    (folder / "shop/migrations/9001_removing.py").write_text(
        "from django.db import migrations\n\n\nclass Migration(migrations.Migration):\n"
        f"    dependencies = [('shop', '{last}')]\n"
        "    operations = [migrations.RemoveField('product', 'name')]\n"
    )


def unanswering(folder: Path) -> None:
    """Have every page wait for longer than anybody does."""
    append("config/wsgi.py", "\n\ndef application(environ, start_response):\n    __import__('time').sleep(60)\n")(
        folder
    )


REFUSED: dict[str, tuple[Callable[[Path], None], list[str], str]] = {
    "import error": (append("config/wsgi.py", "\nimport nosuchmodule\n"), [], "No module named 'nosuchmodule'"),
    "settings error": (append("config/settings.py", "\nraise ValueError('no such setting')\n"), [], "no such setting"),
    "package that does not exist": (
        append("requirements.txt", f"\nslipway-no-such-package==1.0 --hash=sha256:{'0' * 64}\n"),
        [],
        "slipway-no-such-package",
    ),
    "index that does not answer": (
        append("requirements.txt", f"\nslipway-no-such-package==1.0 --hash=sha256:{'0' * 64}\n"),
        ["--extra-vars", "django_app_index_url=http://127.0.0.1:9/simple/"],
        "A server of packages did not answer",
    ),
    "failing migration": (failing_migration, [], "this migration fails on purpose"),
    "destructive migration": (removing_migration, [], "django_app_migrate_destructive"),
    "health": (
        append("config/urls.py", "\nurlpatterns.insert(0, path('healthz', lambda request: 1 / 0))\n"),
        [],
        "GET /healthz (Host www.example.test, X-Forwarded-Proto http): answered 500 instead of 200",
    ),
    "smoke path": (
        append("templates/blog/post_list.html", "\n{# nothing #}\n"),
        ["--extra-vars", '{"release_smoke_paths": [{"path": "/posts/", "contains": "No such words"}]}'],
        "the answer does not contain 'No such words'",
    ),
    "worker that does not start": (
        append("config/celery.py", "\nimport sys\n\nif 'worker' in sys.argv:\n    raise ValueError('no work today')\n"),
        [],
        "no work today",
    ),
    "canary that never answers": (unanswering, ["--extra-vars", '{"release_probe_timeout": 3}'], "no answer"),
}


# What another case shows as well in another place is for `make test-long`.
REFUSED_LONG = (
    "package that does not exist",
    "settings error",
    "destructive migration",
    "smoke path",
    "canary that never answers",
)


@pytest.mark.parametrize(
    "case", [pytest.param(case, marks=pytest.mark.long if case in REFUSED_LONG else []) for case in REFUSED]
)
def test_refused_release_leaves_the_other_serving(cluster: Cluster, visitors: Visitors, case: str) -> None:
    change, arguments, said = REFUSED[case]
    before = cluster.serving()
    count = "SELECT count(*) FROM django_migrations WHERE app = 'shop'"
    applied = psql(cluster.hosts["first"], count)
    result = cluster.playbook("deploy.yml", *cluster.source(case.replace(" ", "-"), change), *arguments)
    assert result.returncode != 0
    assert said in " ".join(result.stdout.split()), result.stdout[-6000:]
    assert "the previous release is still active" in result.stdout
    after = cluster.serving()
    if case == "worker that does not start":
        # The web server had changed over, and has been started anew.
        before = {name: (unit, 0, release) for name, (unit, _, release) in before.items() if name.endswith("web")} | {
            name: found for name, found in before.items() if not name.endswith("web")
        }
        after = {name: (unit, 0 if name.endswith("web") else pid, rel) for name, (unit, pid, rel) in after.items()}
    assert after == before
    assert cluster.only_live_slots_run()
    assert cluster.lock() == {}
    assert cluster.log()[-1]["what"] == "failed" and cluster.log()[-1]["reason"]
    assert psql(cluster.hosts["first"], count) == applied


def test_migration_gives_way_to_the_site(cluster: Cluster, visitors: Visitors) -> None:
    host, before = cluster.hosts["first"], cluster.serving()
    source = cluster.source("locked", adding_migration)
    hold = "BEGIN; SELECT 1 FROM shop_product LIMIT 1; SELECT pg_sleep(3600); COMMIT"
    holder = threading.Thread(target=host.run, args=("runuser -u postgres -- psql -d %s -c %s", APP, hold))
    holder.start()
    try:
        result = cluster.playbook(
            "deploy.yml",
            *source,
            "--extra-vars",
            '{"django_app_migrate_attempts": 2, "django_app_migrate_lock_timeout": 2}',
        )
    finally:
        holding = "query LIKE '%pg_sleep(3600)%' AND pid <> pg_backend_pid()"
        psql(host, f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE {holding}")
        holder.join()
    assert result.returncode != 0 and "lock" in result.stdout, result.stdout[-4000:]
    assert "shop.9001_adding" in result.stdout
    assert cluster.serving() == before and cluster.lock() == {}


def test_second_host_that_fails_takes_the_first_back(cluster: Cluster, visitors: Visitors) -> None:
    before = {name: (unit, release) for name, (unit, _, release) in cluster.serving().items()}
    # There the slot cannot start.
    second = cluster.hosts["second"]
    live = live_unit(second, "web").split("@")[1][0]
    idle = "b" if live == "a" else "a"
    drop_in = f"/etc/systemd/system/{APP}-web@{idle}.service.d"
    second.check_output(
        "mkdir -p %s && printf '[Service]\\nExecStartPre=/bin/false\\n' >%s/refuse.conf && systemctl daemon-reload",
        drop_in,
        drop_in,
    )
    try:
        result = cluster.playbook("deploy.yml", *cluster.source("second-fails"))
    finally:
        second.check_output("rm -r %s && systemctl daemon-reload", drop_in)
    assert result.returncode != 0
    assert f"{APP}-web@{idle}.service did not start" in result.stdout, result.stdout[-6000:]
    assert "on second" in result.stdout and "take back web" in result.stdout
    assert {name: (unit, release) for name, (unit, _, release) in cluster.serving().items()} == before
    assert cluster.only_live_slots_run() and cluster.lock() == {}
    cluster.deploy()


def test_long_task_ends_in_the_old_slot_and_beat_is_one(cluster: Cluster) -> None:
    host = cluster.hosts["first"]
    cluster.deploy(*cluster.source("task-one", append("ops/tasks.py", WAIT)))
    # One worker has to take both tasks: the other host's is stopped meanwhile.
    cluster.hosts["second"].check_output("systemctl stop %s-celery-default", APP)
    old = main_pid(host, live_unit(host, "celery-default"))
    state = f"/var/lib/{APP}"
    host.check_output("rm -f %s/long %s/long.begun %s/long.end %s/short %s/short.begun", *[state] * 5)
    send = "from ops.tasks import wait_for_a_test as t; t.delay('{}', '{}')"
    host.check_output("%s-manage shell -v0 -c %s", APP, send.format(f"{state}/long", f"{state}/long.end"))
    wait_until(lambda: host.file(f"{state}/long.begun").exists, "the long task to begin")
    beats: list[int] = []
    stop = threading.Event()

    def count_beats() -> None:
        while not stop.is_set():
            # Without what watches the start of a slot, which has the same words.
            found = host.run("pgrep --list-full --euid %s --full ' beat '", APP).stdout.splitlines()
            beats.append(sum("slipway/start.py" not in process for process in found))
            stop.wait(0.5)

    counting = threading.Thread(target=count_beats)
    counting.start()
    try:
        cluster.deploy(*cluster.source("task-two", append("ops/tasks.py", WAIT)))
        new = main_pid(host, live_unit(host, "celery-default"))
        # The long task ends when it is told to: a deploy that waited for it would not have come so far.
        assert new != old
        # The deploy has started the other host's worker again.
        cluster.hosts["second"].check_output("systemctl stop %s-celery-default", APP)
        host.check_output("%s-manage shell -v0 -c %s", APP, send.format(f"{state}/short", ""))
        wait_until(lambda: host.file(f"{state}/short").exists, "the new slot to take a task")
        assert host.file(f"{state}/short").content_string == str(new)
        assert not host.file(f"{state}/long").exists
        host.check_output("touch %s/long.end", state)
        wait_until(lambda: host.file(f"{state}/long").exists, "the long task to end")
    finally:
        stop.set()
        counting.join()
    assert host.file(f"{state}/long").content_string == str(old), "the task was begun anew elsewhere"
    assert beats and max(beats) == 1 and beats.count(1) > 5
    host.check_output("rm %s/long %s/long.begun %s/long.end %s/short %s/short.begun", *[state] * 5)
    cluster.hosts["second"].check_output("systemctl start %s-celery-default", APP)
    cluster.deploy()


def test_second_deploy_is_told_who_is_at_work(cluster: Cluster) -> None:
    process = cluster.playbook.start("deploy.yml", *cluster.source("at-work"))
    try:
        wait_until(lambda: cluster.lock() != {}, "the lock")
        held = cluster.lock()
        second = cluster.playbook("deploy.yml")
    finally:
        process.communicate(timeout=300)
    assert process.returncode == 0
    assert second.returncode != 0
    since = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(held["since"]))
    assert f"{held['owner']['by']} (process {process.pid}) holds the lock since {since}" in " ".join(
        second.stdout.split()
    )
    assert cluster.lock() == {}
    cluster.deploy()


def test_lock_of_another_machine_holds_until_it_expires(cluster: Cluster) -> None:
    host = cluster.hosts["first"]
    owner = '{"by": "ann@elsewhere", "machine": "elsewhere", "pid": "1", "started": "1"}'
    lock = f'{{"owner": {owner}, "since": 1, "expires": EXPIRES}}'
    try:
        host.check_output("echo %s >%s/deploy.lock", lock.replace("EXPIRES", "99999999999"), FOLDER)
        refused = cluster.playbook("deploy.yml")
        assert refused.returncode != 0 and "ann@elsewhere" in refused.stdout
        assert "deploy.lock" not in refused.stdout and cluster.lock()["owner"]["by"] == "ann@elsewhere"
        host.check_output("echo %s >%s/deploy.lock", lock.replace("EXPIRES", "2"), FOLDER)
        assert recap(cluster.deploy())["first"]["changed"] == 0
    finally:
        host.run("rm -f %s/deploy.lock", FOLDER)


def test_releases_are_listed_and_gone_back_to_by_name(cluster: Cluster) -> None:
    current = cluster.releases().pop()
    listing = cluster.deploy(playbook="list_releases.yml")
    assert re.search(
        rf"^{current}\s+current\s+\S+Z\s+\S+@\S+\s+first \(.*web.*\), second \(.*web.*\)", listing, re.MULTILINE
    )
    kept = re.search(r"^([0-9a-f]{12})\s+kept", listing, re.MULTILINE)
    failed = re.search(r"^([0-9a-f]{12})\s+failed", listing, re.MULTILINE)
    assert kept and failed, listing
    cluster.deploy("--extra-vars", f"release_name={kept[1]}", playbook="rollback.yml")
    assert cluster.releases() == {kept[1]}
    missing = cluster.playbook("rollback.yml", "--extra-vars", "release_name=000000000000")
    assert missing.returncode != 0 and "there is no complete release 000000000000" in missing.stdout
    assert cluster.releases() == {kept[1]} and cluster.lock() == {}
    cluster.deploy()
    assert cluster.releases() == {current}


def test_release_that_does_not_fit_the_schema_is_refused(cluster: Cluster) -> None:
    """A newer release has removed a column: neither a rollback nor a deploy switches to one that uses it."""
    host, before = cluster.hosts["first"], cluster.serving()
    psql(host, "ALTER TABLE shop_product RENAME COLUMN summary TO kept_by_the_test")
    psql(host, "INSERT INTO django_migrations (app, name, applied) VALUES ('shop', '9001_gone', now())")
    try:
        for playbook in ("rollback.yml", "deploy.yml"):
            result = cluster.playbook(playbook)
            said = " ".join(result.stdout.split())
            assert result.returncode != 0 and "column shop_product.summary is missing" in said, said[-4000:]
            assert "unknown to the release: shop.9001_gone" in said and "django_app_allow_schema_conflicts" in said
            assert cluster.serving() == before and cluster.lock() == {}
        psql(host, "ALTER TABLE shop_product RENAME COLUMN kept_by_the_test TO summary")
        # What is left is a migration that changes nothing that the release uses.
        cluster.deploy()
        assert cluster.serving() == before
    finally:
        columns = "table_name = 'shop_product' AND column_name = 'kept_by_the_test'"
        if psql(host, f"SELECT count(*) FROM information_schema.columns WHERE {columns}") == "1":
            psql(host, "ALTER TABLE shop_product RENAME COLUMN kept_by_the_test TO summary")
        psql(host, "DELETE FROM django_migrations WHERE app = 'shop' AND name = '9001_gone'")


def test_part_of_a_site_is_refused(cluster: Cluster) -> None:
    result = cluster.playbook("deploy.yml", "--limit", "second")
    assert result.returncode != 0 and "--limit leaves out first" in " ".join(result.stdout.split())


def test_old_releases_go_and_what_serves_stays(cluster: Cluster) -> None:
    before = cluster.releases().pop()
    cluster.deploy(*cluster.source("newer"), "--extra-vars", '{"release_keep": 2}')
    for host in cluster.hosts.values():
        kept = host.check_output("ls %s/releases", FOLDER).split()
        assert {before, *cluster.releases()} <= set(kept) and len(kept) <= 3, kept
    cluster.deploy(playbook="rollback.yml")
    assert cluster.releases() == {before}


# Where a deploy is killed in every run: before, while and after what serves changes. `make test-long` takes all tasks.
KILLED_AT = ("Apply the migrations", "Activate the release on the first host", "commit | Commit the release")


def kill_deploy(cluster: Cluster, *arguments: str, at: Callable[[int, str], bool]) -> bool:
    """Start a deploy and kill it by SIGKILL at the task that `at` chooses; return whether there was one."""
    process = cluster.playbook.start("deploy.yml", *arguments)
    assert process.stdout
    tasks = (line for line in process.stdout if line.startswith("TASK ["))
    found = any(at(number, line) for number, line in enumerate(tasks))
    if found:
        time.sleep(0.3)
        process.send_signal(signal.SIGKILL)
    process.communicate()
    return found


def is_whole(cluster: Cluster) -> bool:
    """Tell whether all hosts serve one release, each from one slot, and the next deploy is free to begin."""
    current = [host.check_output("readlink %s/current", FOLDER) for host in cluster.hosts.values()]
    candidates = [host.check_output("readlink -f %s/candidate", FOLDER) for host in cluster.hosts.values()]
    return (
        len(cluster.releases()) == 1
        and cluster.only_live_slots_run()
        and cluster.lock() == {}
        and current == candidates
    )


@pytest.mark.parametrize("task", KILLED_AT)
def test_killed_run_is_finished_by_the_next(cluster: Cluster, visitors: Visitors, task: str) -> None:
    source = cluster.source(f"killed-{KILLED_AT.index(task)}")
    assert kill_deploy(cluster, *source, at=lambda _, line: task in line), f"no task is called {task}"
    cluster.deploy(*source)
    assert is_whole(cluster)
    if task == KILLED_AT[-1]:
        again = cluster.deploy(*source)
        assert all(counts["changed"] == 0 for counts in recap(again).values()), again[-6000:]


@pytest.mark.long
def test_run_killed_at_any_task_is_finished(cluster: Cluster, visitors: Visitors) -> None:
    """Killed at the first task, then at the second, and so on: each run has to get over what those before it left."""
    source = cluster.source("killed-at-any")
    number = 0
    while kill_deploy(cluster, *source, at=lambda count, _: count == number):  # noqa: B023 (used up before it changes)
        number += 1
    assert number > 30
    assert is_whole(cluster)
    again = cluster.deploy(*source)
    assert all(counts["changed"] == 0 for counts in recap(again).values()), again[-6000:]


DRY_RUNS = [
    ("base", "database", "redis", "edge", "firewall", "preflight"),
    ("plan_capacity", "audit_secrets", "replication_status", "list_releases", "status"),
    ("run_management_command", "maintenance"),
    ("secrets",),
    ("deploy",),
    ("rotate_secrets",),
    ("patch_hosts",),
    ("drain_host", "undrain_host"),
    ("remove_host",),
    ("promote_replica",),
    ("move_redis",),
]


@pytest.mark.long
@pytest.mark.parametrize("names", DRY_RUNS, ids=lambda names: names[0])
def test_dry_run_of_any_playbook_changes_nothing(
    playbook: Playbooks, hosts: dict[str, Host], names: tuple[str, ...]
) -> None:
    """site.yml is tried with --check on bare hosts and in each scenario; a rollback needs a release to go back to."""
    first, last = list(hosts)[0], list(hosts)[-1]
    known = {"command": "check", "host": last, "promote": first, "from": last}
    books = [PROJECT / f"playbooks/{name}.yml" for name in names]
    texts = "".join(book.read_text(encoding="utf-8") for book in books)
    said = {f"slipway_{name}": value for name, value in known.items() if f"`slipway_{name}`" in texts}
    words = ["--check", "--diff", "--extra-vars", json.dumps(said | {"nginx_maintenance": True})]
    before = {name: state_of(host) for name, host in hosts.items()}
    result = playbook(books[0].name, *map(str, books[1:]), *words)
    assert result.returncode == 0, result.stdout[-4000:]
    assert {name: state_of(host) for name, host in hosts.items()} == before


def test_every_playbook_of_operators_is_tried_with_a_dry_run() -> None:
    tried = {name for names in DRY_RUNS for name in names} | {"site", "rollback"}
    playbooks = [path for path in (PROJECT / "playbooks").glob("[!_]*.yml") if "# Deprecated" not in path.read_text()]
    assert tried == {path.stem for path in playbooks}


def test_host_that_restarts_amid_a_switch_serves(cluster: Cluster) -> None:
    host = cluster.hosts["first"]
    process = cluster.playbook.start("deploy.yml", *cluster.source("restarted"))
    assert process.stdout
    for line in process.stdout:
        if line.startswith("TASK [") and "Activate the release on the first host" in line:
            break
    time.sleep(1)
    restart(host)
    process.communicate(timeout=300)
    assert process.returncode != 0
    wait_until(lambda: all(site.answers() for site in cluster.sites), "the site")
    cluster.deploy(*cluster.source("restarted"))
    assert len(cluster.releases()) == 1 and cluster.only_live_slots_run() and cluster.lock() == {}
