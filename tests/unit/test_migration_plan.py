"""release_migrate: what it asks a release, reads from the answers, and does then (app/tests judge the migrations)."""

from __future__ import annotations

import configparser
import os
import re
import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from conftest import ROOT, load_yaml

from ansible_collections.slipway.kit.plugins.module_utils.release import migration_question as question

# On a host they lie together.
from ansible_collections.slipway.kit.plugins.modules import release_migrate as module

LOCK_TIMEOUT = """\
  Applying shop.0003_x...Traceback (most recent call last):
psycopg.errors.LockNotAvailable: canceling statement due to lock timeout
django.db.utils.OperationalError: canceling statement due to lock timeout
"""
CONNECTION = 'django.db.utils.OperationalError: connection to server at "192.0.2.1", port 5432 failed: {}'


class Ended(Exception):
    """The module came to its end."""


class FakeModule:
    """As much of AnsibleModule as is needed to see what the module says."""

    def __init__(self, tmp_path: Path, **arguments: Any) -> None:
        self.params = {
            **{"app": "shop", "release": str(tmp_path), "folder": str(tmp_path)},
            **{"manage": ["python", "manage.py"], "command": ["migrate", "--noinput"], "lock_timeout": 5},
            **{"statement_timeout": 0, "attempts": 5, "timeout": 60, "destructive": False},
            **{"apply": True, "conflicts": False},
        } | arguments
        self.check_mode = False
        self.warnings: list[str] = []

    def warn(self, text: str) -> None:
        """Keep a warning."""
        self.warnings.append(text)

    def log(self, text: str) -> None:
        """Keep nothing."""

    def fail_json(self, **result: Any) -> None:
        """End with a failure."""
        raise Ended({"failed": True} | result)

    def exit_json(self, **result: Any) -> None:
        """End."""
        raise Ended(result)


class FakeUnit:
    """A unit that ends in the ways that are given."""

    name = "shop-migrate.service"

    def __init__(self, *outcomes: Any, found: bool = False) -> None:
        self.outcomes = list(outcomes)
        self.found = found
        self.started = 0

    def at_work(self) -> bool:
        """Tell whether one was found at work."""
        return self.found

    def start(self, command: Any) -> None:
        """Count a start."""
        self.started += 1

    def wait(self) -> Any:
        """End in the next way."""
        self.found = False
        return self.outcomes.pop(0)


def migration(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unit: FakeUnit, *plans: Any, **arguments: Any) -> Any:
    """Return a migration whose release answers with `plans`, whose unit is not started, and that sleeps for no time."""
    made = module.Migration(FakeModule(tmp_path, **arguments))
    made.unit = unit
    made.slept = []
    answers = list(plans)

    def ask(**question: Any) -> tuple[Any, str]:
        return ([], "") if question["ask"] == "sessions" else (answers.pop(0), "no answer")

    monkeypatch.setattr(made, "ask", ask)
    monkeypatch.setattr(made, "app_command", lambda words, timeout=0: words)
    monkeypatch.setattr(module.time, "sleep", made.slept.append)
    return made


def plan_of(*names: str, atomic: bool = True, **more: Any) -> dict[str, Any]:
    """Return a plan with migrations pending."""
    pending = [{"database": "default", "migration": name, "atomic": atomic} for name in names]
    answer = {"pending": pending, "destructive": [], "warnings": [], "limits": {}, "unknown": [], "conflicts": []}
    return answer | more


def run(made: Any) -> dict[str, Any]:
    """Run to the end and return the result."""
    with pytest.raises(Ended) as ended:
        made.run()
    return ended.value.args[0]


SUCCESS = module.Outcome("success", "  Applying shop.0003_x... OK\n")
LOCKED = module.Outcome("exit-code", LOCK_TIMEOUT)
REMOVAL = {"migration": "shop.0003_x", "database": "default", "text": "removes column shop_product.views"}


# The question and its answer


def test_question_passes_through_systemd_a_wrapper_and_a_shell_that_imports_names() -> None:
    words = module.shell_words({"ask": "nothing", "text": "$HOME %i 'quoted' \"twice\" ä"})
    assert words[:2] == ["shell", "-c"] and len(words) == 3
    assert words[2].isascii() and not set(words[2]) & set('$%\\\n"')
    # As Django's shell does, among names that it has imported. The script is there: only what is asked is not.
    code = f"exec({words[2]!r}, {{'json': None, 'plan': None}})"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert "KeyError: 'nothing'" in done.stderr


def test_answer_is_found_among_other_words() -> None:
    marker = question.migration_plan.MARKER
    output = f'10 objects imported automatically.\n{marker}{{"pending": []}}\nUserWarning: something\n'
    assert module.find_answer(output) == {"pending": []}
    assert module.find_answer("Traceback (most recent call last):\n") is None


