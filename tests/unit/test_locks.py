"""The locks of Python packages, and what is said of their advisories."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path

import audit
import pytest
from conftest import ROOT
from packaging.markers import Marker

LOCKED = re.compile(r"^([a-z0-9-]+)(?:\[[^\]]*\])?==(\S+)(?: ; (.+?))? \\$", re.MULTILINE)
OPERATOR = {"ansible", "ansible-core", "cffi", "cryptography", "jinja2", "markupsafe", "packaging"}
OPERATOR |= {"pycparser", "pyyaml", "resolvelib", "uv"}


def installed(lock: str, python: str) -> dict[str, str]:
    """Return the versions that a lock gives to a Python on Linux."""
    place = {"python_version": python, "python_full_version": f"{python}.1", "sys_platform": "linux"}
    place |= {"implementation_name": "cpython", "platform_python_implementation": "CPython"}
    pins = LOCKED.findall((ROOT / lock).read_text())
    return {name: version for name, version, marker in pins if not marker or Marker(marker).evaluate(place)}


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_operator_needs_few_packages(python: str) -> None:
    assert set(installed("requirements.txt", python)) == OPERATOR


@pytest.mark.parametrize("python", ["3.11", "3.12", "3.13"])
def test_tests_run_with_the_packages_of_operators(python: str) -> None:
    mine, tests = (installed(lock, python) for lock in ("requirements.txt", "requirements-test.txt"))
    assert {name: tests.get(name) for name in mine} == mine


def test_newest_ansible_where_python_has_it() -> None:
    """On Python 3.11 it is the last release series that runs there."""
    versions = {python: installed("requirements.txt", python)["ansible-core"] for python in ("3.11", "3.12", "3.13")}
    series = {python: version.rsplit(".", 1)[0] for python, version in versions.items()}
    assert series == {"3.11": "2.19", "3.12": "2.21", "3.13": "2.21"}


def test_every_lock_is_written_by_make_and_audited() -> None:
    """A file of hashes that `make lock` does not write would neither be renewed nor audited."""
    recipe = subprocess.run(["make", "--dry-run", "lock"], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    written = set(re.findall(r"--output-file (\S+)", recipe))
    listed = subprocess.run(["git", "ls-files", "*.txt"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert {file for file in listed.stdout.split() if "--hash=" in (ROOT / file).read_text()} == written
    assert {str(lock.relative_to(ROOT)) for lock in audit.find_locks(ROOT)} == written
    assert all(audit.read_pins((ROOT / lock).read_text()) for lock in written)


def test_pins_of_all_pythons_are_audited() -> None:
    lock = "a==1 ; python_version < '3.12' \\\n    --hash=sha256:0\na==2 \\\n    --hash=sha256:1\n"
    lock += "b-c[x]==1.5 \\\n    # via a==9\n"
    assert audit.read_pins(lock) == {("a", "1"), ("a", "2"), ("b-c", "1.5")}
    assert audit.split(audit.read_pins(lock)) == [[("a", "1"), ("b-c", "1.5")], [("a", "2")]]


ADVISORY = {"id": "PYSEC-1", "aliases": ["CVE-1"], "fix_versions": ["2"]}
LOCKS = {"requirements.txt": {("a", "1"), ("b", "1")}, "app/requirements.txt": {("a", "1")}}


@pytest.mark.parametrize(
    ("records", "status", "said"),
    [
        ([("a", "1", []), ("b", "1", [])], 0, "2 of 2 packages of 2 locks audited, 0 advisories"),
        ([("a", "1", [ADVISORY]), ("b", "1", [])], 1, "requirements.txt): PYSEC-1, CVE-1; fixed in 2"),
        ([("a", "1", [])], 2, "not audited: b 1 (requirements.txt)"),
        ([], 2, "No package was audited"),
    ],
)
def test_silence_of_the_database_is_no_clean_bill(
    records: list[tuple[str, str, list[dict[str, object]]]], status: int, said: str
) -> None:
    text, code = audit.report(LOCKS, [{"name": n, "version": v, "vulns": found} for n, v, found in records], "")
    assert code == status
    assert said in text


def test_packages_that_pip_audit_skips_are_not_audited(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """pip-audit says that it found nothing, and exits with 0, when its database answers for no package."""

    def skip_all(command: list[str], **_: object) -> subprocess.CompletedProcess[str]:
        if command[0] == "git":
            return subprocess.CompletedProcess(command, 0, "requirements.txt\n", "")
        pins = [line.split("==") for line in Path(command[command.index("--requirement") + 1]).read_text().split()]
        records = [{"name": name, "skip_reason": f"Dependency not found: {name} ({version})"} for name, version in pins]
        return subprocess.CompletedProcess(command, 0, json.dumps({"dependencies": records}), "")

    monkeypatch.setattr(audit.subprocess, "run", skip_all)
    monkeypatch.setattr(audit.sys, "argv", ["audit.py"])
    assert audit.main() == 2
    assert "No package was audited" in capsys.readouterr().err
