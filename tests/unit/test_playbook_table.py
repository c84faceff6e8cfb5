"""playbooks/README.md: what the headers of the playbooks say, and the names of playbooks."""

from __future__ import annotations

import sys
from pathlib import Path

import playbook_table as table
import pytest
from conftest import ROOT, load_yaml

from ansible_collections.slipway.kit.plugins.callback import whole_run as callback

EARLIER = {
    **{"releases": "list_releases", "drain": "drain_host", "undrain": "undrain_host", "remove": "remove_host"},
    **{"promote": "promote_replica", "replication": "replication_status", "rotate": "rotate_secrets"},
    **{"patch": "patch_hosts", "manage": "run_management_command", "audit": "audit_secrets", "plan": "plan_capacity"},
}
BODY = "- name: Do it\n  hosts: app\n"
GOOD = "---\n# Do | it.\n#\n#   do.yml\n#\n# Variables: `slipway_x`\n# (required).\n#\n# Changes: nothing.\n"


def test_page_is_what_the_headers_say(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["playbook_table.py", "--check"])
    assert table.main() == 0, "run dev/playbook_table.py"


def test_page_is_written_and_then_fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "do_it.yml").write_text(GOOD + BODY, encoding="utf-8")
    (tmp_path / "_part.yml").write_text(f"---\n# A part.\n{BODY}", encoding="utf-8")
    (tmp_path / "do.yml").write_text("---\n# Deprecated: use do_it.yml. This name is removed in 2.0.0.\n" + BODY)
    monkeypatch.setattr(table, "PLAYBOOKS", tmp_path)
    for arguments, status in ((["--check"], 1), ([], 0), (["--check"], 0)):
        monkeypatch.setattr(sys, "argv", ["playbook_table.py", *arguments])
        assert table.main() == status
    said = (tmp_path / "README.md").read_text(encoding="utf-8")
    assert "| [do_it.yml](do_it.yml) | Do \\| it. | `slipway_x` (required) | nothing |" in said
    assert "| [_part.yml](_part.yml) | A part. |" in said
    assert "| `do.yml` | [do_it.yml](do_it.yml) | 2.0.0 |" in said


@pytest.mark.parametrize(
    ("text", "said"), [("---\n", "needs a comment"), ("---\n# Do it.\n", "has no paragraph Changes")]
)
def test_header_that_says_too_little_is_refused(text: str, said: str, tmp_path: Path) -> None:
    (tmp_path / "do.yml").write_text(text + BODY, encoding="utf-8")
    with pytest.raises(SystemExit, match=said):
        table.page(tmp_path)


@pytest.mark.parametrize("earlier", EARLIER)
def test_earlier_name_runs_the_new_playbook_and_nothing_else(earlier: str) -> None:
    path, new = ROOT / f"playbooks/{earlier}.yml", f"{EARLIER[earlier]}.yml"
    assert [play["ansible.builtin.import_playbook"] for play in load_yaml(path)] == [new]
    assert callback.successor(path) == new and not callback.successor(path.with_name(new))
    assert callback.variables_of(path) == callback.variables_of(path.with_name(new))


def test_no_other_name_is_deprecated() -> None:
    found = {path.stem for path in ROOT.glob("playbooks/*.yml") if callback.successor(path)}
    assert found == set(EARLIER)


def test_each_variable_of_a_playbook_is_in_its_header() -> None:
    """What a playbook reads itself; wiring and vars/ read others."""
    for path in (ROOT / f"playbooks/{name}.yml" for name in EARLIER.values()):
        text = path.read_text(encoding="utf-8")
        read = {name for name in callback.re.findall(r"\bslipway_[a-z_]+", text) if not name.endswith("_")}
        assert read == set(callback.variables_of(path)), path.name
