"""Types that need something of the connection."""

import datetime
from decimal import Decimal

import pytest
from django.db import connection
from django.db.backends.postgresql.base import Database
from django.utils import timezone
from stock.models import Product

pytestmark = pytest.mark.usefixtures("tables")

DateTimeTZRange = Database.types.range.Range if Database.__name__ == "psycopg" else None
if DateTimeTZRange is None:
    from psycopg2.extras import DateTimeTZRange


def test_fields_come_back_as_they_were_on_a_session_used_before():
    start = datetime.datetime(2024, 1, 1, tzinfo=datetime.timezone.utc)
    given = {
        "name": "lamp",
        "price": Decimal("9.99"),
        "tags": ["a", "b c", "d,e"],
        "details": {"watt": 5, "more": [1, None, "x"]},
        "offered": DateTimeTZRange(start, start + datetime.timedelta(days=1)),
        "changed": timezone.now(),
    }
    for _ in range(3):
        Product.objects.all().delete()
        Product.objects.create(**given)
        connection.close()
        product = Product.objects.get()
        assert {name: getattr(product, name) for name in given} == given
        assert product.changed.tzinfo is not None
        connection.close()


def test_look_ups_into_json_arrays_and_ranges():
    Product.objects.create(name="lamp", details={"watt": 5}, tags=["light"])
    assert Product.objects.filter(details__watt=5, tags__contains=["light"]).exists()
    assert not Product.objects.filter(details__watt=6).exists()
    assert not Product.objects.filter(offered__contains=timezone.now()).exists()
