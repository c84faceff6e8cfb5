"""A unit that does not run with new files gets its previous ones back, and runs."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.kit.plugins.module_utils.systemd import managed_unit
from ansible_collections.slipway.kit.plugins.module_utils.systemd import unit as systemd_unit

HEAD = "# Ansible managed\n"


class Failed(Exception):
    """What fail_json was given."""


class Host:
    """A host with one service, which takes a configuration without the word `bad` only."""

    def __init__(self, folder: Path) -> None:
        self.conf = folder / "conf.d/service.conf"
        self.conf.parent.mkdir()
        self.stamps = folder / "stamps"
        self.state, self.running = "inactive", ""
        self.validates = False

    # Of the module

    check_mode = False

    def run_command(self, command: list[str]) -> tuple[int, str, str]:
        """Validate the configuration."""
        return (1, "", "service.conf:2: bad") if "bad" in self.conf.read_text() else (0, "", "")

    def fail_json(self, **result: Any) -> None:
        """End the module."""
        raise Failed(result)

    # Of systemd

    def show(self, _: str) -> dict[str, str]:
        """Return what systemd says of the unit."""
        return {
            "LoadState": "loaded",
            "ActiveState": self.state,
            "SubState": "",
            "UnitFileState": "enabled",
            "NeedDaemonReload": "no",
        }

    def is_up(self, _: str) -> bool:
        """Tell whether the unit is active."""
        return self.state == "active"

    def runs(self, _: str) -> bool:
        """Tell whether the unit is active."""
        return self.state == "active"

    def run(self, *_: str) -> None:
        """Do what is not about the configuration."""

    def journal(self, _: str, since: float = 0) -> list[str]:
        """Return what the unit wrote."""
        return ["reload failed: port 80 is taken", "its last words"] if since else ["its last words"]

    def try_run(self, action: str, *_: str) -> tuple[bool, str]:
        """Do what systemctl is told."""
        if action in ("start", "restart", "reload"):
            text = self.conf.read_text()
            if "bad" in text:
                self.state = "active" if action == "reload" else "failed"
                return False, f"Job for it failed at {action}"
            self.state, self.running = "active", text
        return True, ""

    # Of the test

    def write(self, text: str) -> None:
        """Write the configuration."""
        self.conf.write_text(HEAD + text)

    def keep(self, kind: str = "restart_on", **more: Any) -> list[str]:
        """Keep the unit by its directory, as the module does."""
        options: dict[str, Any] = {
            "name": "x.service",
            kind: [str(self.conf.parent)],
            "stamps": str(self.stamps),
        } | more
        if self.validates:
            options["validate"] = ["checker"]
        return managed_unit.keep(self, options)


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Host:
    """Return a host whose service runs with a configuration that it takes."""
    made = Host(tmp_path)
    monkeypatch.setattr(managed_unit, "Systemd", lambda _: made)
    # Nobody but root may give a file away.
    monkeypatch.setattr(systemd_unit.os, "fchown", lambda *_: None)
    made.write("good")
    assert made.keep() == ["daemon-reload", "start"] and made.running == f"{HEAD}good"
    return made


@pytest.mark.parametrize("validates", [True, False])
@pytest.mark.parametrize("state", ["active", "failed"])
def test_refused_files_are_restored_and_the_unit_runs(host: Host, validates: bool, state: str) -> None:
    host.validates, host.state = validates, state
    host.write("bad")
    with pytest.raises(Failed) as raised:
        host.keep()
    said = raised.value.args[0]
    assert "The previous files were restored, and the unit runs with them" in said["msg"]
    assert str(host.conf) in said["msg"]
    assert "bad" in said["refused_with"][0] if validates else said["journal"] == ["its last words"]
    assert (host.state, host.conf.read_text()) == ("active", f"{HEAD}good")
    # The next run with a good file repairs it, and one after that changes nothing.
    host.write("better")
    assert host.keep() == ["restart"] and host.running == f"{HEAD}better"
    assert host.keep() == []


def test_refused_reload_keeps_the_unit(host: Host) -> None:
    assert host.keep("reload_on") == ["restart"]
    host.write("bad")
    with pytest.raises(Failed):
        host.keep("reload_on")
    assert (host.state, host.conf.read_text()) == ("active", f"{HEAD}good")


def test_reason_that_a_reload_was_refused_is_told(host: Host) -> None:
    assert host.keep("reload_on") == ["restart"]
    host.write("bad")
    with pytest.raises(Failed) as raised:
        host.keep("reload_on")
    said = raised.value.args[0]["msg"]
    assert (
        "systemctl reload x.service failed: reload failed: port 80 is taken. The previous files were restored" in said
    )


def test_state_of_nginx_is_restored_but_never_removed(host: Host) -> None:
    """What maintenance.yml has said and Nginx did not hear is not in force after the next reload either."""
    state = host.conf.with_name("maintenance.conf")
    state.write_text("# State of this host, kept by Slipway.\nopen")
    assert host.keep() == ["restart"]
    state.write_text("# State of this host, kept by Slipway.\nclosed")
    new = host.conf.with_name("release.conf")
    new.write_text("# State of this host, kept by Slipway.\nnew")
    host.write("bad")
    with pytest.raises(Failed):
        host.keep()
    assert state.read_text().endswith("open")
    assert new.exists()


def test_renamed_path_restarts_nothing(host: Host) -> None:
    host.write("include /etc/old.conf")
    assert host.keep() == ["restart"]
    host.write("include /etc/new.acl")
    assert host.keep(renamed={"/etc/new.acl": "/etc/old.conf"}) == []
    host.write("include /etc/other.acl")
    assert host.keep(renamed={"/etc/new.acl": "/etc/old.conf"}) == ["restart"]


def test_new_file_is_removed_and_what_is_not_ours_stays(host: Host) -> None:
    theirs, ours = host.conf.with_name("theirs.conf"), host.conf.with_name("ours.conf")
    theirs.write_text("of the operator")
    ours.write_text(f"{HEAD}new")
    host.write("bad")
    with pytest.raises(Failed):
        host.keep()
    assert theirs.read_text() == "of the operator" and not ours.exists()


def test_first_start_has_nothing_to_restore(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "other").mkdir()
    fresh = Host(tmp_path / "other")
    monkeypatch.setattr(managed_unit, "Systemd", lambda _: fresh)
    fresh.write("bad")
    with pytest.raises(Failed) as raised:
        fresh.keep()
    assert "There are no previous files to restore" in raised.value.args[0]["msg"]


def test_copy_is_root_s_alone_and_made_once(host: Host) -> None:
    copy = host.stamps / "x.service.tar"
    assert copy.stat().st_mode & 0o777 == 0o600
    made = copy.stat().st_mtime_ns
    assert host.keep() == [] and copy.stat().st_mtime_ns == made
    # As an older version of the kit leaves a host: a run that changes nothing makes the copy.
    copy.unlink()
    assert host.keep() == [] and copy.exists()
