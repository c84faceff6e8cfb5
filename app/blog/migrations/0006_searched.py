import django.contrib.postgres.search
import django.utils.timezone
from django.db import migrations, models

# Django takes the column for a generated one, and so never writes it. To add one that is, PostgreSQL would rewrite the
# table, and nobody could read a post meanwhile. An ordinary column is there at once; a trigger keeps it, for the
# release before as well, and 0008 fills it.
ADD = """
ALTER TABLE blog_post ADD COLUMN searched tsvector;

CREATE FUNCTION blog_post_set_searched() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    NEW.searched := to_tsvector('english', NEW.title || ' ' || NEW.summary || ' ' || NEW.body);
    RETURN NEW;
END
$$;

CREATE TRIGGER blog_post_set_searched BEFORE INSERT OR UPDATE OF title, summary, body ON blog_post
    FOR EACH ROW EXECUTE FUNCTION blog_post_set_searched();
"""
REMOVE = """
DROP TRIGGER blog_post_set_searched ON blog_post;
DROP FUNCTION blog_post_set_searched();
ALTER TABLE blog_post DROP COLUMN searched;
"""


class Migration(migrations.Migration):
    dependencies = [
        ("blog", "0005_picture_unusable_since"),
    ]

    operations = [
        migrations.AlterField(
            model_name="post",
            name="created_at",
            field=models.DateTimeField(default=django.utils.timezone.now, editable=False),
        ),
        migrations.RunSQL(
            ADD,
            REMOVE,
            state_operations=[
                migrations.AddField(
                    model_name="post",
                    name="searched",
                    field=models.GeneratedField(
                        db_persist=True,
                        expression=django.contrib.postgres.search.SearchVector(
                            "title", "summary", "body", config="english"
                        ),
                        output_field=django.contrib.postgres.search.SearchVectorField(),
                    ),
                ),
            ],
        ),
    ]
