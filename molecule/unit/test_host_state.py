"""What a host is asked for the plan and preflight, asked of this machine."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from conftest import load_plugin

host_state = load_plugin("playbooks/plugins/modules/host_state.py")


def test_who_listens_is_named() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = str(server.getsockname()[1])
        assert any(one.endswith(f"(pid {os.getpid()})") for one in host_state.listeners()[port])
    assert not host_state.listeners().get(port)


def test_room_is_that_of_the_filesystem_a_folder_will_be_on(tmp_path: Path) -> None:
    assert host_state.free_mb(str(tmp_path / "not/there/yet")) == host_state.free_mb(str(tmp_path)) > 0
