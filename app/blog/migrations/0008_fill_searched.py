from typing import Any

from django.db import migrations

BATCH = 500


def fill(apps: Any, schema_editor: Any) -> None:
    """Have the trigger fill the column of older posts, some at a time, so that none is locked for long."""
    with schema_editor.connection.cursor() as cursor:
        cursor.execute("SELECT id FROM blog_post WHERE searched IS NULL ORDER BY id")
        ids = [pk for (pk,) in cursor.fetchall()]
        for start in range(0, len(ids), BATCH):
            cursor.execute(
                "UPDATE blog_post SET title = title WHERE id = ANY(%s) AND searched IS NULL",
                [ids[start : start + BATCH]],
            )


class Migration(migrations.Migration):
    # Each batch is committed by itself. A run that was interrupted goes on where it was.
    atomic = False

    dependencies = [
        ("blog", "0007_searched_index"),
    ]

    operations = [
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
