"""The commands that change or read the schema."""

import io

import pytest
from django.core.management import call_command
from django.db import connection
from stock.models import Product, Sale

pytestmark = pytest.mark.usefixtures("tables")


def output(*command, **options):
    stream = io.StringIO()
    call_command(*command, stdout=stream, **options)
    return stream.getvalue()


def columns(table):
    with connection.cursor() as cursor:
        return {column.name for column in connection.introspection.get_table_description(cursor, table)}


def test_makemigrations_finds_nothing_to_do():
    assert "No changes" in output("makemigrations", "stock", check=True, dry_run=True)


def test_migrate_backwards_and_forwards():
    Sale.objects.create(product=Product.objects.create(name="lamp"))
    call_command("migrate", "stock", "0001", verbosity=0)
    assert "note" not in columns("stock_sale")
    call_command("migrate", "stock", verbosity=0)
    assert Sale.objects.get().note == "before notes"
    call_command("migrate", "stock", "zero", verbosity=0)
    assert "stock_product" not in connection.introspection.table_names()
    call_command("migrate", "stock", verbosity=0)
    assert Product.objects.count() == 0


def test_sqlmigrate():
    assert 'CREATE TABLE "stock_product"' in output("sqlmigrate", "stock", "0001")
    assert 'DROP TABLE "stock_product"' in output("sqlmigrate", "stock", "0001", backwards=True)


def test_inspectdb():
    text = output("inspectdb", "stock_product", "stock_sale")
    assert "class StockProduct(models.Model)" in text
    assert "class StockSale(models.Model)" in text


def test_check_and_showmigrations():
    assert "no issues" in output("check", databases=["default"])
    assert "[X] 0002_sale_note" in output("showmigrations", "stock")