@pytest.mark.parametrize("own", ["", "-c search_path=tenant"])
def test_limits_are_added_to_those_of_the_environment(own: str) -> None:
    words = ["/bin/sh", "-c", module.WITH_LIMITS, "sh", "-c lock_timeout=5s", "printenv", "PGOPTIONS"]
    done = subprocess.run(
        words, env={"PATH": os.environ["PATH"], "PGOPTIONS": own}, capture_output=True, text=True, check=True
    )
    assert done.stdout == f"{own} -c lock_timeout=5s\n".lstrip()


# What the output of migrate says


@pytest.mark.parametrize(
    ("output", "done", "at"),
    [
        ("  Applying shop.0003_x... OK\n  Applying shop.0004_y... OK\n", ["shop.0003_x", "shop.0004_y"], ""),
        ("  Applying shop.0003_x... OK\n  Applying shop.0004_y...Traceback\n", ["shop.0003_x"], "shop.0004_y"),
        ("  Applying shop.0003_x...hello\n OK\n  Applying shop.0004_y...hello\n", ["shop.0003_x"], "shop.0004_y"),
        ("  Applying shop.0003_x... FAKED\n", ["shop.0003_x"], ""),
        ("  Unapplying shop.0003_x... OK\n", ["shop.0003_x"], ""),
        ("No migrations to apply.\n", [], ""),
    ],
)
def test_output_says_how_far_it_came(output: str, done: list[str], at: str) -> None:
    assert module.started_in(output) == (done, at)


def test_lock_timeout_is_known_by_its_name_in_any_language() -> None:
    assert module.is_locked(LOCK_TIMEOUT)
    assert module.is_locked("psycopg2.errors.LockNotAvailable: storniere Anfrage\n")
    assert module.is_locked("ERROR: 55P03\n")
    assert not module.is_locked("django.db.utils.OperationalError: canceling statement due to statement timeout\n")
    assert not module.is_locked("django.db.utils.ProgrammingError: column does not exist\n")


@pytest.mark.parametrize(
    "reason",
    [
        *("Connection refused", "timeout expired", "FATAL:  the database system is starting up"),
        *("server closed the connection unexpectedly", "FATAL: terminating connection due to administrator command"),
    ],
)
def test_lost_connection_is_known(reason: str) -> None:
    assert module.is_lost(CONNECTION.format(reason))


@pytest.mark.parametrize(
    "output",
    [
        CONNECTION.format('FATAL:  password authentication failed for user "shop"'),
        CONNECTION.format('FATAL:  database "shop" does not exist'),
        "django.db.utils.ProgrammingError: column does not exist",
        # A migration that asks another service.
        "urllib3.exceptions.NewConnectionError: [Errno 111] Connection refused",
    ],
)
def test_refusal_is_no_lost_connection(output: str) -> None:
    assert not module.is_lost(output)


# The connection to the host


def test_module_leaves_when_nobody_reads_its_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    reader, writer = os.pipe()
    with os.fdopen(writer, "w") as output:
        monkeypatch.setattr(sys, "__stdout__", output)
        module.leave_if_alone()
        os.close(reader)
        with pytest.raises(SystemExit):
            module.leave_if_alone()


def test_connections_send_keepalives_below_what_routers_wait_for() -> None:
    settings = configparser.ConfigParser(inline_comment_prefixes=None)
    settings.read(ROOT / "ansible.cfg")
    interval = re.search(r"ServerAliveInterval=(\d+)", settings["ssh_connection"]["ssh_extra_args"])
    assert interval and 0 < int(interval[1]) <= 60


# From the plan to the end


def test_nothing_pending_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit()
    made = migration(tmp_path, monkeypatch, unit, plan_of())
    assert run(made) == {"changed": False, "pending": [], "applied": []}
    assert not unit.started and not (tmp_path / "deploy.lock").exists()


