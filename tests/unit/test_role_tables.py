"""dev/role_tables.py: a table says what the specification says, and nothing else in the page is touched."""

from __future__ import annotations

import sys
from pathlib import Path
from textwrap import dedent

import pytest
import role_tables as tables

SPECIFICATION = """
argument_specs:
  main:
    options:
      web_name: {type: str, required: true, description: Name | of the site.}
      web_mode: {choices: [fast, safe], default: fast, description: [How., And why.]}
      web_password: {no_log: true, default: "", description: Password.}
      web_workers:
        type: list
        elements: dict
        default: []
        description: >-
          The
          workers.
        options:
          name: {required: true, description: Name.}
          limits: {type: dict, description: Limits., options: {soft: {type: int, description: Soft.}}}
"""
BOUNDS = """
web_workers.limits.soft: port
web_workers: {reserved: {user: web_user}}
"""
TABLE = """\
| Variable | Type | Default | Meaning |
| --- | --- | --- | --- |
| `web_name` | str | required | Name \\| of the site. |
| `web_mode` | str | `fast` | How. And why. One of `fast`, `safe`. |
| `web_password` | str | `""` | Password. Secret. |
| `web_workers` | list of dict | `[]` | The workers. Refused here: `user`. |
| `web_workers[].name` | str | required | Name. |
| `web_workers[].limits` | dict | none | Limits. |
| `web_workers[].limits.soft` | int | none | Soft. From 1 to 65535. |
"""
PAGE = "# web\n\nText.\n\n<!-- variables: begin -->\n{}<!-- variables: end -->\n\nMore \\1 text.\n"


@pytest.fixture
def readme(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return the page of a role whose table is stale."""
    (tmp_path / "web/meta").mkdir(parents=True)
    (tmp_path / "web/meta/argument_specs.yml").write_text(SPECIFICATION, encoding="utf-8")
    (tmp_path / "web/meta/bounds.yml").write_text(BOUNDS, encoding="utf-8")
    (tmp_path / "web/README.md").write_text(PAGE.format("stale\n"), encoding="utf-8")
    monkeypatch.setattr(tables, "ROLES", tmp_path)
    return tmp_path / "web/README.md"


def run(monkeypatch: pytest.MonkeyPatch, *arguments: str) -> int:
    """Run the command."""
    monkeypatch.setattr(sys, "argv", ["role_tables.py", *arguments])
    return tables.main()


def test_table_is_written_and_then_fresh(readme: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert run(monkeypatch) == 0
    assert readme.read_text(encoding="utf-8") == PAGE.format(f"\n{TABLE}\n")
    before = readme.stat().st_mtime_ns
    assert run(monkeypatch, "--check") == run(monkeypatch) == 0
    assert readme.stat().st_mtime_ns == before


def test_check_names_what_is_stale_and_writes_nothing(
    readme: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(monkeypatch, "--check") == 1
    assert capsys.readouterr().out == f"{readme}: stale, run dev/role_tables.py\n"
    assert readme.read_text(encoding="utf-8") == PAGE.format("stale\n")


@pytest.mark.parametrize("text", ["", "<!-- variables: begin -->\n", 2 * PAGE])
def test_page_without_one_pair_of_marks_is_refused(readme: Path, monkeypatch: pytest.MonkeyPatch, text: str) -> None:
    readme.write_text(dedent(text), encoding="utf-8")
    with pytest.raises(SystemExit, match="must be there once"):
        run(monkeypatch, "--check")
