"""Transactions of Django's, through the engine."""

import pytest
import server
from django.db import Error, IntegrityError, connection, transaction
from stock.models import Product, Sale
from support import Thread, eventually
from test_loans import pid

pytestmark = pytest.mark.usefixtures("tables")


def names():
    return sorted(Product.objects.values_list("name", flat=True))


def test_atomic_commits_and_rolls_back():
    with transaction.atomic():
        Product.objects.create(name="kept")
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        Product.objects.create(name="lost")
        1 / 0  # noqa: B018
    connection.close()
    assert names() == ["kept"]


def test_savepoints():
    with transaction.atomic():
        Product.objects.create(name="a")
        with pytest.raises(IntegrityError), transaction.atomic():
            Product.objects.create(name="a")
        Product.objects.create(name="b")
    assert names() == ["a", "b"]


def test_on_commit_runs_after_the_commit_only():
    seen = []
    with transaction.atomic():
        transaction.on_commit(lambda: seen.append("committed"))
        assert not seen
    with pytest.raises(ZeroDivisionError), transaction.atomic():
        transaction.on_commit(lambda: seen.append("rolled back"))
        1 / 0  # noqa: B018
    assert seen == ["committed"]


def test_close_inside_atomic_ends_the_transaction_and_refuses_the_rest():
    first = pid(connection)
    with pytest.raises(Error), transaction.atomic():
        Product.objects.create(name="lost")
        connection.close()
        Product.objects.create(name="never")
    assert names() == []
    assert pid(connection) == first


def test_the_session_of_a_broken_transaction_is_replaced():
    first = pid(connection)
    with pytest.raises(Error), transaction.atomic():
        server.terminate(first)
        assert eventually(lambda: first not in server.sessions())
        Product.objects.create(name="lost")
    connection.close_if_unusable_or_obsolete()
    assert names() == []
    assert pid(connection) != first


def test_select_for_update_keeps_others_out():
    Product.objects.create(name="lamp", count=3)

    def take():
        try:
            with transaction.atomic():
                product = Product.objects.select_for_update().get(name="lamp")
                product.count -= 1
                product.save()
        finally:
            connection.close()

    for thread in [Thread(take) for _ in range(3)]:
        thread.finish()
    assert Product.objects.get().count == 0


def test_related_rows_and_deletion():
    product = Product.objects.create(name="lamp")
    Sale.objects.bulk_create(Sale(product=product, note=f"n{number}") for number in range(5))
    assert product.sale_set.count() == 5
    product.delete()
    assert Sale.objects.count() == 0


def test_server_side_cursors_in_autocommit_and_in_a_transaction():
    Product.objects.bulk_create(Product(name=f"{number:03}") for number in range(30))
    assert len(list(Product.objects.iterator(chunk_size=7))) == 30
    with transaction.atomic():
        assert len(list(Product.objects.iterator(chunk_size=7))) == 30


def test_an_abandoned_iterator_ends_quietly():
    Product.objects.bulk_create(Product(name=f"{number:03}") for number in range(30))
    rows = Product.objects.iterator(chunk_size=7)
    next(rows)
    connection.close()
    rows.close()  # as the garbage collector would
    assert Product.objects.count() == 30


def test_a_connection_that_was_given_back_is_not_usable():
    connection.ensure_connection()
    assert connection.is_usable()
    connection.close()
    assert not connection.is_usable()
