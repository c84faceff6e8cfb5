"""Audit every lock of the repository for known advisories.

    audit.py [OPTIONS OF PIP-AUDIT]

A lock is a file that `make lock` wrote. pip-audit audits the packages of the running Python only, and skips a package
that its database does not answer for; here the pins of all Pythons are audited, and a skipped package is an error.

Exit status: 0 no advisory, 1 advisories, 2 some or all packages were not audited.
"""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
WRITTEN_BY = "#    make lock\n"
PIN = re.compile(r"^(?P<name>[A-Za-z0-9._-]+)(?:\[[^\]]*\])?==(?P<version>[^\s;]+)", re.MULTILINE)
UNREACHABLE = """\
No package was audited: the database of advisories does not answer on this machine. Try again where it does, or name
another database: make audit AUDIT="--vulnerability-service osv"
"""

Pin = tuple[str, str]


def find_locks(root: Path) -> list[Path]:
    """Return the locks in the repository, by git's list of its files."""
    done = subprocess.run(["git", "ls-files", "*.txt"], cwd=root, capture_output=True, text=True, check=True)
    return [path for path in map(root.joinpath, done.stdout.splitlines()) if WRITTEN_BY in path.read_text()[:500]]


def read_pins(lock: str) -> set[Pin]:
    """Return the packages (name, version) that the text of a lock pins for any Python."""
    return {(pin["name"].lower(), pin["version"]) for pin in PIN.finditer(lock)}


def split(pins: Iterable[Pin]) -> list[list[Pin]]:
    """Return the pins in lists that have each name once: pip-audit refuses two versions of a package."""
    lists: list[dict[str, str]] = []
    for name, version in sorted(pins):
        for versions in lists:
            if name not in versions:
                versions[name] = version
                break
        else:
            lists.append({name: version})
    return [sorted(versions.items()) for versions in lists]


def audit(pins: list[Pin], options: list[str]) -> tuple[list[dict[str, Any]], str]:
    """Return pip-audit's record of each package, and its last line if it gave none."""
    with tempfile.TemporaryDirectory() as folder:
        requirements = Path(folder, "requirements.txt")
        requirements.write_text("".join(f"{name}=={version}\n" for name, version in pins))
        command = [sys.executable, "-m", "pip_audit", "--requirement", str(requirements), "--no-deps", "--disable-pip"]
        command += ["--progress-spinner", "off", "--format", "json", *options]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    try:
        return json.loads(done.stdout)["dependencies"], ""
    except ValueError:
        return [], done.stderr.strip().rpartition("\n")[2] + "\n"


def report(locks: Mapping[str, set[Pin]], records: Iterable[Mapping[str, Any]], said: str) -> tuple[str, int]:
    """Return what is shown of pip-audit's records, with the locks that each package stands in, and the exit status."""
    users: dict[Pin, list[str]] = defaultdict(list)
    for lock, pins in locks.items():
        for pin in pins:
            users[pin].append(lock)
    missing, lines, count = set(users), [], 0
    for record in records:
        pin = (record["name"].lower(), record.get("version", ""))
        missing.discard(pin)
        for advisory in record.get("vulns", ()):
            count += 1
            names = ", ".join([advisory["id"], *advisory.get("aliases", ())])
            fixed = ", ".join(advisory.get("fix_versions", ())) or "no version yet"
            lines += [f"{pin[0]} {pin[1]} ({', '.join(sorted(users[pin]))}): {names}; fixed in {fixed}"]
    if len(missing) == len(users):
        return f"{said.strip()}\n{UNREACHABLE}".lstrip(), 2
    lines += [f"not audited: {' '.join(pin)} ({', '.join(sorted(users[pin]))})" for pin in sorted(missing)]
    lines += [f"{len(users) - len(missing)} of {len(users)} packages of {len(locks)} locks audited, {count} advisories"]
    return "\n".join([*lines, ""]), 2 if missing else 1 if count else 0


def main() -> int:
    """Audit all locks, and return the exit status."""
    locks = {str(path.relative_to(ROOT)): read_pins(path.read_text()) for path in find_locks(ROOT)}
    records: list[dict[str, Any]] = []
    said = ""
    for pins in split(set().union(*locks.values())):
        found, errors = audit(pins, sys.argv[1:])
        records += [record for record in found if "skip_reason" not in record]
        said += errors
    text, status = report(locks, records, said)
    print(text, end="", file=sys.stderr if status == 2 else sys.stdout)
    return status


if __name__ == "__main__":
    sys.exit(main())
