"""roles/hardening: nobody is locked out, and a part that is left out leaves no trace in its file."""

from __future__ import annotations

import configparser
import re
import shlex
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from conftest import RELEASES, ROOT, facts
from rendering import USES, render
from test_preflight import inspect_role

ROLE = ROOT / "roles/hardening"
HAS_KEY = {"ansible_facts": facts("12") | {"preflight_login": {"user": "admin", "has_key": True}}}
NO_KEY = {"ansible_facts": facts("12") | {"preflight_login": {"user": "admin", "has_key": False}}}


@pytest.fixture
def faults_of(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., str]:
    """Return a function that gives the faults of the role with variables changed, as text."""

    def faults(**changed: Any) -> str:
        return str(inspect_role(ROLE, variables_for(ROLE, "12", **HAS_KEY | changed)) or "")

    return faults


@pytest.fixture
def rendered(variables_for: Callable[..., dict[str, Any]]) -> Callable[..., dict[str, str]]:
    """Return a function that gives the files of a role by path, rendered with further variables."""

    def texts(release: str, role: str = "hardening", **extra: Any) -> dict[str, str]:
        uses = [use for use in USES if use.role.name == role]
        return {file.path: file.text for use in uses for file in render(use, variables_for(use.role, release, **extra))}

    return texts


def test_a_key_passes(faults_of: Callable[..., str]) -> None:
    assert faults_of() == ""


def test_who_has_no_key_is_refused(faults_of: Callable[..., str]) -> None:
    said = faults_of(**NO_KEY)
    assert "would lock out admin" in said and "ssh-copy-id" in said and "hardening_ssh" in said


def test_who_logs_in_by_password_is_refused(faults_of: Callable[..., str]) -> None:
    for name in ("ansible_password", "ansible_ssh_pass"):
        said = faults_of(**{name: "not for the message"})
        assert "would lock you out" in said and "not for the message" not in said


@pytest.mark.parametrize(
    "kept", [{"hardening_ssh": False}, {"hardening_ssh_settings": {"PasswordAuthentication": "yes"}}], ids=str
)
def test_passwords_may_stay(faults_of: Callable[..., str], kept: dict[str, Any]) -> None:
    assert faults_of(**NO_KEY | {"ansible_password": "x"} | kept) == ""


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("hardening_ssh", "yes"),
        ("hardening_ssh_settings", {"Port 22\nPermitRootLogin": "yes"}),
        ("hardening_ssh_settings", {"Banner": "none\nPermitRootLogin yes"}),
        ("hardening_ssh_settings", {"Match": "all"}),
        ("hardening_upgrades_excluded", ['x"; };']),
        ("hardening_restarts_excluded", ["x)} = 1; system('id"]),
        ("hardening_sysctl_settings", {"net.core.somaxconn =": 1}),
        ("hardening_sysctl_settings", {"kernel.core_pattern": "x\nkernel.sysrq = 1"}),
        ("hardening_swap_size", 8),
        ("hardening_swap_size", -1),
        ("hardening_faillock_attempts", 1),
        ("hardening_login_defs_settings", {"PASS_MAX_DAYS": 90}),
        ("hardening_login_defs_settings", {"UMASK": "027\nNOLOGINS_FILE /etc/passwd"}),
        ("hardening_banner_text", "Keep\nout"),
        ("hardening_modules_blocked", ["ext4"]),
        ("hardening_modules_blocked", ["x /bin/sh; #"]),
        ("hardening_audit_rules", ["-D"]),
        ("hardening_audit_rules", ["-e 2"]),
        ("hardening_audit_rules", ["-w /x -p wa\n-D"]),
        ("hardening_fail2ban_exempt", ["everybody"]),
    ],
    ids=str,
)
def test_what_cannot_be_is_refused(faults_of: Callable[..., str], variable: str, value: Any) -> None:
    assert variable in faults_of(**{variable: value})


def test_swap_that_would_fill_the_disk_is_refused(faults_of: Callable[..., str]) -> None:
    def said(size: int = 1024, **more: Any) -> str:
        return faults_of(hardening_swap_size=size, ansible_facts=HAS_KEY["ansible_facts"] | more)

    assert "hardening_swap_size" in (refused := said(preflight_disk_mb=1500)) and "1500 MiB are free" in refused
    assert said(size=512, preflight_disk_mb=1500) == "" and said(size=0, preflight_disk_mb=10) == ""
    # What is there already takes no more room; a container gets none.
    assert said(preflight_disk_mb=1500, swaptotal_mb=1023) == ""
    assert said(preflight_disk_mb=1500, virtualization_type="lxc") == ""


@pytest.mark.parametrize("release", RELEASES)
def test_a_part_that_is_left_out_is_a_comment(rendered: Callable[..., dict[str, str]], release: str) -> None:
    parts = {
        "/etc/ssh/sshd_config.d/00-slipway.conf": {"hardening_ssh": False},
        "/etc/sudoers.d/slipway": {"hardening_sudo": False},
        "/etc/sysctl.d/60-slipway.conf": {"hardening_sysctl": False},
        "/etc/security/limits.d/slipway.conf": {"hardening_core_dumps": True},
    }
    for path, off in parts.items():
        said = {state: rendered(release, **extra)[path] for state, extra in (("on", {}), ("off", off))}
        settings = {state: [line for line in text.splitlines() if line[:1] != "#"] for state, text in said.items()}
        assert settings["on"] and not settings["off"], path


