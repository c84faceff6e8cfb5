from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [
        ("shop", "0002_view_flush"),
    ]

    operations = [
        migrations.AddField(
            model_name="product",
            name="popularity",
            field=models.FloatField(db_default=0, default=0, editable=False),
        ),
    ]
