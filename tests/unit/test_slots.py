"""Services in two slots: the cause of a failure is what is known of it, and one that does not stay up is refused."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from types import SimpleNamespace
from typing import Any, ClassVar

import pytest

from ansible_collections.slipway.kit.plugins.module_utils.release import slots
from ansible_collections.slipway.kit.plugins.modules import release_slots

UNIT = "shop-web@a.service"
TRACEBACK = ["Traceback (most recent call last):", "django.db.utils.OperationalError: connection refused"]


class Systemd:
    """A systemd that says what it is told to say."""

    def __init__(self, journal: list[str], **state: str) -> None:
        self.lines = journal
        self.state = {"ActiveState": "active", "SubState": "running", "NRestarts": "0"} | state
        self.calls: list[tuple[str, ...]] = []
        self.starts = True

    def show(self, _: str) -> dict[str, str]:
        """Return the state."""
        return self.state

    def is_up(self, _: str) -> bool:
        """Tell whether the unit runs or is on its way there."""
        return self.state["ActiveState"] in slots.UP

    def value(self, _: str, __: str) -> str:
        """Return the time limit."""
        return "1min 30s"

    def journal(self, _: str, since: float = 0) -> list[str]:
        """Return the journal."""
        return self.lines

    def try_run(self, *arguments: str) -> tuple[bool, str]:
        """Note a command."""
        self.calls.append(arguments)
        return self.starts or arguments[0] != "start", "Job for the unit failed."


def service(systemd: Systemd, **settings: Any) -> Any:
    """Return a service of the application shop."""
    made = slots.Service("shop", "web", systemd)
    made.settings |= settings
    return made


@pytest.mark.parametrize(
    ("journal", "said", "not_said"),
    [
        # It has asked the database in vain, and that is not why it was too slow.
        (
            [*TRACEBACK, f"{UNIT}: start operation timed out. Terminating.", f"{UNIT}: Failed with result 'timeout'."],
            "it was not ready in time (TimeoutStartSec=1min 30s)",
            "OperationalError",
        ),
        (
            [
                *TRACEBACK,
                f"{UNIT}: Main process exited, code=exited, status=1/FAILURE",
                f"{UNIT}: Failed with result 'exit-code'.",
            ],
            "it ended with status 1/FAILURE; django.db.utils.OperationalError: connection refused",
            "timed out",
        ),
        (
            [
                f"{UNIT}: Failed to set up mount namespacing: /srv/data: No such file or directory",
                f"{UNIT}: Main process exited, code=exited, status=226/NAMESPACE",
                f"{UNIT}: Failed with result 'exit-code'.",
            ],
            "status 226/NAMESPACE; Failed to set up mount namespacing: /srv/data: No such file or directory",
            "guess",
        ),
        (
            [*TRACEBACK, f"{UNIT}: A process of this unit has been killed by the OOM killer.",
             f"{UNIT}: Main process exited, code=killed, status=9/KILL", f"{UNIT}: Failed with result 'oom-kill'."],
            "the kernel ended it because memory ran out",
            "OperationalError",
        ),
        (
            [f"{UNIT}: Main process exited, code=killed, status=9/KILL", f"{UNIT}: Failed with result 'signal'."],
            "ended by the signal 9/KILL",
            "OperationalError",
        ),
        (TRACEBACK, "Job for the unit failed.", "OperationalError"),
        (
            [
                '  File "gunicorn/util.py", line 138, in set_owner_process',
                "PermissionError: [Errno 1] Operation not permitted",
                f"{UNIT}: Main process exited, code=exited, status=3/NOTIMPLEMENTED",
                f"{UNIT}: Failed with result 'exit-code'.",
            ],
            "can become no other: take options such as --uid",
            "timed out",
        ),
    ],
)  # fmt: skip
def test_cause_is_what_is_known(journal: list[str], said: str, not_said: str) -> None:
    systemd = Systemd(journal)
    systemd.starts = False
    with pytest.raises(slots.SlotError) as error:
        service(systemd).start("a")
    assert said in str(error.value) and not_said not in str(error.value)
    assert error.value.journal == journal
    assert ("stop", UNIT) in systemd.calls


@pytest.mark.parametrize(
    "state", [{"NRestarts": "1"}, {"ActiveState": "activating", "SubState": "auto-restart"}, {"ActiveState": "failed"}]
)
def test_service_that_does_not_stay_up_is_refused(monkeypatch: pytest.MonkeyPatch, state: dict[str, str]) -> None:
    monkeypatch.setattr(slots, "SETTLE_INTERVAL", 0)
    systemd = Systemd([], **state)
    with pytest.raises(slots.SlotError, match="did not stay up"):
        service(systemd, settle=1).start("a")
    assert ("stop", UNIT) in systemd.calls


def test_service_that_systemd_is_to_try_again_is_not_stopped() -> None:
    systemd = Systemd([])
    systemd.starts = False
    with pytest.raises(slots.SlotError):
        service(systemd).start("a", leave=True)
    assert ("stop", UNIT) not in systemd.calls


@pytest.mark.parametrize(
    ("state", "started"),
    [
        ({}, True),
        ({"ActiveState": "activating", "SubState": "start"}, True),
        ({"ActiveState": "activating", "SubState": "auto-restart"}, False),
        ({"ActiveState": "activating", "SubState": "auto-restart-queued"}, False),
        ({"ActiveState": "failed"}, False),
    ],
)
def test_service_that_waits_to_be_started_again_has_not_started(state: dict[str, str], started: bool) -> None:
    assert service(Systemd([], **state)).has_started("a") == started


RESTART_PENDING = [
    {"ActiveState": "activating", "SubState": "auto-restart"},
    {"ActiveState": "activating", "SubState": "auto-restart-queued"},
]


def live_service(folder: Path, systemd: Systemd, ends: bool) -> Any:
    """Return a service whose slot a is live with what is wanted."""
    (folder / "a").mkdir(parents=True)
    (folder / "live").symlink_to("a")
    made = service(systemd, ends=ends)
    made.source, made.folder = str(folder), str(folder)
    (folder / "a/digest").write_text(made.wanted("/release"))
    return made


@pytest.mark.parametrize("state", RESTART_PENDING, ids=lambda state: state["SubState"])
@pytest.mark.parametrize("ends", [True, False])
def test_command_that_ends_by_intention_is_current_between_two_starts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, ends: bool, state: dict[str, str]
) -> None:
    """A run without a change leaves it alone, and a check of the services accepts it."""
    monkeypatch.setattr(slots.Service, "wanted", lambda *_: "digest")
    systemd = Systemd([], **state)
    made = live_service(tmp_path / "web", systemd, ends)
    assert made.is_current("/release") == ends
    monkeypatch.setattr(made, "enable", lambda: None)
    made.switch("/release")
    assert (("start", UNIT) in systemd.calls) == (not ends)
    releaser = release_slots.Releaser.__new__(release_slots.Releaser)
    releaser.services, releaser.module = [made], SimpleNamespace(check_mode=False)
    if ends:
        releaser.check()
    else:
        with pytest.raises(slots.SlotError, match="does not run"):
            releaser.check()


def test_command_that_ends_by_intention_is_not_current_once_it_has_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(slots.Service, "wanted", lambda *_: "digest")
    made = live_service(tmp_path / "web", Systemd([], ActiveState="failed", SubState="failed"), ends=True)
    assert not made.is_current("/release")


def test_slot_that_was_changed_by_hand_is_not_what_was_started(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(slots, "UNITS", str(tmp_path))
    made = service(Systemd([]))
    made.folder = str(tmp_path / "web")
    slot = tmp_path / "web/a"
    slot.mkdir(parents=True)
    for path, text in ((slot / "app.env", "A=1"), (slot / "digest", "wanted"), (tmp_path / UNIT, "[Service]")):
        path.write_text(text)
    assert made.runs("a") == "wanted", "a slot of before has no digest of its own"
    (slot / "made").write_text(made.content("a"))
    assert made.runs("a") == "wanted"
    for path in (slot / "app.env", tmp_path / UNIT):
        text = path.read_text()
        path.write_text(f"{text}\n# by hand")
        assert made.runs("a") == ""
        path.write_text(text)
    (slot / "__pycache__").mkdir()
    assert made.runs("a") == "wanted"
    (slot / "new").touch()
    assert made.runs("a") == ""


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (errno.ENOSPC, "/srv/shop/x: No space left on device; the file system has no space or no inodes left: df -h"),
        (errno.EMFILE, "too many open files"),
        (errno.ENOENT, "/srv/shop/x: No such file or directory"),
    ],
)
def test_limit_of_the_host_is_named(number: int, said: str) -> None:
    assert said in release_slots.explain(OSError(number, os.strerror(number), "/srv/shop/x"))


def test_pause_stops_what_answers_no_visitors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Workers, beat and other services; one that does not run is left alone."""
    stopped: list[str] = []

    class Service:
        """A service that is live in slot a."""

        live = "a"

        def __init__(self, name: str, socket: str = "", up: bool = True) -> None:
            self.name, self.settings, self.up = name, {"socket": socket}, up

        def is_up(self, _: str) -> bool:
            """Tell whether it runs."""
            return self.up

        def unit(self, slot: str) -> str:
            """Return the name of its unit."""
            return f"{self.name}@{slot}"

        def stop(self, slot: str) -> None:
            """Note it."""
            stopped.append(self.unit(slot))

    releaser = release_slots.Releaser.__new__(release_slots.Releaser)
    releaser.services = [Service("web", "/run/x.sock"), Service("celery"), Service("beat"), Service("off", up=False)]
    releaser.module, releaser.actions = SimpleNamespace(check_mode=False), []
    monkeypatch.setattr(release_slots, "is_wanted", lambda _: True)
    releaser.pause()
    assert stopped == ["celery@a", "beat@a"] and len(releaser.actions) == 2
    stopped.clear()
    releaser.module.check_mode = True
    releaser.pause()
    assert stopped == []


