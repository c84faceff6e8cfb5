"""What the documents tell the reader to type is there."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
DOCUMENTS = [PROJECT / "README.md", *sorted((PROJECT / "docs").glob("*.md")), *sorted(PROJECT.glob("*/**/README.md"))]
DOCUMENTS = [document for document in DOCUMENTS if ".venv" not in document.parts and ".cache" not in document.parts]


def test_there_are_documents() -> None:
    assert len(DOCUMENTS) > 8


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(PROJECT)))
def test_what_is_named_exists(document: Path) -> None:
    text = document.read_text(encoding="utf-8")
    targets = set(
        re.findall(r"^([a-z-]+):.*##", (PROJECT / "Makefile").read_text(encoding="utf-8"), flags=re.MULTILINE)
    )
    named = set(re.findall(r"(?:^    |`)make ([a-z-]+)", text, flags=re.MULTILINE))
    assert named <= targets, f"no such target: {named - targets}"
    for playbook in re.findall(r"playbooks/[a-z_]+\.yml", text):
        assert (PROJECT / playbook).is_file(), playbook
    for link in re.findall(r"\]\((?!https?:)([^)#]+)", text):
        assert (document.parent / link).exists(), link


def test_make_dev_serves_the_app_on_the_services_of_its_host() -> None:
    plan = subprocess.run(
        ["make", "--dry-run", "dev", "DEV_PORT=8765"], cwd=PROJECT, capture_output=True, text=True, check=True
    ).stdout
    steps = [
        "playbooks/_dev_services.yml",
        "manage.py migrate",
        "manage.py seed_demo",
        "manage.py runserver 127.0.0.1:8765",
    ]
    places = [plan.find(step) for step in steps]
    assert -1 not in places and places == sorted(places), plan
    tests = subprocess.run(["make", "--dry-run", "test-app"], cwd=PROJECT, capture_output=True, text=True, check=True)
    assert "playbooks/_dev_services.yml" in tests.stdout and "runserver" not in tests.stdout, (
        "the tests would wait for a server"
    )


def test_readme_says_how_to_start_and_how_to_prove() -> None:
    commands = re.findall(r"^    (make \S+)", (PROJECT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands[0] == "make demo" and "make test" in commands
