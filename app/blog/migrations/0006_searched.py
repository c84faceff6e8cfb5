import django.contrib.postgres.search
import django.utils.timezone
from django.db import migrations, models


class Migration(migrations.Migration):
    # To add the column, PostgreSQL writes the table anew, and whoever asks for posts waits: a second or two for 10,000.
    dependencies = [
        ("blog", "0005_picture_unusable_since"),
    ]

    operations = [
        migrations.AlterField(
            model_name="post",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.AddField(
            model_name="post",
            name="searched",
            field=models.GeneratedField(
                db_persist=True,
                expression=django.contrib.postgres.search.SearchVector("title", "summary", "body", config="english"),
                output_field=django.contrib.postgres.search.SearchVectorField(),
            ),
        ),
    ]
