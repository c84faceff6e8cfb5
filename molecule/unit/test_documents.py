"""What the documents tell the reader to type is there."""

from __future__ import annotations

import re
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


def test_readme_says_how_to_start_and_how_to_prove() -> None:
    commands = re.findall(r"^    (make \S+)", (PROJECT / "README.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert commands[0] == "make demo" and "make test" in commands
