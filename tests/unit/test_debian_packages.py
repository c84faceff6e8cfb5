"""Packages of Debian: what is missing, what was interrupted, and what is said where apt cannot do it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from conftest import run_action

from ansible_collections.slipway.kit.plugins.action import debian_packages as action
from ansible_collections.slipway.kit.plugins.modules import dpkg_repair as repair

STATUS = """Package: bash
Essential: yes
Status: install ok installed

Package: tree
Status: install ok {}
Version: 2.1

Package: zsh
Status: deinstall ok config-files
"""


@pytest.mark.parametrize(
    ("state", "found"),
    [
        *((state, ["tree"]) for state in ("half-installed", "unpacked", "half-configured", "triggers-pending")),
        ("installed", []),
        ("not-installed", []),
    ],
)
def test_interrupted_installation_is_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, state: str, found: list[str]
) -> None:
    (tmp_path / "status").write_text(STATUS.format(state), encoding="utf-8")
    (tmp_path / "updates").mkdir()
    monkeypatch.setattr(repair, "STATUS", tmp_path / "status")
    monkeypatch.setattr(repair, "UPDATES", tmp_path / "updates")
    assert repair.unfinished() == found
    shell = action.INTERRUPTED.replace("/var/lib/dpkg", str(tmp_path))
    said = subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout
    assert said == (" interrupted\n" if found else "")
    (tmp_path / "updates/0001").touch()
    assert repair.unfinished() == [*found, str(tmp_path / "updates/0001")]
    assert "interrupted" in subprocess.run(["sh", "-c", shell], capture_output=True, text=True, check=True).stdout


class Failed(Exception):
    """What a module says when it ends with an error."""


def fail(**said: Any) -> None:
    raise Failed(said["msg"])


def test_other_dpkg_is_waited_for_and_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = tmp_path / "lock-frontend"
    lock.touch()
    monkeypatch.setattr(repair, "LOCKS", (str(lock), str(tmp_path / "missing")))
    module = SimpleNamespace(params={"lock_timeout": 0}, fail_json=fail)
    repair.wait(module)
    hold = "import fcntl, sys; f = open(sys.argv[1], 'r+b'); fcntl.lockf(f, fcntl.LOCK_EX); print(flush=True); input()"
    with subprocess.Popen(
        [sys.executable, "-c", hold, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdin and process.stdout
        process.stdout.readline()
        with pytest.raises(Failed, match=rf"\(pid {process.pid}\) has held {lock} for 0 s"):
            repair.wait(module)
        monkeypatch.setattr(repair.time, "sleep", lambda _: process.communicate("\n"))
        module.params["lock_timeout"] = 600
        repair.wait(module)  # until the other has ended


class Module:
    """A run of dpkg_repair on a host where a package is half installed until dpkg has finished it."""

    check_mode = False

    def __init__(self, code: int) -> None:
        self.code, self.steps, self.result = code, [], {}
        self.params = {"lock_timeout": 1}

    def run_command(self, command: list[str], **_: Any) -> tuple[int, str, str]:
        """Run dpkg."""
        self.steps.append(" ".join(command[:3]))
        return self.code, "", "" if self.code == 0 else "tree: trouble"

    def exit_json(self, **result: Any) -> None:
        """End the module."""
        self.result = result

    def fail_json(self, **result: Any) -> None:
        """End the module."""
        raise Failed(result)


@pytest.mark.parametrize("code", [0, 1])
def test_interrupted_installation_is_finished_once_no_other_dpkg_is_at_work(
    monkeypatch: pytest.MonkeyPatch, code: int
) -> None:
    module = Module(code)
    monkeypatch.setattr(repair, "AnsibleModule", lambda **_: module)
    monkeypatch.setattr(repair, "unfinished", lambda: ["tree"])
    monkeypatch.setattr(repair, "wait", lambda _: module.steps.append("wait"))
    if code:
        with pytest.raises(Failed) as raised:
            repair.main()
        assert "dpkg --audit" in raised.value.args[0]["msg"] and raised.value.args[0]["packages"] == ["tree"]
    else:
        repair.main()
        assert module.result == {"changed": True, "packages": ["tree"]}
    assert module.steps == ["wait", "dpkg --configure -a"]


@pytest.mark.parametrize(
    ("lines", "calls", "finished"),
    [
        (["acl installed"], [], None),
        (["acl installed", " interrupted"], ["slipway.kit.dpkg_repair"], ["tree"]),
        (["acl half-configured", " interrupted"], ["slipway.kit.dpkg_repair", "ansible.builtin.apt"], None),
        ([], ["ansible.builtin.apt"], None),
    ],
)
def test_interrupted_installation_is_finished_before_apt_is_asked(
    monkeypatch: pytest.MonkeyPatch, lines: list[str], calls: list[str], finished: list[str] | None
) -> None:
    called = []

    def execute(_: Any, module: str, *__: Any, **___: Any) -> dict[str, Any]:
        called.append(module)
        return {"changed": True, "packages": ["tree"]}

    monkeypatch.setattr(action.ActionModule, "_low_level_execute_command", lambda *_: {"stdout_lines": lines})
    monkeypatch.setattr(action.ActionModule, "_execute_module", execute)
    result = run_action(action, name=["acl"])
    assert called == calls and result["changed"] == bool(calls)
    assert result.get("finished") == finished


@pytest.mark.parametrize(
    ("error", "said"),
    [
        ("Failed to lock apt for exclusive operation: E:Could not get lock /var/lib/dpkg/lock-frontend", "at work on"),
        ("E: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (unattended-upgr)", "at work on"),
        ("Failed to update apt cache after 5 retries: W:Failed to fetch http://deb.example.com", "from its mirror"),
        ("E: Failed to fetch http://deb.example.com/a.deb Temporary failure resolving", "from its mirror"),
        ("E: Unable to locate package postgresql-99", ""),
    ],
)
def test_error_of_apt_is_told_with_what_helps(monkeypatch: pytest.MonkeyPatch, error: str, said: str) -> None:
    monkeypatch.setattr(action.ActionModule, "_low_level_execute_command", lambda *_: {"stdout_lines": []})
    monkeypatch.setattr(action.ActionModule, "_execute_module", lambda *_, **__: {"failed": True, "msg": error})
    result = run_action(action, name=["acl"])
    assert result["failed"]
    if said:
        assert said in result["msg"] and result["msg"].startswith("acl: ") and result["apt"] == error
    else:
        assert result["msg"] == error


def test_wait_for_another_apt_is_told_once_with_who_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """Apt writes a line a second, which would hide the message."""
    wait = "Waiting for cache lock: Could not get lock /var/lib/dpkg/lock-frontend. It is held by process 7 (python3)"
    error = "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is another process using it?"

    said = {"failed": True, "msg": error, "stderr": error, "stdout": "\n".join(["Reading", *[wait] * 300])}
    monkeypatch.setattr(action.ActionModule, "_low_level_execute_command", lambda *_: {"stdout_lines": []})
    monkeypatch.setattr(action.ActionModule, "_execute_module", lambda *_, **__: dict(said))
    result = run_action(action, name=["tree"])
    assert "(the lock is held by process 7 (python3))" in result["msg"]
    assert result["stdout_lines"] == ["Reading", wait] and result["stdout"].count("Waiting") == 1