@pytest.mark.parametrize("action", ["switch", "commit", "roll_back", "probe", "wait", "check", "pause"])
def test_dry_run_of_any_action_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, action: str) -> None:
    """Another deploy may be at work, whose slot is not committed: a dry run that fails must not roll it back."""

    class Service:
        """A service in the middle of another deploy, which refuses each change."""

        name, live, committed, folder = "web", "b", "a", str(tmp_path)
        settings: ClassVar[dict[str, Any]] = {"socket": "", "overlap": True, "order": 1, "beside": []}

        def unit(self, slot: str) -> str:
            """Return the name of its unit."""
            return f"web@{slot}"

        def is_up(self, _: str) -> bool:
            """Both slots run."""
            return True

        def is_current(self, _: str) -> bool:
            """The release is another one."""
            return False

        def needs_commit(self) -> list[str]:
            """Return what a commit would do."""
            return ["commit web"]

        def __getattr__(self, name: str) -> Any:
            pytest.fail(f"the dry run calls {name} of a service")

    for name in ("old", "new"):
        (tmp_path / "releases" / name).mkdir(parents=True)
    (tmp_path / "current").symlink_to(tmp_path / "releases/old")
    (tmp_path / "candidate").symlink_to(tmp_path / "releases/new")
    monkeypatch.setattr(release_slots, "is_wanted", lambda _: True)
    monkeypatch.setattr(release_slots, "find_unwanted", lambda *_: [str(tmp_path / "releases/older")])
    parameters = {"only": [], "but": [], "address": "", "by": "me", "reason": "no disk", "keep": 5, "what": "deploy"}
    releaser = release_slots.Releaser.__new__(release_slots.Releaser)
    releaser.services, releaser.actions, releaser.gate = [Service()], [], {"probes": []}
    releaser.module = SimpleNamespace(check_mode=True, params=parameters | {"canary": True})
    releaser.application, releaser.folder, releaser.candidate = "shop", str(tmp_path), str(tmp_path / "candidate")
    before = sorted(tmp_path.rglob("*"))
    getattr(releaser, action)()
    assert sorted(tmp_path.rglob("*")) == before
