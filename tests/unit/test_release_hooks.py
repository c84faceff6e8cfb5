"""release_hooks: which hooks run for which release, and which run once in the life of a site."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

# On a host they lie together.
from ansible_collections.slipway.kit.plugins.modules import release_hooks as module

HOOK = {"name": "x", "when": "after_migrate", "command": ["true"]}


class Ended(Exception):
    """The module came to its end."""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that runs the module for a release, and returns the names of the hooks that ran."""
    fails: set[str] = set()

    def run(release: str, *hooks: dict[str, Any]) -> list[str]:
        (tmp_path / release).mkdir(exist_ok=True)

        class FakeModule:
            check_mode = False

            def __init__(self, **_: Any) -> None:
                self.params = {
                    "app": "shop",
                    "folder": str(tmp_path),
                    "release": str(tmp_path / release),
                    "hooks": hooks,
                }

            def exit_json(self, **result: Any) -> None:
                raise Ended(result)

            fail_json = exit_json

        class Command:
            def __init__(self, **_: Any) -> None:
                pass

            def run(self) -> Any:
                return SimpleNamespace(succeeded=not fails, output="", seconds=0.0, explain=lambda step: step)

        monkeypatch.setattr(module, "AnsibleModule", FakeModule)
        monkeypatch.setattr(module, "AppCommand", Command)
        with pytest.raises(Ended) as ended:
            module.main()
        return [hook["name"] for hook in ended.value.args[0]["ran"]]

    run.fails = fails  # type: ignore[attr-defined]
    return run


def test_hook_runs_once_for_each_release(call: Any) -> None:
    assert call("r1", HOOK) == ["x"]
    assert call("r1", HOOK) == []
    assert call("r2", HOOK) == ["x"]
    assert call("r2", HOOK | {"command": ["false"]}) == ["x"]


def test_hook_of_a_site_runs_once_in_its_life(call: Any) -> None:
    hook = HOOK | {"once_per_site": True}
    call.fails.add("yes")
    assert call("r1", hook) == [], "it failed"
    call.fails.clear()
    assert call("r1", hook) == ["x"]
    for release in ("r1", "r2", "r1"):
        assert call(release, hook) == []
        assert call(release, hook | {"environment": {"PASSWORD": "another"}}) == []