def test_pending_is_applied_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit(SUCCESS)
    result = run(migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x")))
    assert result == {"changed": True, "pending": ["shop.0003_x"], "applied": ["shop.0003_x"]}
    assert unit.started == 1


def test_lock_is_tried_for_again_with_longer_and_longer_pauses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit(LOCKED, LOCKED, LOCKED, SUCCESS)
    made = migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x"))
    assert run(made)["applied"] == ["shop.0003_x"]
    assert made.slept == [2, 4, 8]


def test_lock_that_stays_ends_with_its_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit(*[LOCKED] * 3)
    result = run(migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x"), attempts=3))
    assert unit.started == 3 and result["failed"] and result["pending"] == ["shop.0003_x"]
    for text in (
        "shop.0003_x could not be applied",
        "(5 s), in 3 attempts",
        "rolled back",
        "active release is unchanged",
    ):
        assert text in result["msg"]


@pytest.mark.parametrize(
    ("outcome", "plan", "reason"),
    [
        (module.Outcome("exit-code", "ProgrammingError: no such column"), {}, "the command failed"),
        (module.Outcome("timeout", ""), {}, "django_app_migrate_timeout (60 s)"),
        (module.Outcome("stopped", ""), {}, "somebody stopped shop-migrate.service"),
        (LOCKED, {"atomic": False}, "what it did before it failed is still there"),
    ],
)
def test_what_another_attempt_cannot_help_ends_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, outcome: Any, plan: dict[str, Any], reason: str
) -> None:
    unit = FakeUnit(outcome, SUCCESS)
    result = run(migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x", **plan)))
    assert result["failed"] and reason in result["msg"]
    assert unit.started == 1


def test_destructive_is_refused_before_anything_is_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit()
    result = run(migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x", destructive=[REMOVAL])))
    assert result["failed"] and not unit.started
    assert "shop.0003_x: removes column shop_product.views" in result["msg"]
    assert (
        """-e '{"django_app_migrate_destructive": true}'""" in result["msg"] and "docs/migrations.md" in result["msg"]
    )
    assert (ROOT / "docs/migrations.md").exists()


def test_destructive_is_applied_with_a_warning_where_it_is_allowed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = FakeUnit(SUCCESS)
    plan = plan_of("shop.0003_x", destructive=[REMOVAL])
    made = migration(tmp_path, monkeypatch, unit, plan, destructive=True)
    assert run(made)["changed"]
    assert [text for text in made.module.warnings if "removes column shop_product.views" in text]


@pytest.mark.parametrize("succeeds", [True, False])
def test_check_that_waited_for_the_migrations_is_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, succeeds: bool
) -> None:
    module.write_marker(str(tmp_path), {"id": "r1", "check": ["python", "manage.py", "check"]})
    made = migration(tmp_path, monkeypatch, FakeUnit(SUCCESS), plan_of("shop.0003_x"))
    ran: list[list[str]] = []

    class Command:
        def __init__(self, command: list[str], **_: Any) -> None:
            ran.append(command)

        def run(self) -> Any:
            return types.SimpleNamespace(succeeded=succeeds, explain=lambda step: f"{step} failed")

    monkeypatch.setattr(module, "AppCommand", Command)
    result = run(made)
    assert ran == [["python", "manage.py", "check"]] and result["applied"] == ["shop.0003_x"]
    assert result.get("failed", False) is not succeeds
    assert ("check" in module.read_marker(str(tmp_path))) is not succeeds


# A database that is ahead of the release, or behind it


UNKNOWN = [{"database": "default", "migration": "shop.0004_gone", "ahead": True}]
LEFT_OVER = [{"database": "default", "migration": "shop.0001_squashed_away", "ahead": False}]
CONFLICT = {"database": "default", "text": "column shop_product.views is missing"}
SWITCH = """-e '{"django_app_allow_schema_conflicts": true}'"""


@pytest.mark.parametrize("apply", [True, False], ids=["deploy", "rollback"])
@pytest.mark.parametrize("unknown", [UNKNOWN, LEFT_OVER], ids=["ahead", "other branch"])
def test_release_that_does_not_fit_the_schema_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unknown: list[dict[str, Any]], apply: bool
) -> None:
    unit = FakeUnit(SUCCESS)
    plan = plan_of("shop.0003_x", unknown=unknown, conflicts=[CONFLICT])
    result = run(migration(tmp_path, monkeypatch, unit, plan, apply=apply))
    assert result["failed"] and not unit.started
    for text in ("nothing was switched", unknown[0]["migration"], CONFLICT["text"], SWITCH, "docs/migrations.md"):
        assert text in result["msg"]
    assert ("not applied: shop.0003_x" in result["msg"]) is not apply
    assert "# Migrations" in (ROOT / "docs/migrations.md").read_text()


@pytest.mark.parametrize(
    ("plan", "arguments", "warnings"),
    [
        ({"unknown": UNKNOWN}, {}, ["shop.0004_gone"]),
        ({"unknown": LEFT_OVER}, {}, []),
        ({"unknown": UNKNOWN, "conflicts": [CONFLICT]}, {"conflicts": True}, ["shop.0004_gone", CONFLICT["text"]]),
    ],
    ids=["additive", "squashed", "allowed"],
)
def test_release_that_fits_or_is_allowed_goes_on(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    plan: dict[str, Any],
    arguments: dict[str, Any],
    warnings: list[str],
) -> None:
    for apply in (True, False):
        made = migration(tmp_path, monkeypatch, FakeUnit(), plan_of(**plan), apply=apply, **arguments)
        assert run(made) == {"changed": False, "pending": [], "applied": []}
        assert len(made.module.warnings) == len(warnings)
        assert all(text in said for text, said in zip(warnings, made.module.warnings, strict=True))


def test_rollback_applies_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit()
    made = migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x"), apply=False)
    assert run(made) == {"changed": False, "pending": ["shop.0003_x"], "applied": []}
    assert not unit.started and "not applied: shop.0003_x" in made.module.warnings[0]


@pytest.mark.parametrize("built", [True, False])
def test_dry_run_lists_what_a_built_release_would_apply(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, built: bool
) -> None:
    unit = FakeUnit()
    made = migration(tmp_path, monkeypatch, unit, plan_of("shop.0003_x", destructive=[REMOVAL]))
    made.module.check_mode = True
    if built:
        (tmp_path / ".complete").touch()
    result = run(made)
    assert result == {"changed": built, "pending": ["shop.0003_x"] if built else [], "applied": []}
    assert bool(made.module.warnings) is built and not unit.started


def test_migrations_of_a_run_that_was_cut_are_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit(SUCCESS, found=True)
    made = migration(tmp_path, monkeypatch, unit, plan_of())
    assert run(made) == {"changed": True, "pending": [], "applied": ["shop.0003_x"]}
    assert not unit.started


def test_what_an_own_command_leaves_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit(module.Outcome("success", ""))
    plans = plan_of("shop.0003_x", "blog.0004_y"), plan_of("blog.0004_y")
    made = migration(tmp_path, monkeypatch, unit, *plans, command=["migrate_all"])
    assert run(made)["applied"] == ["shop.0003_x"]
    assert made.module.warnings == ["still to be applied after `migrate_all`: blog.0004_y"]


def test_limits_that_are_not_in_force_are_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    limits = {"default": {"lock_timeout": 0, "statement_timeout": 0}, "other": {"lock_timeout": None}}
    made = migration(tmp_path, monkeypatch, FakeUnit(SUCCESS), plan_of("shop.0003_x", limits=limits))
    run(made)
    assert len(made.module.warnings) == 1 and "lock_timeout is 0 ms" in made.module.warnings[0]


def test_release_that_cannot_be_asked_ends_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    unit = FakeUnit()
    result = run(migration(tmp_path, monkeypatch, unit, None))
    assert result["failed"] and "no answer" in result["msg"] and not unit.started


def test_release_that_cannot_be_asked_is_warned_of_where_nothing_is_applied(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unit = FakeUnit()
    made = migration(tmp_path, monkeypatch, unit, None, apply=False)
    assert run(made) == {"changed": False, "pending": [], "applied": []}
    (said,) = made.module.warnings
    assert "`python manage.py shell`" in said and "not compared" in said and "no answer" in said
    assert not unit.started


def test_release_without_a_command_that_migrates_is_not_asked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = migration(tmp_path, monkeypatch, FakeUnit(), apply=False, command=[])
    assert run(made) == {"changed": False, "pending": [], "applied": []}
    assert not made.module.warnings


@pytest.mark.parametrize("marker", ['{"manage": ["python", "old/manage.py"]}', "{}", None])
def test_release_is_asked_in_the_way_that_it_was_built_for(tmp_path: Path, marker: str | None) -> None:
    for folder in ("venv/bin", "project"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "venv/bin/python").touch(mode=0o755)
    if marker is not None:
        (tmp_path / ".complete").write_text(marker)
    words = module.Migration(FakeModule(tmp_path)).app_command(["check"]).command
    script = "old/manage.py" if marker and "old" in marker else "manage.py"
    assert words[-3:] == [str(tmp_path / "venv/bin/python"), script, "check"]


@pytest.mark.parametrize("check_mode", [True, False])
def test_rollback_compares_the_release_that_was_selected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, check_mode: bool
) -> None:
    from ansible_collections.slipway.kit.plugins.modules import release_select as select

    for name in ("wanted", "other"):
        (tmp_path / "releases" / name / "static").mkdir(parents=True)
        (tmp_path / "releases" / name / ".complete").touch()
    (tmp_path / "candidate").symlink_to("releases/other")

    def fake_module(**_: Any) -> FakeModule:
        made = FakeModule(tmp_path, application=f"..{tmp_path}", name="wanted")
        made.check_mode = check_mode
        return made

    monkeypatch.setattr(select, "AnsibleModule", fake_module)
    with pytest.raises(Ended) as ended:
        select.main()
    (task,) = load_yaml(ROOT / "roles/django_app/tasks/compare.yml")
    fact = re.search(r"\bansible_facts\['(\w+)'\]", task["slipway.kit.release_migrate"]["release"])
    assert fact
    folder = Path(ended.value.args[0]["ansible_facts"][fact[1]])
    assert folder.resolve() == (tmp_path / "releases/wanted").resolve()
    assert (tmp_path / "candidate").resolve().name == ("other" if check_mode else "wanted")
