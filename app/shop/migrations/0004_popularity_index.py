from django.contrib.postgres.operations import AddIndexConcurrently
from django.db import migrations, models


class Migration(migrations.Migration):
    # Products stay writable while the index is built. That cannot be done inside a transaction.
    atomic = False

    dependencies = [
        ("shop", "0003_popularity"),
    ]

    operations = [
        AddIndexConcurrently(
            model_name="product",
            index=models.Index(
                models.OrderBy(models.F("popularity"), descending=True),
                models.OrderBy(models.F("views"), descending=True),
                models.OrderBy(models.F("id"), descending=True),
                condition=models.Q(("is_active", True)),
                name="shop_product_popular",
            ),
        ),
    ]
