from django.db import migrations, models


def fill(apps, schema_editor):
    apps.get_model("stock", "Sale").objects.update(note="before notes")


class Migration(migrations.Migration):
    dependencies = [("stock", "0001_initial")]
    operations = [
        migrations.AddField(model_name="sale", name="note", field=models.TextField(default="")),
        migrations.RunPython(fill, migrations.RunPython.noop),
    ]
