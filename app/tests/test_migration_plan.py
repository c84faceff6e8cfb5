"""What a deployment makes of migrations: which it finds, and which an older release cannot live with.

The script is that of Slipway, which hands it to any project's shell; the migrations here are made up.
"""

import importlib.util
import json
import re
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from django.core.management import call_command
from django.core.management.base import CommandError
from django.db import connection, migrations, models
from django.db.migrations.operations.base import Operation
from django.db.migrations.recorder import MigrationRecorder
from django.db.migrations.state import ProjectState
from django.db.models import F
from django.db.utils import ConnectionHandler

PROJECT = Path(__file__).resolve().parents[2]
SCRIPT = PROJECT / "plugins/module_utils/release/migration_plan.py"


def load_script() -> Any:
    """Import the script, which is in no package of the application."""
    spec = importlib.util.spec_from_file_location("migration_plan", SCRIPT)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


script = load_script()

# What an older release knows.
BEFORE = [
    migrations.CreateModel("tag", [("id", models.BigAutoField(primary_key=True))]),
    migrations.CreateModel(
        "product",
        [
            ("id", models.AutoField(primary_key=True)),
            ("name", models.CharField(max_length=50)),
            ("views", models.IntegerField(default=0)),
            ("note", models.TextField(null=True)),
            ("rank", models.IntegerField(null=True, default=0)),
            ("hits", models.IntegerField(db_default=0)),
            ("code", models.IntegerField(db_column="sku")),
            ("main_tag", models.ForeignKey("shop.tag", models.CASCADE, null=True, related_name="+")),
            ("tags", models.ManyToManyField("shop.tag")),
        ],
    ),
    migrations.CreateModel("plain", [("id", models.AutoField(primary_key=True))], {"db_table": "own_table"}),
    migrations.CreateModel("foreign", [("id", models.AutoField(primary_key=True))], {"managed": False}),
    migrations.CreateModel("stand_in", [], {"proxy": True}, bases=("shop.product",)),
]
NOTHING = migrations.RunPython.noop


def do_something(*_: Any) -> None:
    """Stand for the code of a data migration."""


class OwnOperation(Operation):
    """An operation that nobody knows."""

    def state_forwards(self, *_: Any) -> None:
        """Change no state."""


def judge(*sets: list[Any], before: list[Any] = BEFORE) -> tuple[list[str], list[str]]:
    """Return what is said against migrations with these operations, and what is warned of."""
    state = ProjectState()
    for operation in before:
        operation.state_forwards("shop", state)
    judged = script.Judge(connection, state)
    for number, operations in enumerate(sets, start=1):
        migration = migrations.Migration(f"000{number}", "shop")
        migration.operations = operations
        judged.migration(migration)
    return [found["text"] for found in judged.destructive], [found["text"] for found in judged.warnings]


def add(field: models.Field, name: str = "extra", model: str = "product") -> migrations.AddField:
    """Return an operation that adds a field."""
    return migrations.AddField(model, name, field)


def alter(field: models.Field, name: str, model: str = "product") -> migrations.AlterField:
    """Return an operation that alters a field."""
    return migrations.AlterField(model, name, field)


ADDS = "adds column shop_product.extra as NOT NULL without a default that the database keeps (db_default)"
generated = models.GeneratedField(expression=F("views") + 1, output_field=models.IntegerField(), db_persist=True)


