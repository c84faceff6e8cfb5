"""The roles that run the application: what they write of options, environments and folders, and what they refuse."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable
from typing import Any

import pytest
from ansible.parsing.dataloader import DataLoader
from ansible.template import Templar
from conftest import ROOT, load_yaml, options_of
from rendering import USES, render

from ansible_collections.slipway.kit.plugins.plugin_utils.preflight.inspector import Inspector

CELERY = ROOT / "roles/celery"


@pytest.fixture
def written(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """Return a function that gives what the role celery writes, by path."""

    def files(**extra: Any) -> dict[str, str]:
        variables = variables_for(CELERY, "13", **extra)
        return {file.path: file.text for use in USES if use.role == CELERY for file in render(use, variables)}

    return files


def command_of(unit: str) -> list[str]:
    """Return the words of the command that a unit starts."""
    (line,) = re.findall(r"^ExecStart=(.*)$", unit.replace("\\\n", ""), flags=re.MULTILINE)
    return shlex.split(line)


def test_further_options_of_a_worker_reach_it(written: Callable[..., dict[str, str]]) -> None:
    options = ["-E", "-O", "fair", "--max-memory-per-child=200000", "--autoscale=4,1"]
    words = command_of(
        written(celery_workers=[{"name": "a", "options": options}])["/etc/slipway/services/celery-a/unit"]
    )
    begin = words.index("-E")
    assert words[begin : begin + len(options)] == options and begin > words.index("worker")
    assert words.index("--max-tasks-per-child") > begin


def test_environment_of_beat_is_beats_alone(written: Callable[..., dict[str, str]]) -> None:
    files = written(celery_beat_environment={"ONLY_BEAT": "a b"}, celery_beat=True)
    assert 'ONLY_BEAT="a b"' in files["/etc/slipway/services/celery-beat/process.env"]
    assert "ONLY_BEAT" not in files["/etc/slipway/services/celery-default/process.env"]


def refusals(role: str, variables_for: Callable[..., dict[str, Any]], fault: dict[str, Any]) -> str:
    """Return why a role's preflight refuses variables, empty when it does not."""
    folder = ROOT / "roles" / role
    variables = variables_for(folder, "13", **fault)
    (task,) = load_yaml(folder / "tasks/preflight.yml")
    inspector = Inspector(role, [role], options_of(folder), variables, Templar(DataLoader(), variables))
    inspector.inspect_options()
    inspector.inspect_checks(task["slipway.kit.preflight"]["checks"])
    return " ".join(fault.why for fault in inspector.faults)


@pytest.mark.parametrize(
    ("fault", "message"),
    [
        *(
            ({"celery_workers": [{"name": "a", "options": [option]}]}, "options that the role sets itself")
            for option in (
                *("--pool=gevent", "-c8", "-c", "--concurrency", "-B", "--beat", "-n", "--hostname=x", "--uid", "-Q"),
                *("--detach", "--pidfile=/x", "--logfile", "-lINFO", "--app=x", "--max-tasks-per-child=1"),
                *(
                    "-Qother",
                    "-Q=other",
                    "-Pgevent",
                    "-Amysite",
                    "-nx",
                    "-bredis://other",
                    "-Bx",
                    "-Dx",
                    "-f/x",
                    "-s/x",
                ),
                *("-EB", "-EQother", "-EEPgevent", "-s", "--schedule-filename=/x"),
            )
        ),
        ({"celery_workers": [{"name": "a", "options": ["a\nb"]}]}, "one line"),
        ({"celery_workers": [{"name": "a", "command": ["celery", "worker", "--uid", "x"]}]}, "become no other user"),
        ({"celery_workers": [{"name": "a", "command": ["celery", "worker", "--gid=x"]}]}, "become no other user"),
        ({"celery_workers": [{"name": "a", "command": ["A=b", "x"]}]}, "begin with a program's name"),
        ({"celery_workers": [{"name": "a", "command": ["sh", "-c", "a\nb"]}]}, "one line"),
        ({"celery_workers": [{"name": "a", "command": ["x"], "settle": -1}]}, "from 0 to 600"),
        ({"celery_beat_environment": {"A-B": "c"}}, "names that a shell takes in their environment"),
        ({"celery_beat_environment": {"A": "b\rc"}}, "values that a process can be given"),
        ({"celery_start_timeout": 0}, "from 1 to 3600"),
    ],
)
def test_celery_refuses(variables_for: Callable[..., dict[str, Any]], fault: dict[str, Any], message: str) -> None:
    assert message in refusals("celery", variables_for, fault)


@pytest.mark.parametrize(
    "option",
    [
        "-E",
        "-O",
        "fair",
        "-Ofair",
        "-EOfair",
        "-X",
        "-Xbulk",
        "-Imysite.tasks",
        "-S/x",
        "--max-memory-per-child",
        "--autoscale=4,1",
    ],
)
def test_celery_takes(variables_for: Callable[..., dict[str, Any]], option: str) -> None:
    assert not refusals("celery", variables_for, {"celery_workers": [{"name": "a", "options": [option]}]})


@pytest.mark.parametrize("role", ["gunicorn", "celery", "processes"])
@pytest.mark.parametrize(
    ("path", "message"),
    [
        *((path, "must not be a folder of the system") for path in ("/etc", "/var/", "/var/lib", "/var/log/", "/srv")),
        *((path, "must not be below /run") for path in ("/run/shop", "/var/run/shop")),
        *((path, "must be without ..") for path in ("/srv/shop/../other", "/srv/shop/..")),
    ],
)
def test_directories_of_the_system_are_not_given_away(
    variables_for: Callable[..., dict[str, Any]], role: str, path: str, message: str
) -> None:
    assert message in refusals(role, variables_for, {f"{role}_writable_paths": [path]})


@pytest.mark.parametrize("role", ["gunicorn", "celery", "processes"])
@pytest.mark.parametrize(
    "path", ["/srv/shop/data", "/var/spool/shop", "/var/log/shop", "/opt/shop/x..y", "-/srv/shop/later"]
)
def test_directories_of_the_application_are(variables_for: Callable[..., dict[str, Any]], role: str, path: str) -> None:
    assert not refusals(role, variables_for, {f"{role}_writable_paths": [path]})
