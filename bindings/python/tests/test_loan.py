from __future__ import annotations

import copy
import ctypes
import gc
import operator
import pickle
import threading

import pytest
from support import Thread, eventually, query

import dbpool


def test_a_loan_is_like_an_int(pool):
    with pool.connection() as conn:
        assert int(conn) == operator.index(conn) == conn.value > 0
        assert conn
        assert ctypes.cast(conn, ctypes.c_void_p).value == int(conn)


def test_a_loan_put_back_reaches_nothing(pool):
    conn = pool.get()
    pool.put(conn)
    assert not conn
    with pytest.raises(dbpool.NotLeased):
        int(conn)
    echo = ctypes.CFUNCTYPE(ctypes.c_void_p, ctypes.c_void_p)(lambda address: address)
    assert echo(conn) is None


def test_a_loan_is_not_copied(pool):
    with pool.connection() as conn:
        for duplicate in (copy.copy, copy.deepcopy, pickle.dumps):
            with pytest.raises((TypeError, ValueError)):
                duplicate(conn)


def test_a_forgotten_loan_comes_back_with_a_warning(pool):
    conn = pool.get()
    address = f"{int(conn):#x}"
    with pytest.warns(ResourceWarning, match=address):
        del conn
        gc.collect()
    assert pool.stats().in_use == 0
    with pool.connection(timeout=1) as conn:
        assert query(conn, "select 1") == "1"


def test_a_forgotten_loan_reaches_a_waiter(pool):
    conn = pool.get()
    waiter = Thread(pool.get, 10)
    assert eventually(lambda: pool.stats().waiting == 1)
    with pytest.warns(ResourceWarning):
        del conn
        gc.collect()
    pool.put(waiter.finish())


def test_a_loan_forgotten_in_a_cycle_of_another_thread_comes_back(pool):
    def forget():
        cycle = [pool.get()]
        cycle.append(cycle)

    thread = threading.Thread(target=forget)
    thread.start()
    thread.join()
    with pytest.warns(ResourceWarning):
        gc.collect()
    assert pool.stats().in_use == 0


def test_a_loan_keeps_its_pool():
    conn = dbpool.Pool(max_size=1).get()
    gc.collect()
    assert query(conn, "select 1") == "1"
    with pytest.warns(ResourceWarning) as caught:
        del conn
        gc.collect()
    assert len(caught) == 2  # the loan and the pool


def test_a_loan_that_never_met_its_pool_comes_back(pool, make_pool):
    make_pool()  # another one, which is asked too
    conn = pool.get()
    del (
        conn._once,
        conn._pool,
        conn._pid,
    )  # as when a signal handler's exception comes right after the call of the library
    with pytest.warns(ResourceWarning):
        del conn
        gc.collect()
    assert pool.stats().in_use == 0


def test_without_a_warning_filter_nothing_is_said_of_a_loan_put_back(pool, recwarn):
    conn = pool.get()
    pool.put(conn)
    del conn
    gc.collect()
    assert not recwarn.list