@pytest.mark.parametrize(
    ("operation", "found"),
    [
        (migrations.RemoveField("product", "views"), "removes column shop_product.views"),
        (migrations.RemoveField("Product", "views"), "removes column shop_product.views"),
        (migrations.RemoveField("product", "code"), "removes column shop_product.sku"),
        (migrations.RemoveField("product", "main_tag"), "removes column shop_product.main_tag_id"),
        (migrations.RemoveField("product", "tags"), "removes table shop_product_tags"),
        (migrations.RenameField("product", "views", "seen"), "renames column shop_product.views to seen"),
        (
            migrations.RenameField("product", "main_tag", "tag"),
            "renames column shop_product.main_tag_id to tag_id",
        ),
        (
            migrations.RenameField("product", "tags", "labels"),
            "renames table shop_product_tags to shop_product_labels",
        ),
        (
            alter(models.IntegerField(default=0, db_column="seen"), "views"),
            "renames column shop_product.views to seen",
        ),
        (migrations.DeleteModel("tag"), "removes table shop_tag"),
        (migrations.DeleteModel("plain"), "removes table own_table"),
        (migrations.RenameModel("tag", "label"), "renames table shop_tag to shop_label"),
        (migrations.AlterModelTable("product", "goods"), "renames table shop_product to goods"),
        (migrations.AlterModelTable("plain", None), "renames table own_table to shop_plain"),
        (add(models.IntegerField()), ADDS),
        (add(models.IntegerField(default=0)), ADDS),
        (add(models.CharField(max_length=5, default="", blank=True)), ADDS),
        (add(models.DateTimeField(auto_now_add=True)), ADDS),
        (add(models.ForeignKey("shop.tag", models.CASCADE, default=1)), ADDS.replace(".extra", ".extra_id")),
        (
            migrations.AlterOrderWithRespectTo("product", "main_tag"),
            ADDS.replace(".extra", "._order"),
        ),
        (alter(models.TextField(), "note"), "makes column shop_product.note NOT NULL"),
        # An older release writes NULL itself, and no default of the database comes in for that.
        (alter(models.TextField(db_default=""), "note"), "makes column shop_product.note NOT NULL"),
        (
            alter(models.IntegerField(), "hits"),
            "takes the database's default from column shop_product.hits, which is NOT NULL",
        ),
    ],
)
def test_what_an_older_release_cannot_live_with_is_found(operation: Operation, found: str) -> None:
    assert judge([operation]) == ([found], [])
    # The same, where only the database is told.
    assert judge([migrations.SeparateDatabaseAndState([operation])]) == ([found], [])


@pytest.mark.parametrize(
    "operations",
    [
        [add(models.IntegerField(null=True))],
        [add(models.IntegerField(db_default=0))],
        [add(models.ManyToManyField("shop.tag", related_name="+"))],
        [add(models.BigAutoField(primary_key=True))],
        [alter(models.TextField(null=True, blank=True), "note")],
        [alter(models.CharField(max_length=80), "name")],
        [alter(models.TextField(), "name")],
        [alter(models.IntegerField(default=5), "views"), alter(models.IntegerField(null=True), "hits")],
        # The name changes, and the column does not.
        [migrations.RenameField("product", "code", "sku")],
        [
            alter(models.IntegerField(default=0, db_column="views"), "views"),
            migrations.RenameField("product", "views", "seen"),
        ],
        [migrations.RenameModel("plain", "other")],
        # Nothing is done to the database.
        [migrations.SeparateDatabaseAndState(state_operations=[migrations.RemoveField("product", "views")])],
        [migrations.DeleteModel("foreign")],
        [migrations.DeleteModel("stand_in")],
        [migrations.RenameModel("foreign", "other")],
        [migrations.RunPython(NOTHING), migrations.RunSQL(migrations.RunSQL.noop)],
        [migrations.AlterModelOptions("product", {"ordering": ["name"]})],
        [migrations.AddIndex("product", models.Index(fields=["name"], name="by_name"))],
    ],
)
def test_what_an_older_release_does_not_notice_passes(operations: list[Operation]) -> None:
    assert judge(operations) == ([], [])


NEW = migrations.CreateModel("new", [("id", models.AutoField(primary_key=True)), ("x", models.IntegerField())])


@pytest.mark.parametrize(
    "operations",
    [
        [add(models.IntegerField(), model="new")],
        [migrations.RemoveField("new", "x")],
        [migrations.RenameField("new", "x", "y")],
        [alter(models.TextField(db_column="z"), "x", "new")],
        [migrations.RenameModel("new", "newer"), add(models.IntegerField(), model="newer")],
        [migrations.AlterModelTable("new", "newest"), migrations.DeleteModel("new")],
        [add(models.ManyToManyField("shop.tag"), model="new"), migrations.RemoveField("new", "extra")],
    ],
)
def test_what_the_same_migrations_made_is_theirs(operations: list[Operation]) -> None:
    assert judge([NEW, *operations]) == ([], [])
    assert judge([NEW], operations) == ([], [])


