"""HostedPool, with a driver whose connections are socket pairs."""

from __future__ import annotations

import gc
import logging
import math
import threading
import time
import weakref

import pytest
from drivers import DriverError, ScriptedDriver, Socket
from support import Thread, eventually

import dbpool
from dbpool import _hosted, _lib, _opening
from dbpool._hosted import HostedPool


@pytest.fixture
def driver():
    return ScriptedDriver()


@pytest.fixture
def make(driver):
    pools = []

    def make(**options):
        pools.append(HostedPool(driver, **{"max_size": 2, "acquire_timeout": 5, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def failing(message="the server is tired", sqlstate=None):
    error = DriverError(message)
    error.sqlstate = sqlstate
    return error


def test_the_object_that_was_released_is_lent_again(make, driver):
    pool = make()
    token, connection = pool.acquire()
    pool.release(token, connection)
    token, again = pool.acquire()
    assert again is connection
    assert len(driver.opened) == 1
    pool.release(token, again)
    assert pool.stats().idle == 1


def test_no_more_than_max_size_are_open(make, driver):
    pool = make(acquire_timeout=0.05)
    loans = [pool.acquire(), pool.acquire()]
    with pytest.raises(dbpool.PoolTimeout):
        pool.acquire()
    with pytest.raises(dbpool.PoolTimeout):
        pool.acquire(0)
    for loan in loans:
        pool.release(*loan)
    assert len(driver.opened) == 2
    assert pool.stats().timeouts == 2


def test_who_waits_gets_what_is_released(make):
    pool = make(max_size=1)
    loan = pool.acquire()
    waiter = Thread(pool.acquire, math.inf)
    assert eventually(lambda: pool.stats().waiting == 1)
    pool.release(*loan)
    token, connection = waiter.finish()
    assert connection is loan[1]
    pool.release(token, connection)
    assert pool.stats().timeouts == 0


def test_a_second_release_is_refused_and_harms_nobody(make):
    pool = make(max_size=1)
    loan = pool.acquire()
    pool.release(*loan)
    for give_back in (pool.release, pool.discard):
        with pytest.raises(dbpool.NotLeased):
            give_back(*loan)
    again = pool.acquire()
    with pytest.raises(dbpool.NotLeased):
        pool.release(*loan)
    assert pool.stats().in_use == 1
    pool.release(*again)


def test_a_discarded_object_is_closed_and_replaced(make, driver):
    pool = make(max_size=1)
    token, connection = pool.acquire()
    pool.discard(token, connection)
    assert driver.closed == [connection]
    token, other = pool.acquire()
    assert other is not connection
    pool.release(token, other)


def test_a_loan_that_is_dropped_ends_and_is_logged_once(make, caplog):
    pool = make(max_size=1, name="shop")
    loan = pool.acquire()
    del loan
    assert eventually(lambda: pool.stats().in_use == 0)
    with caplog.at_level(logging.WARNING, "dbpool.pool"):
        pool.release(*pool.acquire())
        pool.release(*pool.acquire())
    assert [record.getMessage() for record in caplog.records] == [
        "pool 'shop': a connection was dropped, not given back"
    ]


def test_garbage_in_a_cycle_is_found_before_a_wait_fails(make, driver, monkeypatch):
    monkeypatch.setattr(_hosted, "_next_look", 0)
    pool = make(max_size=1)
    gc.disable()
    try:
        cycle = [pool.acquire()]
        cycle.append(cycle)
        del cycle
        driver.opened.clear()
        pool.release(*pool.acquire(0.2))
    finally:
        gc.enable()


def test_a_wait_is_made_longer_once_at_most(make, monkeypatch):
    pool = make(max_size=1)
    loan = pool.acquire()
    monkeypatch.setattr(_hosted, "_collect_garbage", lambda: pool.reports.append("found"))
    start = time.monotonic()
    with pytest.raises(dbpool.PoolTimeout):
        pool.acquire(0.1)
    assert 0.25 < time.monotonic() - start < 0.6
    pool.release(*loan)
    assert pool.stats().timeouts == 1


def test_a_wait_without_end_goes_on_after_a_look_for_garbage(make, monkeypatch):
    monkeypatch.setattr(_hosted, "_LOOK_AFTER_MS", 20)
    looks = []
    monkeypatch.setattr(_hosted, "_collect_garbage", lambda: looks.append(1))
    pool = make(max_size=1)
    loan = pool.acquire()
    waiter = Thread(pool.acquire, math.inf)
    assert eventually(lambda: len(looks) > 2)
    pool.release(*loan)
    pool.release(*waiter.finish())


# ------------------------------------------------------------------------------------------------------------- opening


def test_a_failed_connect_is_tried_again_until_the_deadline(make, driver):
    pool = make()
    driver.failures = [failing(), failing()]
    token, connection = pool.acquire(5)
    pool.release(token, connection)
    assert driver.seconds == [None] * 3


def test_a_connect_in_the_borrowers_thread_is_told_how_much_time_is_left(make, driver, monkeypatch):
    monkeypatch.setattr(_opening, "is_possible", lambda: False)
    pool = make()
    driver.failures = [failing(), failing()]
    pool.release(*pool.acquire(5))
    assert 5 >= driver.seconds[0] > driver.seconds[1] > driver.seconds[2] > 0


def test_what_is_connected_after_the_deadline_goes_to_the_pool(make, driver):
    pool = make(max_size=1)
    go_on = threading.Event()
    connect = driver.connect

    def late(seconds):
        go_on.wait(10)
        return connect(seconds)

    driver.connect = late
    for timeout in (0.1, 0.05):
        start = time.monotonic()
        with pytest.raises(dbpool.Error):
            pool.acquire(timeout)
        assert time.monotonic() - start < 0.8
    assert pool.stats().connecting == 1
    go_on.set()
    token, connection = pool.acquire(5)
    assert driver.fed == driver.opened == [connection]
    pool.release(token, connection)


def test_what_fails_after_the_deadline_gives_its_slot_back(make, driver):
    pool = make(max_size=1)
    go_on = threading.Event()

    def late(_):
        go_on.wait(10)
        raise failing("too tired", "53300")

    connect, driver.connect = driver.connect, late
    with pytest.raises(dbpool.ConnectError, match="connecting takes longer"):
        pool.acquire(0.05)
    go_on.set()
    assert eventually(lambda: pool.stats().connecting == 0)
    assert pool.stats().connect_failures == 1
    driver.connect = connect
    pool.release(*pool.acquire(5))


def test_where_there_is_no_thread_the_borrower_connects(make, driver, monkeypatch):
    def refuse(*_):
        raise RuntimeError("can't start new thread")

    pool = make()
    monkeypatch.setattr(
        _opening, "original", lambda module, name: {"start_new_thread": refuse}.get(name, threading.Lock)
    )
    pool.release(*pool.acquire())
    assert driver.seconds[0] > 0


def test_at_the_deadline_the_drivers_own_error_is_raised(make, driver):
    pool = make()
    driver.failures = [failing(f"attempt {number}") for number in range(100)]
    start = time.monotonic()
    with pytest.raises(DriverError, match="attempt"):
        pool.acquire(0.5)
    assert time.monotonic() - start < 0.8
    assert pool.stats().in_use == 0


@pytest.mark.parametrize("sqlstate", ["28P01", "28000", "3D000", "0A000"])
def test_what_will_not_go_away_is_raised_at_once(make, driver, sqlstate):
    pool = make()
    error = failing("no such role", sqlstate)
    driver.failures = [error]
    with pytest.raises(DriverError) as caught:
        pool.acquire(5)
    assert caught.value is error
    assert len(driver.seconds) == 1


def test_an_error_of_another_kind_is_raised_at_once(make, driver):
    pool = make()
    driver.failures = [ZeroDivisionError("of configure")]
    with pytest.raises(ZeroDivisionError):
        pool.acquire(5)
    assert pool.stats().in_use == pool.stats().connecting == 0


def test_a_try_without_a_timeout_still_opens(make, driver):
    pool = make(acquire_timeout=0)
    pool.release(*pool.acquire())
    assert driver.seconds == [None]
    driver.failures = [failing()]
    pool.reconnect()
    with pytest.raises(DriverError):
        pool.acquire()


# Its empty text was once handed to the library as it is.
def test_an_error_without_words_is_an_error_too(make, driver):
    pool = make()
    driver.failures = [failing("")]
    pool.release(*pool.acquire())


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, GeneratorExit])
def test_an_interrupted_connect_gives_the_slot_back(make, driver, error):
    pool = make(max_size=1)
    driver.failures = [error()]
    with pytest.raises(error):
        pool.acquire()
    pool.release(*pool.acquire())
    assert not pool.reports


def test_an_interrupted_adoption_closes_the_object(make, driver):
    pool = make(max_size=1)

    def interrupt(_connection):
        del driver.fileno
        raise KeyboardInterrupt

    driver.fileno = interrupt
    with pytest.raises(KeyboardInterrupt):
        pool.acquire()
    assert driver.closed == driver.opened
    pool.release(*pool.acquire())


def test_an_object_without_a_socket_is_closed_and_the_error_raised(make, driver):
    pool = make(max_size=1)
    driver.fileno = lambda _connection: 10_000
    with pytest.raises(dbpool.InvalidArgument):
        pool.acquire(1)
    assert driver.closed == driver.opened
    del driver.fileno
    pool.release(*pool.acquire())


def test_others_who_wait_are_told_why_nothing_opens(make, driver):
    pool = make(max_size=1, acquire_timeout=0.5)
    entered, proceed = threading.Event(), threading.Event()

    def connect(_seconds):
        entered.set()
        proceed.wait(5)
        raise failing("no route to host", "28000")

    driver.connect = connect
    first = Thread(pool.acquire)
    assert entered.wait(5)
    second = Thread(pool.acquire)
    assert eventually(lambda: pool.stats().waiting == 1)
    proceed.set()
    with pytest.raises(DriverError):
        first.finish()
    with pytest.raises((dbpool.ConnectError, DriverError), match="no route to host"):
        second.finish()


# -------------------------------------------------------------------------------------------------------- leaving


def test_a_lost_idle_object_is_closed_and_not_lent(make, driver):
    pool = make(max_size=1)
    pool.release(*pool.acquire())
    driver.opened[0].server.close()
    assert eventually(lambda: driver.closed == driver.opened[:1])
    token, connection = pool.acquire()
    assert connection is driver.opened[1]
    pool.release(token, connection)


def test_who_waits_when_every_idle_object_is_lost_is_served_without_a_put(make, driver):
    pool = make(max_size=2)
    loans = [pool.acquire(), pool.acquire()]
    waiters = [Thread(pool.acquire) for _ in range(2)]
    assert eventually(lambda: pool.stats().waiting == 2)
    for token, connection in loans:
        connection.server.close()
        pool.discard(token, connection)
    for waiter in waiters:
        pool.release(*waiter.finish())


@pytest.mark.parametrize("timeout", [5, 0])
def test_a_session_that_is_replaced_counts_until_the_server_has_ended_it(make, driver, monkeypatch, timeout):
    pool = make(max_size=1)
    pool.release(*pool.acquire())
    old = driver.opened[0]
    monkeypatch.setattr(old, "close", old.ours.close)  # the server's end stays open
    monkeypatch.setattr(pool, "collect", lambda: 0)  # the borrower is first
    monkeypatch.setattr(_hosted, "_CLOSING_MS", 5000)
    sessions = []
    monkeypatch.setattr(driver, "connect", lambda _: sessions.append(old.server.fileno()) or Socket())
    _lib.reconnect(pool.handle)
    borrower = Thread(pool.acquire, timeout)
    assert eventually(lambda: driver.closed == [old])
    time.sleep(0.1)
    assert sessions == []
    old.server.close()
    token, connection = borrower.finish()
    assert sessions == [-1]
    assert pool.stats().connect_failures == 0
    pool.release(token, connection)


# At the beginning of an outage all come back at once, before anybody has heard of it.
@pytest.mark.parametrize(("are_lost", "at_a_time"), [(True, 1), (False, 2)])
def test_when_sessions_were_lost_one_connects_at_a_time(make, driver, are_lost, at_a_time):
    pool = make(max_size=2)
    proceed, connect = threading.Event(), driver.connect
    loans = [pool.acquire(), pool.acquire()]
    driver.connect = lambda seconds: connect(seconds) if proceed.wait(10) else None
    for token, connection in loans:
        driver.lost += [connection] * are_lost
        pool.discard(token, connection)
    borrowers = [Thread(pool.acquire) for _ in range(2)]
    assert eventually(lambda: (pool.stats().connecting, pool.stats().waiting) == (at_a_time, 2 - at_a_time))
    proceed.set()
    for borrower in borrowers:
        pool.release(*borrower.finish())


def test_idle_objects_above_min_size_are_closed_in_time(make, driver):
    pool = make(idle_timeout=0.1, min_size=1)
    loans = [pool.acquire(), pool.acquire()]
    for loan in loans:
        pool.release(*loan)
    assert eventually(lambda: len(driver.closed) == 1)
    assert pool.stats().idle == 1


def test_reconnect_and_resize_close_idle_objects_at_once_and_lent_ones_when_released(make, driver):
    pool = make()
    lent, idle = pool.acquire(), pool.acquire()
    pool.release(*idle)
    pool.reconnect()
    assert driver.closed == [idle[1]]
    pool.release(*lent)
    assert driver.closed == [idle[1], lent[1]]
    loans = [pool.acquire(), pool.acquire()]
    for loan in loans:
        pool.release(*loan)
    pool.resize(0, 1)
    assert eventually(lambda: len(driver.closed) == 3)


def test_drain_waits_for_the_loans_and_pause_keeps_others_waiting(make, driver):
    pool = make()
    loan = pool.acquire()
    drain = Thread(pool.drain, 5)
    assert eventually(lambda: pool.stats().paused)
    with pytest.raises(dbpool.PoolPaused):
        pool.acquire(0.05)
    pool.release(*loan)
    drain.finish()
    assert driver.closed == [loan[1]]
    pool.resume()
    pool.release(*pool.acquire())


def test_a_closed_pool_closes_idle_objects_now_and_lent_ones_later(make, driver):
    pool = make(max_size=3)
    lent, other, idle = (pool.acquire() for _ in range(3))
    pool.release(*idle)
    pool.pause()
    waiter = Thread(pool.acquire)
    assert eventually(lambda: pool.stats().waiting == 1)
    pool.close()
    with pytest.raises(dbpool.PoolClosed):
        waiter.finish()
    assert idle[1].is_closed
    assert not lent[1].is_closed
    pool.release(*lent)
    pool.discard(*other)
    assert lent[1].is_closed
    assert other[1].is_closed
    for call in (pool.acquire, pool.stats):
        with pytest.raises(dbpool.PoolClosed):
            call()
    pool.close()
    assert pool.closed


def test_a_pool_that_is_garbage_is_closed(driver):
    pool = HostedPool(driver, max_size=2)
    lent, idle = pool.acquire(), pool.acquire()
    pool.release(*idle)
    reference = weakref.ref(pool)
    del pool
    gc.collect()
    assert reference() is None
    assert idle[1].is_closed
    assert not lent[1].is_closed


def test_there_is_one_collecting_thread_for_all_pools(make, driver):
    before = threading.active_count()
    pools = [make() for _ in range(3)]
    for pool in pools:
        pool.release(*pool.acquire())
    assert threading.active_count() == before  # it is none of the threading module's


# ----------------------------------------------------------------------------------------------------- looking at it


def test_a_repr_shows_the_counts(make):
    pool = make(name="shop")
    assert repr(pool) == "<dbpool.HostedPool 'shop' idle=0 in_use=0 waiting=0 total=0 max=2>"
    pool.close()
    assert repr(pool) == "<dbpool.HostedPool 'shop' closed>"


def test_a_pool_is_not_copied(make):
    import copy
    import pickle

    for call in (copy.copy, pickle.dumps):
        with pytest.raises(TypeError, match="copied"):
            call(make())


@pytest.mark.parametrize("options", [{"max_size": 0}, {"min_size": 3}, {"queue_mode": "x"}, {"max_size": 1 << 40}])
def test_wrong_options_are_refused(driver, options):
    with pytest.raises(dbpool.InvalidArgument, match=next(iter(options))):
        HostedPool(driver, **{"max_size": 2, **options})


def test_threads_that_borrow_and_release_never_share(make, driver):
    pool = make(max_size=3)
    busy, ended = set(), []

    def work():
        for _ in range(300):
            token, connection = pool.acquire()
            assert connection not in busy
            busy.add(connection)
            busy.discard(connection)
            pool.release(token, connection)
        ended.append(1)

    threads = [Thread(work) for _ in range(8)]
    for thread in threads:
        thread.finish(30)
    assert len(ended) == 8
    assert len(driver.opened) <= 3
    now = pool.stats()
    assert (now.in_use, now.waiting, now.internal_errors) == (0, 0, 0)
