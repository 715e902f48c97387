"""Which pool an alias uses, and for how long."""

import contextlib
import logging
import time

import project
import pytest
import server
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError, OperationalError, connections
from django.test import override_settings
from support import Thread, eventually, shown
from test_loans import pid

from dbpool.db.backends import _pools


def test_threads_of_an_alias_share_its_pool(one):
    assert Thread(lambda: connections[one.alias].pool).finish() is one.pool


def test_aliases_have_pools_of_their_own(add_database):
    first, second = add_database(), add_database()
    assert first.pool is not second.pool
    assert pid(first) != pid(second)


@pytest.mark.parametrize(
    ("setting", "value"), [("MAX_CONNS", 3), ("TIMEOUT", 1), ("application_name", "changed"), ("RESET", "discard_all")]
)
def test_changed_options_make_a_new_pool_and_close_the_old(one, setting, value):
    first, old = pid(one), one.pool
    one.close()
    one.settings_dict["OPTIONS"][setting] = value
    assert one.pool is not old
    assert old.closed
    assert pid(one) != first
    assert eventually(lambda: first not in server.sessions())


def test_a_signal_handler_may_use_an_alias_whose_pool_is_being_made(one):
    assert one.pool
    key, logger = _pools._entries[one.alias].key, _pools._entries[one.alias].logger
    found = []

    class Made:
        closed = False

        def close(self):
            self.closed = True

    def make():
        found.append(_pools.entry_for("made", key, Made, logger).pool)  # as a handler that runs now
        return Made()

    entry = Thread(_pools.entry_for, "made", key, make, logger).finish()
    assert _pools._entries.pop("made") is entry
    assert (entry.pool.closed, [pool.closed for pool in found]) == (False, [True])


def test_a_changed_database_makes_a_new_pool(one):
    assert server.query("SELECT 1")
    pid(one)
    one.close()
    one.settings_dict["NAME"] = "postgres"
    with one.cursor() as cursor:
        cursor.execute("SELECT current_database()")
        assert cursor.fetchone() == ("postgres",)


def test_what_is_lent_from_a_replaced_pool_works_until_it_is_given_back(one):
    first, other = pid(one), one.copy()
    one.settings_dict["OPTIONS"]["MAX_CONNS"] = 2
    assert one.pool.stats().opened == 0
    assert pid(one) == first
    one.close()
    assert eventually(lambda: first not in server.sessions())
    assert pid(one) != first
    other.close()


def test_waiting_for_a_pool_that_is_replaced_goes_on_in_the_new_one(one):
    first = pid(one)
    old = one.pool
    waiter = Thread(lambda: pid(connections[one.alias]))
    assert eventually(lambda: old.stats().waiting == 1)
    one.close_pool()
    assert waiter.finish() != first
    one.close()


def test_an_alias_with_several_sets_of_parameters_in_turn_keeps_its_timeout(add_database):
    # Each use closes the pool that the others wait in.
    one = add_database(MAX_CONNS=1, TIMEOUT=1)
    deadline = time.monotonic() + 3

    def use(number):
        wrapper, longest = one.copy(), 0.0
        wrapper.settings_dict["OPTIONS"]["application_name"] = f"tenant {number}"
        while (start := time.monotonic()) < deadline:
            with contextlib.suppress(OperationalError):
                pid(wrapper)
            longest = max(longest, time.monotonic() - start)
            wrapper.close()
        return longest

    threads = [Thread(lambda number=number: use(number)) for number in range(4)]
    assert max(thread.finish() for thread in threads) < 2


def test_close_pool_ends_its_idle_sessions_at_once(one):
    first = pid(one)
    one.close()
    one.close_pool()
    assert eventually(lambda: first not in server.sessions())
    assert pid(one) != first


def test_a_changed_time_zone_makes_a_new_pool(one):
    def zone():
        with one.cursor() as cursor:
            cursor.execute("SHOW TimeZone")
            return cursor.fetchone()[0]

    assert zone() == "UTC"
    with override_settings(USE_TZ=False, TIME_ZONE="Europe/Rome"):
        assert zone() == "Europe/Rome"  # the one that is lent
        one.close()
        assert zone() == "Europe/Rome"
    assert zone() == "UTC"
    one.close()
    assert zone() == "UTC"


def test_work_on_the_server_as_a_whole_does_not_use_the_pool(one):
    before = one.pool.stats().gets
    with one._nodb_cursor() as cursor:
        cursor.execute("SELECT current_database(), pg_backend_pid()")
        database, process = cursor.fetchone()
    assert database == "postgres"
    assert eventually(lambda: process not in server.sessions("postgres"))
    assert one.pool.stats().gets == before


def test_the_logger_is_named_after_the_engine_and_says_no_password(add_database, caplog):
    caplog.set_level(logging.DEBUG, logger="dbpool")
    wrapper = add_database(MAX_CONNS=3, MIN_CONNS=0, PASSWORD=project.database()["PASSWORD"])
    wrapper.ensure_connection()
    wrapper.close()
    wrapper.close_pool()
    lines = [record for record in caplog.records if record.name == project.ENGINE + ".base"]
    assert [record.levelname for record in lines] == ["INFO", "INFO"]
    assert f"Creating connection pool for db alias {wrapper.alias}" in lines[0].getMessage()
    assert "MIN_CONNS = 0, MAX_CONNS = 3" in lines[0].getMessage()
    assert f"Closing connection pool for db alias {wrapper.alias}" in lines[1].getMessage()
    password = wrapper.settings_dict["PASSWORD"]
    assert password
    assert password not in caplog.text + repr(wrapper.pool)


CANARY = "canary-62d0"


@pytest.mark.parametrize(
    "wrong",
    [
        {"PASSWORD": CANARY, "TIMEOUT": 10},  # refused
        {"PORT": "1", "TIMEOUT": 0.3},
        {"HOST": "no.such.host.invalid", "TIMEOUT": 0.3},
        {"unknown_to_the_driver": 1},
        {"UNKNOWN_TO_US": 1},
        {"MAX_CONNS": "x"},
        {"CONN_MAX_AGE": 3},
        {"MAX_LIFETIME": -1},
    ],
    ids=str,
)
def test_no_variable_of_a_failed_connect_shows_the_password(add_database, wrong):
    wrapper = add_database(**{"PASSWORD": CANARY, **wrong})
    with pytest.raises((DatabaseError, ImproperlyConfigured)) as caught:
        wrapper.ensure_connection()
    assert CANARY not in shown(caught.value, __file__)


def test_no_variable_of_a_timeout_shows_the_password(add_database):
    password = project.database()["PASSWORD"]
    wrapper = add_database(MAX_CONNS=1, TIMEOUT=0.1, PASSWORD=password)
    wrapper.ensure_connection()
    with pytest.raises(OperationalError) as caught:
        wrapper.copy().ensure_connection()
    assert password not in shown(caught.value, __file__)
    wrapper.close()