def test_new_column_is_theirs_but_not_its_inserts() -> None:
    nullable, strict = add(models.IntegerField(null=True)), alter(models.IntegerField(), "extra")
    told = "lets the new column shop_product.extra have no NULL and no default in the database, so inserts must name it"
    assert judge([nullable, strict]) == ([told], [])
    assert judge([nullable], [strict]) == ([told], [])
    renamed = [migrations.RenameField("product", "extra", "e"), alter(models.IntegerField(), "e")]
    assert judge([nullable, *renamed])[0] == [told.replace(".extra", ".e")]
    # In one transaction, what it ends with counts; between two, an older release sees what the first one left.
    kept = alter(models.IntegerField(db_default=0), "extra")
    assert judge([add(models.IntegerField()), kept]) == ([], [])
    assert judge([add(models.IntegerField())], [kept]) == ([ADDS], [])
    assert judge([add(models.IntegerField()), migrations.RemoveField("product", "extra")]) == ([], [])


def test_finding_is_told_once_and_of_the_migration_that_makes_it() -> None:
    assert judge([add(models.IntegerField())], [migrations.RunSQL(migrations.RunSQL.noop)]) == ([ADDS], [])


def test_both_halves_of_an_operation_start_from_the_same_state() -> None:
    removal = migrations.RemoveField("product", "views")
    both = migrations.SeparateDatabaseAndState([removal], [removal])
    assert judge([both]) == (["removes column shop_product.views"], [])


@pytest.mark.parametrize(
    ("operation", "warning"),
    [
        (migrations.RunSQL("SELECT 1"), "runs SQL, which cannot be judged"),
        (migrations.RunPython(do_something), "runs Python code, which cannot be judged"),
        (OwnOperation(), "has an operation of its own kind, OwnOperation, which cannot be judged"),
        (
            alter(models.BigIntegerField(default=0), "views"),
            "changes the type of column shop_product.views from integer to bigint",
        ),
        (
            alter(models.CharField(max_length=20), "name"),
            "changes the type of column shop_product.name from varchar(50) to varchar(20)",
        ),
        (add(generated), "rewrites table shop_product to add the generated column extra: until then its queries wait"),
        # Django gives it a value in the older release too.
        (
            alter(models.IntegerField(default=0), "rank"),
            "makes column shop_product.rank NOT NULL: see that the active release writes no NULL to it",
        ),
    ],
)
def test_what_cannot_be_judged_is_warned_of_once(operation: Operation, warning: str) -> None:
    assert judge([operation, operation][: 1 if isinstance(operation, migrations.AlterField) else 2]) == ([], [warning])


def test_finding_names_its_migration_and_database() -> None:
    state = ProjectState()
    for operation in BEFORE:
        operation.state_forwards("shop", state)
    judged = script.Judge(connection, state)
    migration = migrations.Migration("0007_gone", "shop")
    migration.operations = [migrations.RemoveField("product", "views")]
    judged.migration(migration)
    assert judged.destructive == [
        {"migration": "shop.0007_gone", "database": "default", "text": "removes column shop_product.views"}
    ]


def test_worked_example_of_the_guide_passes() -> None:
    text = (PROJECT / "docs/migrations.md").read_text(encoding="utf-8")
    blocks = re.findall(r"^    class Migration.*?(?=^\S|\Z)", text, flags=re.MULTILINE | re.DOTALL)
    operations = []
    for block in blocks:
        names = {"migrations": migrations, "models": models}
        exec(textwrap.dedent(block), names)
        operations.append(names["Migration"].operations)
    forget, drop = operations
    assert judge(forget) == ([], [])
    assert judge(drop) == ([], ["runs SQL, which cannot be judged"])


# Questions to a database


MORE = """
from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("shop", "{after}")]
    atomic = {atomic}
    operations = [{operation}]
"""


