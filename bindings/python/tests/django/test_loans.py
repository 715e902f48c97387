"""Borrowing and giving back, as a view or a thread does."""

import gc
import threading

import pytest
import server
from django.db import InterfaceError, OperationalError, connection, connections
from django.db.backends.signals import connection_created
from support import Thread, eventually

import dbpool


def pid(wrapper):
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


def test_the_session_lives_on_after_close(one):
    first = pid(one)
    one.close()
    assert one.connection is None
    assert pid(one) == first


def test_the_pool_counts(one):
    for _ in range(3):
        pid(one)
        one.close()
    stats = one.pool.stats()
    assert (stats.gets, stats.opened, stats.idle, stats.in_use) == (3, 1, 1, 0)
    assert "idle=1" in repr(one.pool)


def test_the_driver_is_the_one_that_django_chose(one):
    one.ensure_connection()
    assert type(one.pool).__name__ == {"psycopg": "PsycopgPool", "psycopg2": "Psycopg2Pool"}[server.DRIVER]
    assert isinstance(one.connection, server.CONNECTION)


def test_connection_created_is_sent_at_each_loan(one):
    seen = []

    def receiver(connection, **_):
        seen.append(connection)

    connection_created.connect(receiver)
    try:
        for _ in range(2):
            pid(one)
            one.close()
    finally:
        connection_created.disconnect(receiver)
    assert seen == [one, one]


def test_threads_take_turns_on_one_connection(one):
    def turn():
        wrapper = connections[one.alias]
        try:
            return pid(wrapper)
        finally:
            wrapper.close()

    threads = [Thread(turn) for _ in range(20)]
    assert len({thread.finish() for thread in threads}) == 1


def test_no_more_sessions_than_max_conns(two):
    ready = threading.Barrier(6)

    def work():
        wrapper = connections[two.alias]
        ready.wait()
        try:
            for _ in range(20):
                pid(wrapper)
                wrapper.close()
        finally:
            wrapper.close()

    for thread in [Thread(work) for _ in range(6)]:
        thread.finish()
    assert two.pool.stats().opened <= 2


def test_a_hundred_threads_that_never_close_are_all_served(two):
    def forget():
        return pid(connections[two.alias])

    threads = [Thread(forget) for _ in range(100)]
    assert all(thread.finish(60) for thread in threads)


def test_a_wrapper_that_is_garbage_loses_no_slot(one):
    pid(one)  # for what django.contrib.postgres asks once for each alias, on a connection of its own
    one.close()
    copy = one.copy()
    pid(copy)
    del copy
    gc.collect()  # a wrapper is always in reference cycles
    assert pid(one)


def test_a_shared_wrapper_keeps_its_loan_when_its_thread_ends(two):
    def start():
        wrapper = connections[two.alias]
        wrapper.inc_thread_sharing()
        return wrapper, pid(wrapper)

    wrapper, first = Thread(start).finish()
    # Were the loan taken back, one of these would get the session.
    others = [connections[two.alias], two.copy()]
    server.query("SELECT 1")
    assert pid(others[0]) != first
    assert pid(wrapper) == first
    wrapper.close()


def test_timeout_0_fails_at_once_with_the_old_text(add_database):
    wrapper = add_database(MAX_CONNS=1, TIMEOUT=0)
    other = wrapper.copy()
    pid(wrapper)
    with pytest.raises(OperationalError, match="connection pool exhausted") as caught:
        other.ensure_connection()
    cause = caught.value.__cause__
    assert isinstance(cause, wrapper.Database.OperationalError)
    assert isinstance(cause, dbpool.PoolTimeout)
    assert cause.code == dbpool.PoolTimeout.code


def test_a_wait_ends_at_its_timeout(add_database):
    wrapper = add_database(MAX_CONNS=1, TIMEOUT="100ms")
    other = wrapper.copy()
    pid(wrapper)
    with pytest.raises(OperationalError) as caught:
        other.ensure_connection()
    assert caught.value.__cause__.code == dbpool.PoolTimeout.code


def test_a_closed_pool_is_an_interface_error(one):
    one.pool.close()
    with pytest.raises(InterfaceError) as caught:
        one.ensure_connection()
    assert caught.value.__cause__.code == dbpool.PoolClosed.code


def test_a_wrong_password_has_the_words_of_the_server(add_database):
    wrapper = add_database(PASSWORD="wrong", TIMEOUT=10)
    with pytest.raises(OperationalError, match="password authentication failed"):
        wrapper.ensure_connection()


def test_a_database_that_is_not_there_is_named(add_database):
    wrapper = add_database(NAME="there_is_none", TIMEOUT=10)
    with pytest.raises(OperationalError, match="there_is_none"):
        wrapper.ensure_connection()


def test_a_session_that_the_server_ended_is_not_lent(one):
    first = pid(one)
    one.close()
    server.terminate(first)
    assert eventually(lambda: first not in server.sessions())
    assert pid(one) not in (None, first)


def test_a_session_that_ends_during_a_loan_is_replaced_after_it(one):
    first = pid(one)
    server.terminate(first)
    assert eventually(lambda: first not in server.sessions())
    with pytest.raises(OperationalError):
        pid(one)
    one.close_if_unusable_or_obsolete()
    assert pid(one) != first


def test_test_on_borrow_runs_its_query(add_database):
    wrapper = add_database(TEST_ON_BORROW=True, TEST_ON_BORROW_QUERY="SELECT set_config('dbpool.tested', 'yes', false)")
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT current_setting('dbpool.tested', true)")
        assert cursor.fetchone() == ("yes",)


def test_health_checks_run_a_query_at_each_loan(add_database):
    wrapper = add_database(CONN_HEALTH_CHECKS=True)
    first = pid(wrapper)
    wrapper.close()
    assert pid(wrapper) == first
    wrapper.close()
    server.terminate(first)
    assert pid(wrapper) != first


def test_a_test_query_that_fails_ends(add_database):
    wrapper = add_database(MAX_CONNS=2, TEST_ON_BORROW=True, TEST_ON_BORROW_QUERY="SELECT no_such_thing()")
    with pytest.raises(Exception, match="no_such_thing"):
        wrapper.ensure_connection()


def test_a_connection_that_the_program_closed_itself_is_replaced(one):
    first = pid(one)
    one.connection.close()
    one.close()
    assert pid(one) != first
    assert eventually(lambda: first not in server.sessions())


def test_a_failure_after_the_loan_gives_it_back(add_database):
    wrapper = add_database(MAX_CONNS=1, TIMEOUT=5, isolation_level=42)
    for _ in range(2):
        with pytest.raises(Exception, match=r"(?i)isolation"):
            wrapper.ensure_connection()
    wrapper.settings_dict["OPTIONS"].pop("isolation_level")
    assert pid(wrapper)


def test_requests_give_their_connection_back(tables):
    from django.core.signals import request_finished, request_started

    request_started.send(sender=None)
    first = pid(connection)
    request_finished.send(sender=None)
    assert connection.connection is None
    assert pid(connection) == first
