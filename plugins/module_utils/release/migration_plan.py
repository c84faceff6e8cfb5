"""Ask Django which migrations a command would apply, and what they do to the active release meanwhile.

The module release_migrate gives the text of this file to `manage.py shell` of any project, so it stands on the standard
library and on Django (3.2 to 5.2) alone, and imports Django only where it is used.

A migration runs before the new release serves, so for a while the release before works on what it leaves. That one
breaks when a column or table that it names is gone, and when it must give a value to a column that it does not know:
Django adds a column NOT NULL, and takes its `default` away from the database again. Only `db_default` stays there.
"""

from __future__ import annotations

import json
import sys
from typing import Any

# What stands before the answer: shells greet, settings log.
MARKER = "slipway-migration-plan: "
AUTO_FIELDS = ("AutoField", "BigAutoField", "SmallAutoField")

# The sessions that have held a lock for a while, those that began first at the head. What the role may not see is NULL.
SESSIONS = """
SELECT a.pid, a.usename::text, a.application_name, host(a.client_addr), a.state,
       extract(epoch FROM now() - a.xact_start)::int, string_agg(DISTINCT c.relname, ', ')
FROM pg_stat_activity a
JOIN pg_locks l ON l.pid = a.pid AND l.granted AND l.locktype = 'relation'
JOIN pg_class c ON c.oid = l.relation AND c.relkind IN ('r', 'p') AND c.relnamespace <> 'pg_catalog'::regnamespace
WHERE a.datname = current_database() AND a.pid <> pg_backend_pid()
  AND (a.xact_start IS NULL OR a.xact_start < now() - %s * interval '1 second')
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())
GROUP BY 1, 2, 3, 4, 5, a.xact_start
ORDER BY a.xact_start LIMIT 5
"""

# The columns of all tables and views that a name without a schema finds.
COLUMNS = """
SELECT c.relname, a.attname, a.attnotnull, a.atthasdef OR a.attidentity <> ''
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relkind IN ('r', 'p', 'v', 'm', 'f') AND pg_table_is_visible(c.oid)
"""


