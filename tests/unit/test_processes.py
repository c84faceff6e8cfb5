"""The role processes: commands as they are written, folders as they are meant, and nothing left of what is unwanted."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from conftest import ROOT, load_yaml, options_of, run_action, run_here
from rendering import USES, render

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector

ROLE = ROOT / "roles/processes"
WORDS = ["./run", "two words", "\"double\" and 'single'", "back\\slash", "100%", "$HOME", "%i", ";", "", "ä"]


@pytest.fixture
def written(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """Return a function that gives what the role writes, by path."""

    def files(**extra: Any) -> dict[str, str]:
        variables = variables_for(ROLE, "13", **extra)
        return {file.path: file.text for use in USES if use.role == ROLE for file in render(use, variables)}

    return files


def setting(unit: str, name: str) -> list[str]:
    """Return the values of a setting in a unit, lines that go on joined."""
    return re.findall(rf"^{name}=(.*)$", unit.replace("\\\n", ""), flags=re.MULTILINE)


def as_systemd(line: str) -> list[str]:
    """Return the words of a command line as systemd reads it (systemd.service(5))."""
    return [word.replace("$$", "$").replace("%%", "%") for word in shlex.split(line)]


def test_words_of_a_command_arrive_as_written(written: Callable[..., dict[str, str]]) -> None:
    service = {"name": "listener", "command": WORDS}
    timer = {"name": "sweep", "command": WORDS, "schedule": "daily"}
    files = written(processes_services=[service], processes_timers=[timer])
    (command,) = setting(files["/etc/slipway/services/listener/unit"], "ExecStart")
    assert as_systemd(command) == ["/usr/bin/env", *WORDS]
    # No $ or % stands alone, which systemd would take for a variable or a specifier.
    assert not re.search(r"(?<!\$)\$(\$\$)*(?!\$)", command) and not re.search(r"(?<!%)%(%%)*(?!%)", command)
    (command,) = setting(files["/etc/systemd/system/slipway-sweep.service"], "ExecStart")
    assert as_systemd(command)[3:] == ["sh", *WORDS]


@pytest.mark.parametrize(
    ("directory", "own", "place"),
    [
        ("", None, "/srv/slipway/slots/listener/%i/release/src"),
        ("web", None, "/srv/slipway/slots/listener/%i/release/src/web"),
        ("web", "tools", "/srv/slipway/slots/listener/%i/release/src/web/tools"),
        ("web", "/srv/data", "/srv/data"),
    ],
)
def test_folder_that_a_service_works_in(
    written: Callable[..., dict[str, str]], directory: str, own: str | None, place: str
) -> None:
    service = {"name": "listener", "command": ["run"]} | ({"directory": own} if own else {})
    files = written(processes_services=[service], processes_directory=directory)
    assert setting(files["/etc/slipway/services/listener/unit"], "WorkingDirectory") == [place]


def test_another_user_does_not_take_the_applications_folder(written: Callable[..., dict[str, str]]) -> None:
    """Systemd gives a StateDirectory, with all that is in it, to the unit's user."""
    unit = written(processes_services=[{"name": "mail", "command": ["run"], "user": "www-data"}])[
        "/etc/slipway/services/mail/unit"
    ]
    assert setting(unit, "User") == ["www-data"]
    assert setting(unit, "StateDirectory") == ["slipway-mail"]


