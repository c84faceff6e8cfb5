import django.contrib.postgres.indexes
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    # Posts stay writable while the index is built. That cannot be done inside a transaction.
    atomic = False

    dependencies = [
        ("blog", "0006_searched"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="post",
            index=django.contrib.postgres.indexes.GinIndex(fields=["searched"], name="blog_post_searched"),
        ),
    ]