class Judge:
    """What migrations do to a database that an older release works with, seen on the state before each operation."""

    def __init__(self, connection: Any, state: Any) -> None:
        self.connection = connection
        self.state = state
        self.destructive: list[dict[str, str]] = []
        self.warnings: list[dict[str, str]] = []
        # What this set of migrations makes itself, and so no older release knows.
        self.tables: set[str] = set()
        self.columns: set[tuple[str, str]] = set()
        # The columns that older inserts fail on, if the migration ends like this.
        self.required: dict[tuple[str, str], str] = {}

    def migration(self, migration: Any) -> None:
        """Judge the operations of `migration`, and take its state for that of the next one."""
        self.name = f"{migration.app_label}.{migration.name}"
        for operation in migration.operations:
            self.step(migration.app_label, operation, self.state)
        for text in self.required.values():
            self.find(text)
        self.required.clear()

    def step(self, label: str, operation: Any, state: Any) -> None:
        """Judge `operation`, and apply it to `state`."""
        self.operation(label, operation, state)
        operation.state_forwards(label, state)

    def find(self, text: str) -> None:
        """Note what breaks the older release."""
        self.destructive.append({"migration": self.name, "database": self.connection.alias, "text": text})

    def warn(self, text: str) -> None:
        """Note what the operator should know, once a migration."""
        warning = {"migration": self.name, "database": self.connection.alias, "text": text}
        if warning not in self.warnings:
            self.warnings.append(warning)

    # What an operation does to the database

    def operation(self, label: str, operation: Any, state: Any) -> None:
        """Judge `operation` by its class; those that derive from one of Django's are taken for that."""
        from django.db import router
        from django.db.migrations import operations as known

        if isinstance(operation, known.SeparateDatabaseAndState):
            # What it does to the database has a state of its own; the other half is applied by step().
            state = state.clone()
            for inner in operation.database_operations:
                self.step(label, inner, state)
            return
        if isinstance(operation, (known.RunSQL, known.RunPython)):
            hints = getattr(operation, "hints", None) or {}
            if not self.does_nothing(operation) and router.allow_migrate(self.connection.alias, label, **hints):
                what = "SQL" if isinstance(operation, known.RunSQL) else "Python code"
                self.warn(f"runs {what}, which cannot be judged")
            return
        for kind, judge in (
            (known.CreateModel, self.create_model),
            (known.DeleteModel, self.delete_model),
            (known.RenameModel, self.rename_model),
            (known.AlterModelTable, self.alter_table),
            (known.AlterOrderWithRespectTo, self.alter_order),
            (known.AddField, self.add_field),
            (known.RemoveField, self.remove_field),
            (known.RenameField, self.rename_field),
            (known.AlterField, self.alter_field),
        ):
            if isinstance(operation, kind):
                judge(label, operation, state)
                return
        djangos = tuple(getattr(known, name) for name in known.__all__)
        if not isinstance(operation, djangos) and not type(operation).__module__.startswith("django."):
            self.warn(f"has an operation of its own kind, {type(operation).__name__}, which cannot be judged")

    @staticmethod
    def does_nothing(operation: Any) -> bool:
        """Tell whether a RunSQL or RunPython is there for its way back alone."""
        noop = type(operation).noop
        return getattr(operation, "sql", None) == noop or getattr(operation, "code", None) is noop

    def create_model(self, label: str, operation: Any, _: Any) -> None:
        """Remember its tables."""
        from django.db.migrations.state import ModelState

        model = ModelState(label, operation.name, list(operation.fields), dict(operation.options))
        if self.migrates(model):
            self.tables |= {self.table(model), *self.many_to_many_tables(model)}

    def delete_model(self, label: str, operation: Any, state: Any) -> None:
        """Its table goes."""
        model = state.models[label, operation.name.lower()]
        if self.migrates(model):
            self.lose_table(self.table(model))

    def rename_model(self, label: str, operation: Any, state: Any) -> None:
        """The table follows the name, unless it has one of its own."""
        model = state.models[label, operation.old_name.lower()]
        if self.migrates(model):
            self.rename_table(self.table(model), self.table(model, name=operation.new_name.lower()))

    def alter_table(self, label: str, operation: Any, state: Any) -> None:
        """The table gets the name that is given, or the usual one."""
        model = state.models[label, operation.name.lower()]
        if self.migrates(model):
            self.rename_table(self.table(model), operation.table or self.table(model, explicit=False))

    def alter_order(self, label: str, operation: Any, state: Any) -> None:
        """The order is a column, NOT NULL, that is added or removed."""
        model = state.models[label, operation.name.lower()]
        before, after = model.options.get("order_with_respect_to"), operation.order_with_respect_to
        if self.migrates(model) and bool(before) != bool(after):
            key = (self.table(model), "_order")
            if before:
                self.lose_column(key)
            else:
                self.gain_column(key, needs_value=True)

    def add_field(self, label: str, operation: Any, state: Any) -> None:
        """A column, or the table of a many-to-many relation."""
        model = state.models[label, operation.model_name.lower()]
        if not self.migrates(model):
            return
        if table := self.many_to_many_table(model, operation.name, operation.field):
            self.tables.add(table)
        elif column := self.column(operation.name, operation.field):
            table = self.table(model)
            self.gain_column((table, column), self.needs_value(operation.field))
            if table not in self.tables and getattr(operation.field, "generated", False) and operation.field.db_persist:
                self.warn(f"rewrites table {table} to add the generated column {column}: until then its queries wait")

    def remove_field(self, label: str, operation: Any, state: Any) -> None:
        """A column goes, or the table of a many-to-many relation."""
        model = state.models[label, operation.model_name.lower()]
        field = model.fields[operation.name]
        if not self.migrates(model):
            return
        if table := self.many_to_many_table(model, operation.name, field):
            self.lose_table(table)
        elif column := self.column(operation.name, field):
            self.lose_column((self.table(model), column))

    def rename_field(self, label: str, operation: Any, state: Any) -> None:
        """The column follows the name, unless it has one of its own."""
        model = state.models[label, operation.model_name.lower()]
        field = model.fields[operation.old_name]
        if not self.migrates(model):
            return
        if table := self.many_to_many_table(model, operation.old_name, field):
            self.rename_table(table, self.many_to_many_table(model, operation.new_name, field) or table)
        elif column := self.column(operation.old_name, field):
            new = self.column(operation.new_name, field) or column
            self.rename_column(self.table(model), column, new)

    def alter_field(self, label: str, operation: Any, state: Any) -> None:
        """The column gets another name, must have a value, or changes its type."""
        model = state.models[label, operation.model_name.lower()]
        before, after = model.fields[operation.name], operation.field
        if not self.migrates(model):
            return
        if before_table := self.many_to_many_table(model, operation.name, before):
            after_table = self.many_to_many_table(model, operation.name, after)
            self.rename_table(before_table, after_table or before_table)
            return
        old, new = self.column(operation.name, before), self.column(operation.name, after)
        if not (old and new):
            return
        table = self.table(model)
        self.rename_column(table, old, new)
        if table in self.tables:
            return
        self.change_need((table, new), before, after)
        old_type, new_type = self.type_of(operation.name, before), self.type_of(operation.name, after)
        if (table, new) not in self.columns and not self.widens(old_type, new_type):
            self.warn(f"changes the type of column {table}.{new} from {old_type} to {new_type}")

    # What that is for an older release

    def lose_table(self, table: str) -> None:
        """A table is removed."""
        if table in self.tables:
            self.tables.discard(table)
        else:
            self.find(f"removes table {table}")

    def rename_table(self, old: str, new: str) -> None:
        """A table gets another name."""
        if old == new:
            return
        if old in self.tables:
            self.tables.add(new)
        else:
            self.find(f"renames table {old} to {new}")
        self.columns |= {(new, column) for table, column in self.columns if table == old}
        for key in [key for key in self.required if key[0] == old]:
            self.required[new, key[1]] = self.required.pop(key)

    def gain_column(self, key: tuple[str, str], needs_value: bool) -> None:
        """A column is added to a table that may be older."""
        if key[0] in self.tables:
            return
        self.columns.add(key)
        if needs_value:
            self.required[key] = (
                f"adds column {'.'.join(key)} as NOT NULL without a default that the database keeps (db_default)"
            )

    def lose_column(self, key: tuple[str, str]) -> None:
        """A column is removed."""
        self.required.pop(key, None)
        if key in self.columns:
            self.columns.discard(key)
        elif key[0] not in self.tables:
            self.find(f"removes column {'.'.join(key)}")

    def rename_column(self, table: str, old: str, new: str) -> None:
        """A column gets another name."""
        if old == new or table in self.tables:
            return
        if (table, old) in self.columns:
            self.columns.add((table, new))
        else:
            self.find(f"renames column {table}.{old} to {new}")
        if text := self.required.pop((table, old), None):
            self.required[table, new] = text.replace(f"{table}.{old}", f"{table}.{new}")

    def change_need(self, key: tuple[str, str], before: Any, after: Any) -> None:
        """A column that could go without a value must have one now, or the other way round."""
        column = ".".join(key)
        if key in self.columns:
            # An older release does not name it.
            if not self.needs_value(after):
                self.required.pop(key, None)
            elif not self.needs_value(before):
                self.required[key] = (
                    f"lets the new column {column} have no NULL and no default in the database, so inserts must name it"
                )
        elif after.null:
            self.required.pop(key, None)
        elif before.null:
            # An older release writes NULL, also where the database has a default, unless Django fills the field.
            if self.fills(before) or (self.has_database_default(before) and self.has_database_default(after)):
                self.warn(f"makes column {column} NOT NULL: see that the active release writes no NULL to it")
            else:
                self.required[key] = f"makes column {column} NOT NULL"
        elif self.needs_value(after) and not self.needs_value(before) and not self.fills(before):
            self.required[key] = f"takes the database's default from column {column}, which is NOT NULL"

    # What models and fields are in the database

    def migrates(self, model: Any) -> bool:
        """Tell whether migrations touch this database for `model`."""
        from django.conf import settings
        from django.db import router

        options = model.options
        swappable = options.get("swappable")
        if options.get("proxy") or not options.get("managed", True):
            return False
        if swappable and str(getattr(settings, swappable, "")).lower() not in (
            "",
            f"{model.app_label}.{model.name}".lower(),
        ):
            return False
        return router.allow_migrate(self.connection.alias, model.app_label, model_name=model.name.lower())

    def table(self, model: Any, name: str = "", explicit: bool = True) -> str:
        """Return the table of `model`, by its own name or by that which is given."""
        own = model.options.get("db_table") if explicit else None
        return own or self.shorten(f"{model.app_label}_{name or model.name.lower()}")

    def shorten(self, name: str) -> str:
        """Return a name as Django cuts it to what the database takes."""
        from django.db.backends.utils import truncate_name

        return truncate_name(name, self.connection.ops.max_name_length())

    def many_to_many_table(self, model: Any, name: str, field: Any) -> str | None:
        """Return the table that Django makes for a many-to-many relation, None for other fields."""
        from django.db.backends.utils import strip_quotes

        if not field.many_to_many:
            return None
        through = field.remote_field.through
        if isinstance(through, str) or (through is not None and not through._meta.auto_created):
            return None
        return field.db_table or self.shorten(f"{strip_quotes(self.table(model))}_{name}")

    def many_to_many_tables(self, model: Any) -> set[str]:
        """Return the tables of all many-to-many relations of `model`."""
        tables = (self.many_to_many_table(model, name, field) for name, field in model.fields.items())
        return {table for table in tables if table}

    @staticmethod
    def named(name: str, field: Any) -> Any:
        """Return a copy of `field` that knows its name, as in a model."""
        copy = field.clone()
        copy.set_attributes_from_name(name)
        return copy

    def column(self, name: str, field: Any) -> str | None:
        """Return the column of `field`, None if it has none."""
        if field.many_to_many or field.one_to_many:
            return None
        return self.named(name, field).column

    def type_of(self, name: str, field: Any) -> str:
        """Return the column's type; relations, which take theirs from another model, have none here."""
        return "" if field.is_relation else self.named(name, field).db_type(self.connection) or ""

    @staticmethod
    def widens(before: str, after: str) -> bool:
        """Tell whether each value of a type is one of the other, with no work for the database."""
        if before == after or not before or not after:
            return True
        if not before.startswith("varchar("):
            return False
        return after == "text" or (after.startswith("varchar(") and int(before[8:-1]) <= int(after[8:-1]))

    @staticmethod
    def has_database_default(field: Any) -> bool:
        """Tell whether the database itself has a value for a row that is given none (Django 5.0)."""
        from django.db.models.fields import NOT_PROVIDED

        return getattr(field, "db_default", NOT_PROVIDED) is not NOT_PROVIDED

    @classmethod
    def needs_value(cls, field: Any) -> bool:
        """Tell whether an insert that does not name the column fails."""
        automatic = field.get_internal_type() in AUTO_FIELDS or getattr(field, "generated", False)
        return not (field.null or automatic or cls.has_database_default(field))

    @staticmethod
    def fills(field: Any) -> bool:
        """Tell whether Django itself gives each new row a value."""
        automatic = getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False)
        return automatic or (field.has_default() and field.default is not None)