@pytest.mark.parametrize("first", [True, False])
def test_what_runs_once_runs_on_the_first_host(variables_for: Callable[..., dict[str, Any]], first: bool) -> None:
    processes = [
        {"name": "everywhere", "command": ["run"]},
        {"name": "also", "command": ["run"], "once": False},
        {"name": "single", "command": ["run"], "once": True},
    ]
    variables = variables_for(ROLE, "13", processes_services=processes, processes_timers=processes) | {
        "processes_first": first
    }
    for kind in ("services", "timers"):
        wanted = Templar(DataLoader(), variables).template(variables[f"__processes_wanted_{kind}"])
        assert [process["name"] for process in wanted] == ["everywhere", "also", *(["single"] if first else [])]


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        ({"processes_services": [{"name": "recover", "command": ["run"]}]}, "those are gunicorn's, Celery's"),
        ({"processes_services": [{"name": "web", "command": ["run"]}]}, "those are gunicorn's, Celery's"),
        ({"processes_services": [{"name": "celery-x", "command": ["run"]}]}, "those are gunicorn's, Celery's"),
        ({"processes_services": [{"name": "Listener", "command": ["run"]}]}, "must have names of small letters"),
        ({"processes_services": [{"name": "sweep", "command": ["run"]}]}, "have a name twice: sweep, sweep"),
        ({"processes_services": [{"name": "a", "command": ["A=b", "run"]}]}, "begin with a program's name"),
        ({"processes_services": [{"name": "a", "command": ["-x"]}]}, "begin with a program's name"),
        ({"processes_services": [{"name": "a", "command": ["sh", "-c", "a\nb"]}]}, "on one line each"),
        ({"processes_services": [{"name": "a", "command": ["run"], "user": "no body"}]}, "names of users"),
        ({"processes_services": [{"name": "a", "command": ["run"], "stop_timeout": 0}]}, "must be from 1 to 86400 s"),
        ({"processes_services": [{"name": "a", "command": ["run"], "directory": "a b"}]}, "folders without blanks"),
        (
            {"processes_services": [{"name": "a", "command": ["run"], "environment": {"A-B": "c"}}]},
            "no shell takes: A-B",
        ),
        ({"processes_services": [{"name": "a", "command": ["run"], "environment": {"A": 1}}]}, "as text, in quotes"),
        ({"processes_timers": [{"name": "a", "command": ["run"], "schedule": "daily;"}]}, "must have schedules"),
        (
            {"processes_timers": [{"name": "a", "command": ["run"], "schedule": "daily", "timeout": 0}]},
            "must be from 1 to 604800 s",
        ),
        ({"processes_directory": "../other"}, "must be a folder in the source"),
        ({"processes_writable_paths": ["data"]}, "must be folders that begin with a slash"),
        ({"processes_services": [{"name": "a", "command": "run me"}]}, "must be a list, is text"),
        ({"processes_timers": [{"name": "a", "command": ["run"]}]}, "is required and not set"),
        ({"processes_services": [{"name": "a", "command": ["run"], "comand": ["b"]}]}, "is not an option here"),
    ],
)
def test_preflight_refuses(variables_for: Callable[..., dict[str, Any]], fault: dict[str, Any], message: str) -> None:

    variables = variables_for(ROLE, "13", **fault)
    (task,) = load_yaml(ROLE / "tasks/preflight.yml")
    options = options_of(ROLE)
    inspector = Inspector("processes", ["processes"], options, variables, Templar(DataLoader(), variables))
    inspector.inspect_options()
    inspector.inspect_checks(task["slipway.kit.preflight"]["checks"])
    assert message in " ".join(fault.why for fault in inspector.faults)


@pytest.fixture
def prune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Return a function that runs the task on folders of the test's own, with a systemd that only listens."""
    from ansible_collections.slipway.kit.plugins.action import process_prune as action
    from ansible_collections.slipway.kit.plugins.modules import process_prune as module

    calls: list[tuple[str, ...]] = []

    class Systemd:
        def __init__(self, _: object) -> None: ...

        def show(self, unit: str) -> dict[str, str]:
            return {"LoadState": "loaded" if (tmp_path / "units" / unit).exists() else "not-found"}

        def run(self, *arguments: str) -> None:
            calls.append(arguments)

    monkeypatch.setattr(module, "UNITS", str(tmp_path / "units"))
    monkeypatch.setattr(module, "SETTINGS", str(tmp_path))
    monkeypatch.setattr(action, "SETTINGS", str(tmp_path))
    monkeypatch.setattr(module, "Systemd", Systemd)

    def execute(_: object, name: str, module_args: dict[str, Any], **__: Any) -> dict[str, Any]:
        assert name == "slipway.kit.process_prune"
        said: dict[str, Any] = {}
        fake = SimpleNamespace(params=module_args, exit_json=lambda **out: said.update(out))
        monkeypatch.setattr(module, "AnsibleModule", lambda **_: fake)
        module.main()
        return said

    monkeypatch.setattr(action.ActionModule, "_low_level_execute_command", staticmethod(run_here))
    monkeypatch.setattr(action.ActionModule, "_execute_module", execute)

    def run(check: bool = False, **params: Any) -> dict[str, Any]:
        calls.clear()
        said = run_action(action, check=check, app="app", **params)
        return {name: said[name] for name in ("changed", "services", "timers")} | {"calls": list(calls)}

    return run


