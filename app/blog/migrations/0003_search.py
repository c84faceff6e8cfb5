import django.contrib.postgres.indexes
import django.contrib.postgres.search
from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations


class Migration(migrations.Migration):
    # Posts stay writable while the index is built, which takes a while on a large table. That cannot be done
    # inside a transaction.
    atomic = False

    dependencies = [
        ("blog", "0002_categories"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="post",
            index=django.contrib.postgres.indexes.GinIndex(
                django.contrib.postgres.search.SearchVector("title", "summary", "body", config="english"),
                name="blog_post_search",
            ),
        ),
    ]