# The schema of the database, compared with what a release uses


def columns_of(connection: Any) -> dict[str, dict[str, tuple[bool, bool]]]:
    """Return the columns of each table: by name, whether it is NOT NULL, and whether the database has a default."""
    tables: dict[str, dict[str, tuple[bool, bool]]] = {}
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute(COLUMNS)
            for table, column, not_null, has_default in cursor.fetchall():
                tables.setdefault(table, {})[column] = (not_null, has_default)
            return tables
        for table in connection.introspection.table_names(cursor, include_views=True):
            tables[table] = {
                found.name: (not found.null_ok, found.default is not None or getattr(found, "is_autofield", False))
                for found in connection.introspection.get_table_description(cursor, table)
            }
    return tables


class Comparison:
    """What a release whose models are `state` misses in a database, and what of the database its inserts fail on."""

    def __init__(self, connection: Any, state: Any) -> None:
        self.judge = Judge(connection, state)
        self.state = state
        self.converter = connection.introspection.identifier_converter
        self.tables = columns_of(connection)
        self.conflicts: list[str] = []
        # The columns that the models know, by table: two models may share one.
        self.known: dict[str, set[str]] = {}

    def run(self) -> list[str]:
        """Return the conflicts, in the order of the tables' names."""
        for model in self.state.models.values():
            self.compare(model)
        for table, known in self.known.items():
            for column, (not_null, has_default) in self.tables[table].items():
                if column not in known and not_null and not has_default:
                    self.conflicts.append(
                        f"column {table}.{column}, which the release does not know, is NOT NULL without a default:"
                        " inserts fail"
                    )
        return sorted(self.conflicts)

    def compare(self, model: Any) -> None:
        """Compare a model with its table, and the tables of its many-to-many relations."""
        judge = self.judge
        table = self.converter(judge.table(model))
        # A name with a schema in it cannot be looked up; what is not migrated may be made by others, and later.
        if not judge.migrates(model) or set(table) & set('".'):
            return
        for other in judge.many_to_many_tables(model):
            self.has_table(self.converter(other))
        if not self.has_table(table):
            return
        known = self.known.setdefault(table, set())
        for name, field in model.fields.items():
            column = judge.column(name, field)
            if column and (field.is_relation or judge.type_of(name, field)):
                known.add(self.converter(column))
                self.compare_column(table, self.converter(column), field)
        if model.options.get("order_with_respect_to"):
            known.add("_order")

    def has_table(self, table: str) -> bool:
        """Tell whether there is a table, and note a conflict where there is none."""
        if table in self.tables:
            return True
        self.conflicts.append(f"table {table} is missing")
        return False

    def compare_column(self, table: str, column: str, field: Any) -> None:
        """Compare the column of `field` with that of the database."""
        found = self.tables[table].get(column)
        if found is None:
            self.conflicts.append(f"column {table}.{column} is missing")
            return
        not_null, has_default = found
        if field.null and not_null and not (has_default or self.judge.fills(field)):
            self.conflicts.append(f"column {table}.{column} is NOT NULL, and the release may leave it empty")