def test_a_container_has_no_kernel_of_its_own(rendered: Callable[..., dict[str, str]]) -> None:
    inside = facts("12") | {"virtualization_role": "guest", "virtualization_type": "podman"}
    assert "somaxconn" not in rendered("12", ansible_facts=inside)["/etc/sysctl.d/60-slipway.conf"]
    machine = facts("12") | {"virtualization_role": "guest", "virtualization_type": "kvm"}
    assert "somaxconn" in rendered("12", ansible_facts=machine)["/etc/sysctl.d/60-slipway.conf"]


def test_only_an_sshd_that_knows_penalties_is_told_of_them(rendered: Callable[..., dict[str, str]]) -> None:
    path = "/etc/ssh/sshd_config.d/00-slipway.conf"
    assert "PerSourcePenalties" not in rendered("12")[path]
    assert "PerSourcePenalties yes" in rendered("13")[path]


@pytest.mark.parametrize(
    ("switch", "path"),
    [
        ("base_sandbox", r"/slipway-\.service\.d/"),
        ("nginx_sandbox", r"/nginx\.service\.d/"),
        ("postgresql_sandbox", r"/postgresql@\d+-main\.service\.d/"),
        ("redis_sandbox", r"/redis-server@cache\.service\.d/"),
    ],
)
def test_a_sandbox_can_be_changed_and_left_out(rendered: Callable[..., dict[str, str]], switch: str, path: str) -> None:
    def sandbox(**extra: Any) -> str:
        texts = rendered("12", switch.removesuffix("_sandbox"), **extra)
        return next(text for name, text in texts.items() if re.search(path + r"sandbox\.conf$", name))

    assert "ProtectSystem=strict\n" in sandbox()
    opened = sandbox(**{f"{switch}_settings": {"ProtectSystem": False, "SystemCallFilter": ["@system-service"]}})
    assert "ProtectSystem=no\n" in opened and "ProtectSystem=strict" not in opened
    assert "SystemCallFilter=\nSystemCallFilter=@system-service\n" in opened and "~@privileged" not in opened
    assert sandbox(**{switch: False}).endswith("[Service]\n")


@pytest.mark.parametrize("release", RELEASES)
def test_strict_profile_adds_and_an_inventory_has_the_last_word(
    rendered: Callable[..., dict[str, str]], release: str
) -> None:
    machine = {"ansible_facts": facts(release) | {"virtualization_role": "host", "virtualization_type": "kvm"}}
    ssh, kernel = "/etc/ssh/sshd_config.d/00-slipway.conf", "/etc/sysctl.d/60-slipway.conf"
    modules = "/etc/modprobe.d/60-slipway.conf"
    standard = rendered(release, **machine)
    strict = rendered(release, hardening_profile="strict", **machine)
    assert "HostKeyAlgorithms -ecdsa-*,sk-ecdsa-*\n" in standard[ssh]
    expected = {ssh: "AllowTcpForwarding no\n", kernel: "kernel.sysrq = 0\n", modules: "install sctp /bin/false\n"}
    for path, text in expected.items():
        assert text in strict[path] and text not in standard[path]
    own = {"hardening_ssh_settings": {"AllowTcpForwarding": "yes"}, "hardening_sysctl_settings": {"kernel.sysrq": 4}}
    chosen = rendered(release, hardening_profile="strict", **own, **machine)
    assert "AllowTcpForwarding yes\n" in chosen[ssh] and "AllowTcpForwarding no" not in chosen[ssh]
    assert "kernel.sysrq = 4\n" in chosen[kernel]


def test_profile_that_is_none_is_refused(faults_of: Callable[..., str]) -> None:
    assert "must be one of standard, strict" in faults_of(hardening_profile="paranoid")


@pytest.mark.parametrize(("name", "code"), [("vm.swappiness", 0), ("vm.swapiness", 1)])
def test_setting_that_the_kernel_does_not_have_is_refused(
    variables_for: Callable[..., dict[str, Any]],
    templar_for: Callable[..., Any],
    tmp_path: Path,
    name: str,
    code: int,
) -> None:
    variables = variables_for(ROOT / "roles/hardening", "12", hardening_sysctl_settings={name: 1})
    script = templar_for(variables).template(variables["__hardening_validate_sysctl"])
    assert script.strip() in templar_for(variables).template(variables["__hardening_validate"])
    (tmp_path / "sysctl").write_text('#!/bin/sh\n[ "$2" = vm.swappiness ]\n')
    (tmp_path / "sysctl").chmod(0o755)
    done = subprocess.run(["/bin/sh", "-c", script], env={"PATH": str(tmp_path)}, check=False)
    assert done.returncode == code


def test_control_node_learns_all_host_keys_before_one_is_dropped() -> None:
    """As a control node that knows a host by its ECDSA key alone would be locked out."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "ansible.cfg")
    arguments = shlex.split(settings["ssh_connection"]["ssh_extra_args"])
    # What the inventory or ~/.ssh/config sets would switch it off.
    own = ["-o", "UserKnownHostsFile=~/site/known_hosts", "-o", "VerifyHostKeyDNS=yes"]
    said = subprocess.run(["ssh", "-G", *arguments, *own, "host"], capture_output=True, text=True, check=True).stdout
    assert re.search("^updatehostkeys (true|yes)$", said, re.MULTILINE)
