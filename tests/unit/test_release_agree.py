"""release_agree: a rollback switches all hosts to one release."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ansible.errors import AnsibleActionFail
from conftest import run_action

from ansible_collections.slipway.kit.plugins.action import release_agree as action


def agree(**releases: str) -> dict[str, Any]:
    """Run the action for hosts that have chosen these releases; an empty one has chosen none."""
    found = {host: {"chosen": {"release": name} if name else {"unreachable": True}} for host, name in releases.items()}
    variables = {"ansible_play_hosts_all": list(releases), "hostvars": SimpleNamespace(raw_get=found.__getitem__)}
    return run_action(action, variables=variables, register="chosen")


def test_hosts_that_agree_go_on() -> None:
    assert not agree(first="a", second="a")["changed"]
    assert not agree(first="a", second="")["changed"]


def test_hosts_that_do_not_agree_are_refused() -> None:
    with pytest.raises(AnsibleActionFail, match="first to a, second to b.*-e release_name="):
        agree(first="a", second="b")