SHOP = Path(__file__).resolve().parents[1] / "shop/migrations"
OWN = sorted(file.stem for file in SHOP.glob("0*.py"))


@pytest.fixture
def more_migrations(tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Return a function that adds a migration to those of the shop, in a copy of them."""
    folder = tmp_path / "more_shop_migrations"
    folder.mkdir()
    for file in SHOP.glob("*.py"):
        (folder / file.name).write_text(file.read_text())
    monkeypatch.syspath_prepend(tmp_path)
    settings.MIGRATION_MODULES = {"shop": folder.name}

    def write(name: str, operation: str, atomic: bool = True) -> None:
        after = sorted(file.stem for file in folder.glob("[0-9]*.py"))[-1]
        (folder / f"{name}.py").write_text(MORE.format(after=after, operation=operation, atomic=atomic))

    yield write
    for name in [name for name in sys.modules if name.startswith(folder.name)]:
        del sys.modules[name]


REMOVAL = 'migrations.RemoveField("product", "summary")'


@pytest.mark.django_db
def test_nothing_is_pending_in_a_database_that_is_up_to_date() -> None:
    assert script.plan(["migrate", "--noinput"], serving=True) == {
        **{"pending": [], "destructive": [], "warnings": [], "limits": {}},
        **{"unknown": [], "conflicts": []},
    }


@pytest.mark.parametrize("command", [["migrate"], ["migrate_all"], []])
@pytest.mark.parametrize("applies", [True, False])
def test_project_without_a_database_or_a_command_has_no_plan(
    monkeypatch: pytest.MonkeyPatch, command: list[str], applies: bool
) -> None:
    monkeypatch.setattr("django.db.connections", ConnectionHandler({}))
    assert script.plan(command, serving=True, applies=applies) == {
        **{"pending": [], "destructive": [], "warnings": [], "limits": {}},
        **{"unknown": [], "conflicts": []},
    }


@pytest.mark.django_db
def test_pending_migrations_are_found_in_their_order(more_migrations: Callable[..., None]) -> None:
    more_migrations("9001_gone", REMOVAL)
    more_migrations("9002_index", 'migrations.RunSQL("SELECT 1")', atomic=False)
    plan = script.plan(["migrate", "--noinput"], serving=True)
    assert plan["pending"] == [
        {"database": "default", "migration": "shop.9001_gone", "atomic": True},
        {"database": "default", "migration": "shop.9002_index", "atomic": False},
    ]
    assert [found["text"] for found in plan["destructive"]] == ["removes column shop_product.summary"]
    assert [found["migration"] for found in plan["warnings"]] == ["shop.9002_index"]
    assert plan["limits"]["default"].keys() == {"lock_timeout", "statement_timeout"}
    # The command of a project: what it is for is not known, so all is looked at.
    assert script.plan(["migrate_all"], serving=True) == plan


@pytest.mark.django_db
def test_nothing_breaks_where_nothing_serves(more_migrations: Callable[..., None]) -> None:
    more_migrations("9001_gone", REMOVAL)
    plan = script.plan(["migrate"], serving=False)
    assert plan["pending"] and not plan["destructive"] and not plan["warnings"]


@pytest.mark.django_db(transaction=True)
def test_nothing_breaks_in_an_empty_database() -> None:
    with connection.cursor() as cursor:
        cursor.execute("ALTER TABLE django_migrations RENAME TO kept_migrations")
    try:
        plan = script.plan(["migrate"], serving=True)
    finally:
        with connection.cursor() as cursor:
            cursor.execute("ALTER TABLE kept_migrations RENAME TO django_migrations")
    # Django's own first migrations remove and rename.
    assert "contenttypes.0002_remove_content_type_name" in [item["migration"] for item in plan["pending"]]
    assert not plan["destructive"] and not plan["warnings"]


@pytest.mark.django_db
def test_plan_is_that_of_the_commands_arguments(more_migrations: Callable[..., None]) -> None:
    more_migrations("9001_gone", REMOVAL)
    more_migrations("9002_note", 'migrations.AddField("product", "note", models.TextField(null=True))')
    names = {
        words: [item["migration"] for item in script.plan(words.split(), serving=True)["pending"]]
        for words in ("migrate blog", "migrate shop 9001", "migrate --database default", "migrate shop 0001 --noinput")
    }
    assert names == {
        "migrate blog": [],
        "migrate shop 9001": ["shop.9001_gone"],
        "migrate --database default": ["shop.9001_gone", "shop.9002_note"],
        "migrate shop 0001 --noinput": [f"shop.{name}" for name in reversed(OWN[1:])],
    }
    backwards = script.plan(["migrate", "shop", "0001"], serving=True)
    assert [found["text"] for found in backwards["destructive"]] == ["is taken back"] * len(OWN[1:])
    assert script.plan(["migrate", "--fake"], serving=True)["destructive"] == []
    with pytest.raises(CommandError, match="--nosuch"):
        script.plan(["migrate", "--nosuch"], serving=True)


@pytest.mark.django_db
def test_plan_is_what_migrate_itself_says(more_migrations: Callable[..., None], capsys: pytest.CaptureFixture) -> None:
    more_migrations("9001_gone", REMOVAL)
    call_command("migrate", "--plan")
    assert "shop.9001_gone" in capsys.readouterr().out
    script.answer(json.dumps({"ask": "plan", "command": ["migrate"], "serving": True}))
    lines = capsys.readouterr().out.splitlines()
    answers = [json.loads(line.removeprefix(script.MARKER)) for line in lines if line.startswith(script.MARKER)]
    assert [item["migration"] for item in answers[0]["pending"]] == ["shop.9001_gone"] and len(answers) == 1


# A database that is ahead of the release, or behind it


def apply_unknown(sql: str, name: str = "9003_unknown", app: str = "shop") -> None:
    """Change the schema, and record that as a migration of a newer release."""
    with connection.cursor() as cursor:
        cursor.execute(sql)
    MigrationRecorder(connection).record_applied(app, name)


@pytest.mark.django_db
@pytest.mark.parametrize("applies", [True, False], ids=["deploy", "rollback"])
@pytest.mark.parametrize(
    ("sql", "conflicts"),
    [
        ("ALTER TABLE shop_product DROP COLUMN summary", ["column shop_product.summary is missing"]),
        (
            "ALTER TABLE shop_product RENAME price TO cost",
            [r"column shop_product\.cost, which .* NOT NULL", r".*price is"],
        ),
        ("ALTER TABLE shop_viewflush RENAME TO shop_flush", ["table shop_viewflush is missing"]),
        ("DROP TABLE blog_post_tags", ["table blog_post_tags is missing"]),
        ("ALTER TABLE shop_product ADD extra integer NOT NULL", [r"column shop_product\.extra, which .*inserts fail"]),
        ("ALTER TABLE blog_post ALTER published_at SET NOT NULL", [r"column blog_post\.published_at .*leave it empty"]),
        ("ALTER TABLE shop_product ADD extra integer", []),
        ("ALTER TABLE shop_product ADD extra integer NOT NULL DEFAULT 0", []),
        ("ALTER TABLE shop_product ADD extra bigint GENERATED ALWAYS AS IDENTITY", []),
        ("CREATE TABLE shop_other (id integer NOT NULL)", []),
        ("CREATE INDEX shop_extra ON shop_product (price)", []),
        ("ALTER TABLE shop_product ALTER price DROP NOT NULL", []),
        ("ALTER TABLE shop_viewflush RENAME TO x; CREATE VIEW shop_viewflush AS SELECT * FROM x", []),
    ],
)
def test_release_is_compared_with_a_database_that_is_ahead(sql: str, conflicts: list[str], applies: bool) -> None:
    apply_unknown(sql)
    plan = script.plan(["migrate"], serving=True, applies=applies)
    assert plan["unknown"] == [{"database": "default", "migration": "shop.9003_unknown", "ahead": True}]
    found = [item["text"] for item in plan["conflicts"]]
    assert len(found) == len(conflicts), found
    assert all(re.match(pattern, text) for pattern, text in zip(conflicts, found, strict=True)), found


@pytest.mark.django_db
def test_migration_of_another_application_is_ahead_too() -> None:
    apply_unknown("ALTER TABLE shop_product DROP COLUMN summary", "0001_initial", "newer")
    plan = script.plan(["migrate"], serving=False)
    assert [item["ahead"] for item in plan["unknown"]] == [True] and plan["conflicts"]


@pytest.mark.django_db
def test_release_with_pending_migrations_is_compared_before_them(more_migrations: Callable[..., None]) -> None:
    apply_unknown("ALTER TABLE shop_product DROP COLUMN summary", "9003_of_another_branch")
    more_migrations("9003_note", 'migrations.AddField("product", "note", models.TextField(null=True))')
    texts = {
        applies: [item["text"] for item in script.plan(["migrate"], serving=True, applies=applies)["conflicts"]]
        for applies in (True, False)
    }
    summary, note = (f"column shop_product.{name} is missing" for name in ("summary", "note"))
    assert texts == {True: [summary], False: [note, summary]}


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("operation", "conflicts"),
    [
        (
            'migrations.AddField("product", "note", models.TextField(null=True))',
            ["column shop_product.note is missing"],
        ),
        (
            'migrations.CreateModel("plain", [("id", models.AutoField(primary_key=True))])',
            ["table shop_plain is missing"],
        ),
        ("migrations.RunPython(migrations.RunPython.noop)", []),
    ],
)
def test_release_whose_migrations_are_not_applied_is_compared(
    more_migrations: Callable[..., None], operation: str, conflicts: list[str]
) -> None:
    more_migrations("9003_more", operation)
    assert script.plan(["migrate"], serving=True)["conflicts"] == []
    plan = script.plan(["migrate"], serving=True, applies=False)
    assert [item["migration"] for item in plan["pending"]] == ["shop.9003_more"]
    assert [item["text"] for item in plan["conflicts"]] == conflicts


@pytest.mark.django_db
def test_what_a_squashed_migration_replaces_is_known(more_migrations: Callable[..., None]) -> None:
    more_migrations("9003_squashed", "")
    folder = Path(sys.modules["django.conf"].settings.MIGRATION_MODULES["shop"])
    written = next(Path(path) / folder / "9003_squashed.py" for path in sys.path if (Path(path) / folder).is_dir())
    recorder = MigrationRecorder(connection)
    for name in ("9003_old", "9004_old", "9003_squashed"):
        recorder.record_applied("shop", name)
    text = written.read_text()
    written.write_text(text + '    replaces = [("shop", "9003_old"), ("shop", "9004_old")]\n')
    assert script.plan(["migrate"], serving=True, applies=False)["unknown"] == []


@pytest.mark.django_db
def test_records_that_outlive_their_migrations_are_not_ahead(more_migrations: Callable[..., None]) -> None:
    recorder = MigrationRecorder(connection)
    # Replaced by a squashed migration that is the only one now; of an application that was removed.
    for label, name in (("shop", "9003_old"), ("shop", "9004_old"), ("removed", "0001_initial")):
        recorder.record_applied(label, name)
    more_migrations("9003_squashed", "")
    recorder.record_applied("shop", "9003_squashed")
    plan = script.plan(["migrate"], serving=True, applies=False)
    assert [item["ahead"] for item in plan["unknown"]] == [False] * 3
    assert plan["pending"] == [] and plan["conflicts"] == []


@pytest.mark.django_db(transaction=True)
def test_session_that_holds_a_lock_is_named() -> None:
    other = connection.copy()
    try:
        other.set_autocommit(False)
        with other.cursor() as cursor:
            cursor.execute("LOCK TABLE shop_product IN SHARE MODE")
            cursor.execute("SELECT pg_backend_pid(), pg_sleep(1.2)")
            pid = cursor.fetchone()[0]
        found = {session["pid"]: session for session in script.sessions("default", 1)}
        assert found[pid]["tables"] == "shop_product" and found[pid]["state"] == "idle in transaction"
        assert script.sessions("default", 3600) == []
    finally:
        other.close()