@pytest.fixture
def host(tmp_path: Path) -> Path:
    """Return folders as they are on a host with two services and two timers beside gunicorn and Celery."""
    for name in ("web", "celery-default", "listener", "old"):
        (tmp_path / "app/services" / name).mkdir(parents=True)
    for folder in ("app/timers", "units/timers.target.wants"):
        (tmp_path / folder).mkdir(parents=True)
    for name in ("sweep", "gone"):
        (tmp_path / f"app/timers/{name}.env").touch()
        for kind in ("timer", "service"):
            (tmp_path / f"units/app-{name}.{kind}").touch()
        (tmp_path / f"units/timers.target.wants/app-{name}.timer").symlink_to(tmp_path / f"units/app-{name}.timer")
    return tmp_path


def test_unwanted_is_removed_and_nothing_else(host: Path, prune: Callable[..., dict[str, Any]]) -> None:
    dry = prune(check=True, services=["listener"], timers=["sweep"])
    assert dry["changed"] and (host / "app/services/old").exists() and (host / "app/timers/gone.env").exists()
    said = prune(services=["listener"], timers=["sweep"])
    assert (said["services"], said["timers"]) == (["old"], ["gone"])
    assert said["calls"] == [("stop", "app-gone.timer"), ("stop", "app-gone.service"), ("daemon-reload",)]
    assert sorted(path.name for path in (host / "app/services").iterdir()) == ["celery-default", "listener", "web"]
    left = sorted(path.name for path in (host / "units").rglob("app-*"))
    assert left == ["app-sweep.service", "app-sweep.timer", "app-sweep.timer"]
    assert prune(services=["listener"], timers=["sweep"]) == {
        "changed": False,
        "services": [],
        "timers": [],
        "calls": [],
    }


def test_removal_that_was_cut_is_finished(host: Path, prune: Callable[..., dict[str, Any]]) -> None:
    (host / "units/app-gone.timer").unlink()
    (host / "units/app-gone.service").unlink()
    assert prune(services=["listener", "old"], timers=["sweep"])["timers"] == ["gone"]
    assert not (host / "app/timers/gone.env").exists()
    assert not list((host / "units").rglob("app-gone*"))


def test_host_that_was_never_touched(prune: Callable[..., dict[str, Any]]) -> None:
    assert prune(services=[], timers=[])["changed"] is False


def test_words_of_a_workers_own_command_arrive_as_written(variables_for: Callable[..., dict[str, Any]]) -> None:
    role = ROOT / "roles/celery"
    variables = variables_for(role, "13", celery_workers=[{"name": "own", "command": WORDS}], celery_beat=False)
    (use,) = [use for use in USES if use.role == role]
    files = {file.path: file.text for file in render(use, variables)}
    (command,) = setting(files["/etc/slipway/services/celery-own/unit"], "ExecStart")
    assert as_systemd(command) == ["/usr/bin/env", *WORDS]
    assert json.loads(files["/etc/slipway/services/celery-own/service.json"])["settle"] == 5


@pytest.mark.parametrize(
    ("own", "seconds", "ends"),
    [({}, 5, False), ({"settle": 20}, 20, False), ({"settle": 0}, 0, True), ({"ready": "notify"}, 0, False)],
    ids=str,
)
def test_a_service_that_does_not_tell_when_it_is_ready_is_watched(
    written: Callable[..., dict[str, str]], own: dict[str, Any], seconds: int, ends: bool
) -> None:
    files = written(processes_services=[{"name": "listener", "command": ["run"]} | own])
    settings = json.loads(files["/etc/slipway/services/listener/service.json"])
    assert (settings["settle"], settings["ends"]) == (seconds, ends)
    assert_restart_limit(files["/etc/slipway/services/listener/unit"], limited=not ends)


def assert_restart_limit(unit: str, limited: bool) -> None:
    """Assert that a unit may be started any number of times, or at most 20 times in longer than they take."""
    (interval,) = map(int, setting(unit, "StartLimitIntervalSec"))
    bursts = setting(unit, "StartLimitBurst")
    assert (interval > 20 and bursts == ["20"]) if limited else (interval == 0 and not bursts)


@pytest.mark.parametrize(
    ("worker", "limited"),
    [
        ({"name": "own", "command": ["run"], "settle": 0}, False),
        ({"name": "own", "command": ["run"]}, True),
        ({"name": "own", "settle": 0}, True),
    ],
    ids=str,
)
def test_worker_that_ends_by_intention_has_no_restart_limit(
    variables_for: Callable[..., dict[str, Any]], worker: dict[str, Any], limited: bool
) -> None:
    role = ROOT / "roles/celery"
    variables = variables_for(role, "13", celery_workers=[worker], celery_beat=False)
    (use,) = [use for use in USES if use.role == role]
    files = {file.path: file.text for file in render(use, variables)}
    assert_restart_limit(files["/etc/slipway/services/celery-own/unit"], limited)