def recorded_in(connection: Any) -> dict[tuple[str, str], int]:
    """Return the migrations that a database has on record, with the number of each record, which grows."""
    from django.db.migrations.recorder import MigrationRecorder

    return {key: row.pk for key, row in MigrationRecorder(connection).applied_migrations().items()}


def unknown_to(loader: Any, recorded: dict[tuple[str, str], int]) -> list[dict[str, Any]]:
    """Return the recorded migrations that a release does not have, each with whether the database is ahead by it.

    What a squashed migration replaces is known. Where the squashed one has become the only one, the records of what it
    replaced stay; so do those of an application that was removed. These are older than records that the release knows.
    """
    known = set(loader.disk_migrations)
    known |= {tuple(target) for migration in loader.disk_migrations.values() for target in migration.replaces}
    newest: dict[str, int] = {}
    for (label, name), number in recorded.items():
        if (label, name) in known:
            newest[label] = max(newest.get(label, 0), number)
    last = max(newest.values(), default=0)
    return [
        {"migration": ".".join(key), "ahead": number > newest.get(key[0], last)}
        for key, number in sorted(recorded.items(), key=lambda item: item[1])
        if key not in known
    ]


# Questions


def options_of(words: list[str]) -> Any:
    """Return what `migrate` reads from its arguments, None for another command."""
    from django.core.management import get_commands, load_command_class

    if words[0] != "migrate":
        return None
    owner = get_commands()["migrate"]
    command = load_command_class(owner, "migrate") if isinstance(owner, str) else owner
    return command.create_parser("manage.py", "migrate").parse_args(words[1:])


