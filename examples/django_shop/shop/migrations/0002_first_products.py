from django.db import migrations

PRODUCTS = [(f"Book {number}", 500 + 25 * number, 1_000_000) for number in range(1, 20)]
RARE = ("First edition", 99_900, 20)  # sells out


def add_products(apps, _schema_editor):
    for name, price, quantity in [*PRODUCTS, RARE]:
        product = apps.get_model("shop", "Product").objects.create(name=name, price=price)
        apps.get_model("shop", "Stock").objects.create(product=product, quantity=quantity)


def remove_products(apps, _schema_editor):
    for model in ("Order", "Stock", "Product"):
        apps.get_model("shop", model).objects.all().delete()


class Migration(migrations.Migration):
    dependencies = [("shop", "0001_initial")]
    operations = [migrations.RunPython(add_products, remove_products)]
