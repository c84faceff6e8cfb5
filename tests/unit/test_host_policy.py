"""host_policy: settings in files of packages, which come and go without a trace, and PAM, which shuts nobody out."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, NoReturn

import pytest
import yaml
from conftest import ROOT, run_here

from ansible_collections.slipway.kit.plugins.action import host_policy as action
from ansible_collections.slipway.kit.plugins.modules import host_policy as policy

VARIABLES = yaml.safe_load((ROOT / "roles/hardening/vars/main.yml").read_text(encoding="utf-8"))
LOGIN_DEFS = "# a comment\nUMASK\t\t022\n#SHA_CRYPT_MIN_ROUNDS 5000\nUMASKED yes\nUID_MIN   1000\n"
PROFILE = VARIABLES["__hardening_pam_faillock"]
ANSWERS = {"sshd: account of root": 0, "sshd: password": 0}


class Refused(Exception):
    """What the module fails with."""


def entry(path: str = "/x", separator: str = " ", content: str | None = None, **settings: Any) -> dict[str, Any]:
    return {"path": path, "separator": separator, "settings": settings or None, "content": content}


def test_settings_take_the_place_of_those_before_and_others_stay() -> None:
    text, before = policy.change(LOGIN_DEFS, entry(UMASK="027", SHA_CRYPT_MIN_ROUNDS=65536), {})
    assert text == LOGIN_DEFS.replace("UMASK\t\t022", "UMASK 027") + "SHA_CRYPT_MIN_ROUNDS 65536\n"
    assert policy.restore_text(text, before) == LOGIN_DEFS


def test_what_is_no_longer_set_is_restored_and_the_rest_stays() -> None:
    text, before = policy.change(LOGIN_DEFS, entry(UMASK="027", UID_MIN=500), {})
    text, before = policy.change(text, entry(UID_MIN=2000), before)
    assert text == LOGIN_DEFS.replace("UID_MIN   1000", "UID_MIN 2000")
    assert policy.restore_text(text, before) == LOGIN_DEFS


def test_lines_that_somebody_adds_meanwhile_survive() -> None:
    text, before = policy.change(LOGIN_DEFS, entry(UMASK="027"), {})
    edited = text + "HOME_MODE 0711\n"
    assert policy.change(edited, entry(UMASK="027"), before) == (edited, before)
    assert policy.restore_text(edited, before) == LOGIN_DEFS + "HOME_MODE 0711\n"


def test_other_forms_of_settings() -> None:
    text, before = policy.change("# minlen = 8\nretry=1\n", entry(separator=" = ", retry=3, enforce_for_root=""), {})
    assert text == "# minlen = 8\nretry = 3\nenforce_for_root\n"
    assert policy.restore_text(text, before) == "# minlen = 8\nretry=1\n"
    text, before = policy.change("Debian\n", entry(content="Keep out"), {})
    assert (text, policy.change("Keep out\n", entry(content="Go away\n"), before)[1]) == ("Keep out\n", before)
    assert policy.restore_text(text, before) == "Debian\n"


def test_one_command_finds_that_nothing_is_to_be_changed(tmp_path: Path) -> None:
    record, file = tmp_path / "policy", tmp_path / "login.defs"

    def is_there(anything: bool, wanted: str = "abc") -> bool:
        return bool(run_here(action.ActionModule.question(wanted, anything, str(record)))["rc"] == 0)

    assert is_there(False) and not is_there(True)
    file.write_text("UMASK 027\n")
    record.with_suffix(".sums").write_text(policy.sums_of([str(file)], "abc"))
    assert is_there(True) and not is_there(False) and not is_there(True, "another")
    file.write_text("UMASK 022\n")
    assert not is_there(True)


@pytest.fixture
def pam(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """Return a function that makes a Policy on directories of this test, with what pam-auth-update does there."""
    profiles, files, state = tmp_path / "profiles", tmp_path / "pam.d", tmp_path / "state"
    for folder in (profiles, files, state):
        folder.mkdir()
    (files / "common-auth").write_text("auth [success=1] pam_unix.so nullok\n")
    monkeypatch.setattr(policy, "PROFILES", str(profiles))
    monkeypatch.setattr(policy, "PAM_STATE", str(state))
    monkeypatch.setattr(policy, "PAM_FILES", [str(files / "common-auth")])
    answers = iter([ANSWERS, ANSWERS])
    monkeypatch.setattr(policy, "logins", lambda users: next(answers))

    def make(wanted: dict[str, str], update: Callable[[Path], object], after: dict[str, int] = ANSWERS) -> Any:
        nonlocal answers
        answers = iter([ANSWERS, after])

        def fail(**result: Any) -> NoReturn:
            raise Refused(result["msg"])

        def run_command(command: list[str], **_: Any) -> tuple[int, str, str]:
            assert command[0] == "pam-auth-update"
            update(files / "common-auth")
            return 0, "", ""

        module = SimpleNamespace(
            params={"profiles": wanted, "prefix": "slipway-", "users": ["root"], "record": str(tmp_path / "record")},
            check_mode=False,
            fail_json=fail,
            run_command=run_command,
            atomic_move=lambda source, target: Path(source).rename(target),
        )
        return policy.Policy(module)

    return make


def enable(path: Path) -> None:
    """Do what pam-auth-update does with the profile."""
    path.write_text("auth required pam_faillock.so preauth\naccount required pam_faillock.so\n" + path.read_text())


def tree(tmp_path: Path) -> dict[str, str]:
    return {str(path): path.read_text() for path in tmp_path.rglob("*") if path.is_file()}


def test_profile_is_enabled_once(pam: Callable[..., Any], tmp_path: Path) -> None:
    pam({"slipway-faillock": PROFILE}, enable).set_profiles()
    assert (tmp_path / "profiles/slipway-faillock").read_text() == PROFILE
    before = tree(tmp_path)

    def never(_: Path) -> NoReturn:
        raise AssertionError("asked again")

    second = pam({"slipway-faillock": PROFILE}, never)
    second.set_profiles()
    assert not second.changed and tree(tmp_path) == before


def test_profile_that_is_no_longer_wanted_is_removed(pam: Callable[..., Any], tmp_path: Path) -> None:
    before = tree(tmp_path)
    pam({"slipway-faillock": PROFILE}, enable).set_profiles()
    pam({}, lambda path: path.write_text("auth [success=1] pam_unix.so nullok\n")).set_profiles()
    assert tree(tmp_path) == before


@pytest.mark.parametrize(
    ("update", "after", "said"),
    [
        (lambda path: None, ANSWERS, "somebody has edited them"),
        (enable, ANSWERS | {"sshd: account of root": 7}, r"sshd: account of root \(0, now 7\)"),
        (enable, ANSWERS | {"sshd: password": 28}, r"sshd: password \(0, now 28\)"),
    ],
    ids=["edited by hand", "a login would be refused", "a module is missing"],
)
def test_pam_that_would_shut_somebody_out_is_restored(
    pam: Callable[..., Any], tmp_path: Path, update: Callable[[Path], object], after: dict[str, int], said: str
) -> None:
    before = tree(tmp_path)
    with pytest.raises(Refused, match=said):
        pam({"slipway-faillock": PROFILE}, update, after).set_profiles()
    assert tree(tmp_path) == before


def test_removal_that_leaves_lines_behind_is_refused(pam: Callable[..., Any], tmp_path: Path) -> None:
    pam({"slipway-faillock": PROFILE}, enable).set_profiles()
    before = tree(tmp_path)
    with pytest.raises(Refused, match="somebody has edited them"):
        pam({}, lambda path: None).set_profiles()
    assert tree(tmp_path) == before


def test_record_is_written_before_a_file_is_changed(pam: Callable[..., Any], tmp_path: Path) -> None:
    """A run that is interrupted between the two must not take its own lines for those of the package."""
    file = tmp_path / "login.defs"
    file.write_text(LOGIN_DEFS)
    first = pam({}, lambda path: None)
    first.params["files"] = [entry(str(file), UMASK="027")]
    first.put = lambda path, text: (_ for _ in ()).throw(KeyboardInterrupt)
    with pytest.raises(KeyboardInterrupt):
        first.set_files()
    assert json.loads((tmp_path / "record").read_text())["files"][str(file)]["lines"] == {"UMASK": ["UMASK\t\t022"]}


def test_root_and_keys_are_never_locked() -> None:
    """faillock.conf has no even_deny_root, and pam_faillock in `account` only forgets what was counted."""
    assert "even_deny_root" not in VARIABLES["__hardening_faillock"]
    account = PROFILE.split("Account:")[1]
    assert account.split() == ["required", "pam_faillock.so"]
