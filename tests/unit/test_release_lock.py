"""The lock of deployments: who holds it, what counts as held, and when it is taken over."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

import pytest

from ansible_collections.slipway.kit.plugins.action import release_lock as action

# On a host they lie together.
from ansible_collections.slipway.kit.plugins.modules import release_lock as module

ANN = {"by": "ann@elsewhere", "machine": "elsewhere", "pid": "1", "started": "1"}
BOB = ANN | {"by": "bob@elsewhere", "pid": "2"}
DAMAGED = {
    "empty": "",
    "cut": '{"owner": {"by": "ann',
    "zeros": "\0" * 64,
    "not an object": "[]",
    "no owner": '{"since": 1, "expires": 2}',
    "no expiry": json.dumps({"owner": ANN, "since": 1}),
    "text for a time": json.dumps({"owner": ANN, "since": 1, "expires": "later"}),
    "owner without a process": json.dumps({"owner": {"by": "ann"}, "since": 1, "expires": 2}),
}


class Ended(Exception):
    """The module came to its end."""


def call(folder: Path, monkeypatch: pytest.MonkeyPatch, state: str = "held", **arguments: Any) -> dict[str, Any]:
    """Run the module as bob, and return its result."""

    class FakeModule:
        check_mode = False

        def __init__(self, **_: Any) -> None:
            self.params = {
                "folder": str(folder),
                "state": state,
                "owner": BOB,
                "minutes": 60,
                "replace": {},
            } | arguments

        def exit_json(self, **result: Any) -> None:
            raise Ended(result)

        def fail_json(self, **result: Any) -> None:
            raise Ended({"failed": True} | result)

    monkeypatch.setattr(module, "AnsibleModule", FakeModule)
    with pytest.raises(Ended) as ended:
        module.main()
    return ended.value.args[0]


def held_by(owner: dict[str, str], expires: float = 2**40) -> str:
    """Return what stands in a lock."""
    return json.dumps({"owner": owner, "since": 1, "expires": int(expires)})


def holder_of(folder: Path) -> str:
    """Return who holds the lock, nothing when nobody does."""
    return json.loads((folder / "deploy.lock").read_text()).get("owner", {}).get("by", "")


@pytest.mark.parametrize(
    "content", [None, "{}\n", held_by(BOB), held_by(ANN, 2)], ids=["none", "free", "own", "expired"]
)
def test_free_lock_is_taken_and_left(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str | None) -> None:
    if content is not None:
        (tmp_path / "deploy.lock").write_text(content)
    assert call(tmp_path, monkeypatch)["held"]
    assert holder_of(tmp_path) == BOB["by"]
    assert (tmp_path / "deploy.lock").stat().st_mode & 0o077 == 0
    assert call(tmp_path, monkeypatch, "free") == {"changed": False, "held": False, "holder": {}}
    assert (tmp_path / "deploy.lock").read_text() == "{}\n" and len(list(tmp_path.iterdir())) == 1


def test_lock_of_somebody_else_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy.lock").write_text(held_by(ANN))
    result = call(tmp_path, monkeypatch)
    assert not result["held"] and result["holder"]["owner"] == ANN
    assert "ann@elsewhere (process 1) holds the lock" in action.refusal(result["holder"], "/srv/shop/deploy.lock")
    call(tmp_path, monkeypatch, "free")
    assert holder_of(tmp_path) == ANN["by"]
    assert call(tmp_path, monkeypatch, replace=result["holder"])["held"]
    assert holder_of(tmp_path) == BOB["by"]


@pytest.mark.parametrize("content", DAMAGED.values(), ids=DAMAGED)
def test_lock_that_cannot_be_read_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str) -> None:
    (tmp_path / "deploy.lock").write_text(content)
    result = call(tmp_path, monkeypatch)
    assert not result["held"] and "unreadable" in result["holder"]
    said = action.refusal(result["holder"], "/srv/shop/deploy.lock")
    for text in (
        "/srv/shop/deploy.lock cannot be read",
        result["holder"]["unreadable"],
        '{"release_lock_break": true}',
    ):
        assert text in said
    call(tmp_path, monkeypatch, "free")
    assert (tmp_path / "deploy.lock").read_text() == content
    assert call(tmp_path, monkeypatch, replace=result["holder"])["held"]
    assert holder_of(tmp_path) == BOB["by"]


def test_lock_that_is_a_directory_counts_as_held(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "deploy.lock").mkdir()
    result = call(tmp_path, monkeypatch)
    assert result.get("failed") or not result["held"]


@pytest.mark.parametrize("content", ["{}\n", held_by(ANN, 2)], ids=["free", "expired"])
def test_lock_is_not_taken_while_a_module_is_at_work(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, content: str
) -> None:
    """A migration may last longer than the lock of its run."""
    (tmp_path / "deploy.lock").write_text(content)
    with module.deploy_lock(str(tmp_path)):
        locked = module.deploy_lock
        monkeypatch.setattr(module, "deploy_lock", lambda folder: locked(folder, timeout=0))
        result = call(tmp_path, monkeypatch)
        assert result["failed"] and "at work" in result["msg"]
    assert (tmp_path / "deploy.lock").read_text() == content
    assert call(tmp_path, monkeypatch)["held"]


def test_lock_is_on_the_disk_before_it_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    synced: list[str] = []

    def fsync(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").read_text())

    monkeypatch.setattr(os, "fsync", fsync)
    assert call(tmp_path, monkeypatch, minutes=1)["held"]
    assert json.loads(synced[-1])["expires"] <= time.time() + 60


def test_run_that_is_gone_is_known() -> None:
    mine = action.this_run()
    assert not action.is_over(mine)
    assert action.is_over(mine | {"started": "1"})
    assert not action.is_over(mine | {"pid": "not a number"}) and not action.is_over(ANN)
