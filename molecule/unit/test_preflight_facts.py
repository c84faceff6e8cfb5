"""What a host is asked for the plan and preflight, asked of this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from conftest import load_plugin

preflight_facts = load_plugin("playbooks/plugins/modules/preflight_facts.py")


def test_who_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert any(one.endswith(f"(pid {os.getpid()})") for one in preflight_facts.listeners()[port])
    assert not preflight_facts.listeners().get(port)


def test_room_is_that_of_the_filesystem_a_folder_will_be_on(tmp_path: Path) -> None:
    assert preflight_facts.free_mb(str(tmp_path / "not/there/yet")) == preflight_facts.free_mb(str(tmp_path)) > 0
