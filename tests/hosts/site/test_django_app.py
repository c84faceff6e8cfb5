"""The release on the host, its environment, and the management command."""

from __future__ import annotations

import re
from collections.abc import Callable

import pytest
from conftest import APP, recap, to_json
from testinfra.host import Host

testinfra_hosts = ["ansible://app"]

RELEASES = f"/srv/{APP}/releases"


def test_release_is_complete_and_closed(host: Host) -> None:
    release = host.file(f"/srv/{APP}/current").linked_to
    assert release.startswith(f"{RELEASES}/")
    assert host.file(f"{release}/.complete").exists
    assert host.check_output("find %s -path '*/static' -prune -o ! -user root -print", release) == "", (
        "the application owns its code"
    )
    assert host.check_output("find %s -perm -o=w ! -type l", release) == ""


def test_environment_is_closed(host: Host) -> None:
    for path in host.check_output("ls -d /etc/%s/app.env /srv/%s/slots/*/[ab]/app.env", APP, APP).splitlines():
        file = host.file(path)
        assert (file.user, file.group, file.mode) == ("root", APP, 0o640), path
    assert host.run("runuser -u nobody -- cat /etc/%s/app.env", APP).failed


def test_environment_arrives_as_written(manage: Callable[..., str], inventory: dict[str, str]) -> None:
    script = "import json, os; print(json.dumps(dict(os.environ)))"
    environment = to_json(manage("shell", "-c", script))
    assert environment["SECRET_KEY"] == inventory["vault_django_secret_key"]
    for name in ("DEMO_ODD_VALUE", "DEMO_ODD_LINES"):
        assert environment[name] == inventory["django_app_environment"][name]


def test_management_command_takes_arguments_as_written(manage: Callable[..., str]) -> None:
    assert (
        manage("shell", "-c", "print('$HOME ${x} 100% \"q\" \\\\ ' + 'ä')").strip().splitlines()[-1]
        == '$HOME ${x} 100% "q" \\ ä'
    )


def test_management_command_runs_as_the_app(manage: Callable[..., str]) -> None:
    assert manage("shell", "-c", "import getpass; print(getpass.getuser())").strip().splitlines()[-1] == APP


def test_management_command_is_roots(host: Host) -> None:
    assert host.run("runuser -u nobody -- %s-manage check", APP).failed


def test_failing_command_is_a_failure(host: Host) -> None:
    assert host.run("%s-manage nosuchcommand", APP).rc == 1


def test_settings_are_sound(manage: Callable[..., str]) -> None:
    manage("check", "--database", "default")
    manage("migrate", "--check")


@pytest.mark.parametrize(
    ("https", "found"),
    [("true", set()), ("false", {"security.W004", "security.W008", "security.W012", "security.W016"})],
)
def test_nothing_but_https_is_missing(host: Host, https: str, found: set[str]) -> None:
    """Test hosts speak HTTP, which Django warns of; with HTTPS there is nothing left that it warns of."""
    command = "[sys.executable, 'manage.py', 'check', '--deploy', '--fail-level', 'WARNING']"
    script = (
        "import os, subprocess, sys; "
        f"sys.exit(subprocess.run({command}, env=os.environ | {{'HTTPS': '{https}'}}).returncode)"
    )
    result = host.run("%s-manage shell -c %s", APP, script)
    said = result.stdout + result.stderr
    assert set(re.findall(r"\((\w+\.[A-Z]\d{3})\)", said)) == found, said
    assert ("no issues" in said, result.rc) == (not found, 1 if found else 0), said


@pytest.mark.runs_on("app", first=True)
def test_dry_run_after_a_deploy_is_clean(site_playbook: Callable) -> None:
    result = site_playbook("site.yml", "--check", "--diff")
    assert result.returncode == 0, result.stdout[-3000:]
    for counts in recap(result.stdout).values():
        assert counts["changed"] == 0, result.stdout[-6000:]
    # But for the one of an Ansible whose support has ended, the last that runs with Python 3.11.
    lines = [line for line in result.stdout.splitlines() if "WARN" in line or "DEPREC" in line]
    assert not [line for line in lines if "is out of support since" not in line]
