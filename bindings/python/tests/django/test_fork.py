"""Children of a fork: gunicorn --preload, multiprocessing, Celery's prefork."""

import multiprocessing
import os
import pickle
import traceback

import pytest
import server
from django.db import ProgrammingError, connection, transaction
from stock.models import Product
from test_loans import pid


def in_child(function):
    """The result of a function in a forked child, which is to end well."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.close(reader)
        try:
            answer = True, function()
        except BaseException:
            answer = False, traceback.format_exc()
        with os.fdopen(writer, "wb") as stream:
            pickle.dump(answer, stream)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as stream:
        data = stream.read()
    assert os.waitpid(child, 0)[1] == 0
    assert data, "the child has said nothing"
    well, value = pickle.loads(data)
    assert well, value
    return value


def test_a_child_has_sessions_of_its_own_and_the_parents_survive(one):
    first = pid(one)
    one.close()
    assert in_child(lambda: pid(one)) != first
    assert pid(one) == first


def test_a_loan_from_before_the_fork_is_not_the_childs(one):
    first = pid(one)
    assert in_child(lambda: pid(one)) != first
    assert pid(one) == first
    one.close()
    assert pid(one) == first


def test_a_child_that_only_closes_does_the_parent_no_harm(one):
    first = pid(one)
    assert in_child(one.close) is None
    assert pid(one) == first


def test_a_transaction_of_the_parent_is_refused_in_the_child(tables):
    def go_on():
        with pytest.raises(ProgrammingError), transaction.atomic():
            Product.objects.count()
        return True

    def end():
        connection.in_atomic_block = True
        return go_on()

    with transaction.atomic():
        Product.objects.create(name="lamp")
        assert in_child(go_on)
        assert Product.objects.count() == 1
    assert Product.objects.count() == 1


def test_several_children_at_once(one):
    first = pid(one)
    context = multiprocessing.get_context("fork")
    with context.Pool(3) as workers:
        found = set(workers.starmap(child_pid, [(one.alias,)] * 12))
    assert first not in found
    assert pid(one) == first
    assert server.sessions() >= {first}


def child_pid(alias):
    from django.db import connections

    try:
        return pid(connections[alias])
    finally:
        connections[alias].close()