def targets_of(loader: Any, options: Any) -> list[Any]:
    """Return up to which migrations the command goes."""
    label = getattr(options, "app_label", None)
    name = getattr(options, "migration_name", None)
    if label and name:
        return [(label, None if name == "zero" else loader.get_migration_by_prefix(label, name).name)]
    return [node for node in loader.graph.leaf_nodes() if not label or node[0] == label]


def aliases_of(options: Any) -> list[str]:
    """Return the databases that the command is for: of one that is not Django's own, all that take any migrations."""
    from django.apps import apps
    from django.db import connections, router

    if options is not None:
        return [options.database]
    labels = [config.label for config in apps.get_app_configs()]
    return [alias for alias in connections if any(router.allow_migrate(alias, label) for label in labels)]


def milliseconds(connection: Any, setting: str) -> int | None:
    """Return a limit of time that is in force on a connection to PostgreSQL."""
    if connection.vendor != "postgresql":
        return None
    with connection.cursor() as cursor:
        cursor.execute("SELECT setting FROM pg_settings WHERE name = %s", [setting])
        return int(cursor.fetchone()[0])


def plan(command: list[str], serving: bool, applies: bool = True) -> dict[str, Any]:
    """Return what `command` would apply, and what is said of it if a release is `serving` from the database.

    Where the database has migrations that this release does not know, or where those that are pending will not be
    applied (`applies` is false), its schema is compared with what the release uses.
    """
    from django.db import connections
    from django.db.migrations.executor import MigrationExecutor

    answer: dict[str, Any] = {
        **{"pending": [], "destructive": [], "warnings": [], "limits": {}},
        **{"unknown": [], "conflicts": []},
    }
    if not command:
        return answer
    options = options_of(command)
    for alias in aliases_of(options):
        connection = connections[alias]
        # A project without a database has no schema.
        if connection.settings_dict["ENGINE"] == "django.db.backends.dummy":
            continue
        executor = MigrationExecutor(connection)
        steps = executor.migration_plan(targets_of(executor.loader, options))
        answer["pending"] += [
            {
                "database": alias,
                "migration": f"{migration.app_label}.{migration.name}",
                "atomic": migration.atomic and connection.features.can_rollback_ddl,
            }
            for migration, _ in steps
        ]
        recorded = recorded_in(connection)
        unknown = unknown_to(executor.loader, recorded)
        answer["unknown"] += [{"database": alias} | item for item in unknown]
        # A database without any is that of a site which is still to be filled.
        if recorded and (unknown or (steps and not applies)):
            state = (
                executor._create_project_state(with_applied_migrations=True)
                if applies
                else executor.loader.project_state()
            )
            answer["conflicts"] += [{"database": alias, "text": text} for text in Comparison(connection, state).run()]
        if not steps:
            continue
        answer["limits"][alias] = {
            setting: milliseconds(connection, setting) for setting in ("lock_timeout", "statement_timeout")
        }
        if serving and executor.loader.applied_migrations and not getattr(options, "fake", False):
            judge = Judge(connection, executor._create_project_state(with_applied_migrations=True))
            for migration, backwards in steps:
                if backwards:
                    judge.name = f"{migration.app_label}.{migration.name}"
                    judge.find("is taken back")
                else:
                    judge.migration(migration)
            answer["destructive"] += judge.destructive
            answer["warnings"] += judge.warnings
    return answer


def sessions(database: str, seconds: int) -> list[dict[str, Any]]:
    """Return the sessions that have held locks on tables for some seconds."""
    from django.db import connections

    if connections[database].vendor != "postgresql":
        return []
    with connections[database].cursor() as cursor:
        cursor.execute(SESSIONS, [seconds])
        names = ("pid", "user", "program", "address", "state", "seconds", "tables")
        return [dict(zip(names, row, strict=True)) for row in cursor.fetchall()]


def answer(question: str) -> None:
    """Answer a question, {"ask": the function, and its arguments}, on a line of its own with the marker before it."""
    arguments = json.loads(question)
    functions = {"plan": plan, "sessions": sessions}
    result = functions[arguments.pop("ask")](**arguments)
    sys.stdout.write(f"\n{MARKER}{json.dumps(result)}\n")
    sys.stdout.flush()
