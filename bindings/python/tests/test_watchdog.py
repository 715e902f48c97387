"""What asks the server at a getconn or a putconn ends in time, also when no answer comes."""

from __future__ import annotations

import contextlib
import os
import socket
import time

import pytest
from drivers import driver_pool, pid, value
from silence import Proxy, frozen, within
from support import eventually, run_program, under

import dbpool
from dbpool import _watchdog
from dbpool._watchdog import Limit


@pytest.fixture
def pair():
    ours, theirs = socket.socketpair()
    yield ours, theirs
    ours.close()
    theirs.close()


def is_shut_down(theirs):
    theirs.settimeout(0)
    try:
        return theirs.recv(1) == b""
    except BlockingIOError:
        return False


def test_a_socket_is_shut_down_at_its_deadline(pair):
    ours, theirs = pair
    limit = Limit(ours, 0.1)
    limit.start()
    theirs.settimeout(5)
    start = time.monotonic()
    assert theirs.recv(1) == b""
    assert 0.09 < time.monotonic() - start < 1
    assert not limit.stop()


def test_what_ends_in_time_is_left_alone(pair):
    ours, theirs = pair
    limits = [Limit(ours, 0.02 * number) for number in (5, 1, 3)]
    for limit in limits:
        limit.start()
        limit.start()
        assert limit.stop()
    time.sleep(0.2)
    assert not is_shut_down(theirs)
    assert not _watchdog._watched


def test_an_earlier_deadline_wakes_it(pair):
    with Limit(pair[0], 60):
        time.sleep(0.05)
        ours, theirs = socket.socketpair()
        with ours, theirs, Limit(ours, 0.05):
            assert eventually(lambda: is_shut_down(theirs), 2)
    assert not is_shut_down(pair[1])


def test_another_socket_with_the_same_number_is_left_alone():
    ours, theirs = socket.socketpair()
    number = ours.fileno()
    limit = Limit(ours, 0.1)
    limit.start()
    ours.close()
    theirs.close()
    ours, theirs = socket.socketpair()
    with ours, theirs:
        if ours.fileno() != number:
            os.dup2(ours.fileno(), number)
        assert eventually(lambda: not _watchdog._watched)
        time.sleep(0.05)
        assert not is_shut_down(theirs)
        if ours.fileno() != number:
            os.close(number)


def test_a_closed_connection_needs_no_limit():
    ours, theirs = socket.socketpair()
    ours.close()
    theirs.close()
    with Limit(ours, 1):
        assert not _watchdog._watched


# ------------------------------------------------------------------------------------------------------------ the pools


@pytest.fixture(params=["psycopg2", "psycopg"])
def kind(request):
    return driver_pool(request.param)


@pytest.fixture
def make(kind):
    pools = []

    def make(kwargs=None, **options):
        pools.append(kind(kwargs or {}, **{"max_size": 2, "timeout": 5, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


def test_a_check_without_an_answer_leaves_time_for_another_connection(make):
    pool = make(test_query="select 1")
    loans = [pool.getconn() for _ in range(2)]
    last = pid(loans[1])
    for connection in loans:
        pool.putconn(connection)
    with frozen(last):
        with within(0.6):
            connection = pool.getconn(1.2)
        assert pid(connection) != last
        pool.putconn(connection)
    assert eventually(lambda: pool.stats().total == 1)


def test_checks_without_an_answer_end_with_the_timeout(make):
    timeout = 0.4
    pool = make(test_query="select 1")
    loans = [pool.getconn() for _ in range(2)]
    pids = [pid(connection) for connection in loans]
    for connection in loans:
        pool.putconn(connection)
    proxy = Proxy()
    try:
        with frozen(*pids), contextlib.suppress(dbpool.Error), within(timeout):
            pool.putconn(pool.getconn(timeout))
        dark = make({"host": "127.0.0.1", "port": proxy.port}, test_query="select 1")
        dark.putconn(dark.getconn())
        proxy.dark = True
        with within(timeout), pytest.raises((dbpool.ConnectError, dbpool.PoolTimeout)):
            dark.getconn(timeout)
    finally:
        proxy.close()


LEFT = {
    "a transaction": ({}, "begin"),
    "a named cursor": ({}, "cursor"),
    "a reset": ({"reset": "discard_all"}, "nothing"),
}


@pytest.mark.parametrize("left", LEFT)
def test_a_reset_without_an_answer_ends_and_the_slot_comes_back(make, left):
    options, what = LEFT[left]
    pool = make(max_size=1, timeout=1, **options)
    pool._reset_seconds = 0.3
    connection = pool.getconn()
    if what == "cursor":
        connection.autocommit = True
        value(connection, "declare c cursor with hold for select 1")
        connection._session.has_named_cursor = True
    else:
        connection.autocommit = what == "nothing"
        value(connection, "select 1")
    with frozen(pid(connection)), within(0.3):
        pool.putconn(connection)
    assert eventually(lambda: pool.stats().total == 0)
    pool.putconn(pool.getconn(5))


def test_a_reset_has_the_time_of_a_getconn_but_five_seconds_at_most(make):
    found = [make(timeout=timeout)._reset_seconds for timeout in (0, None, 0.2, 3, 60)]
    assert found == [5, 5, 1, 3, 5]


def test_psycopg2_pool_ends_a_rollback(monkeypatch):
    pytest.importorskip("psycopg2")
    from dbpool import psycopg2_pool

    monkeypatch.setattr(psycopg2_pool, "_ROLLBACK_SECONDS", 0.3)
    pool = psycopg2_pool.ThreadedConnectionPool(0, 1, "", timeout=5)
    conn = pool.getconn()
    value(conn, "select 1")
    with frozen(pid(conn)), within(0.3):
        pool.putconn(conn)
    assert conn.closed
    pool.putconn(pool.getconn())
    pool.closeall()


def fill(connection):
    """Leaves no room for what a close sends."""
    copy = socket.socket(fileno=os.dup(connection.fileno()))
    copy.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    with copy, contextlib.suppress(BlockingIOError):
        while True:
            copy.send(b"\0" * 4096, socket.MSG_DONTWAIT)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg", "psycopg2_pool"])
def test_closing_ends_when_there_is_no_room_for_the_last_words(driver):
    pytest.importorskip(driver.partition("_")[0])
    if driver == "psycopg2_pool":
        from dbpool.psycopg2_pool import ThreadedConnectionPool

        pool = ThreadedConnectionPool(0, 1, "host=127.0.0.1 sslmode=disable")
    else:
        pool = driver_pool(driver)({"host": "127.0.0.1", "sslmode": "disable"})
    connection = pool.getconn()
    with frozen(pid(connection)):
        fill(connection)
        with within(0.25):
            if driver == "psycopg2_pool":
                pool.putconn(connection, close=True)
            else:
                pool.discard(connection)
    pool.closeall() if driver == "psycopg2_pool" else pool.close()


GREENLETS = """
import os, signal, time
import dbpool
from drivers import driver_pool, pid, value
from silence import frozen, within
from support import eventually

pool = driver_pool({driver!r})({{}}, max_size=1, timeout=1, test_query="select 1")
pool._reset_seconds = 0.2
connection = pool.getconn()
value(connection, "select 1")
with frozen(pid(connection)), within(0.2):
    result(spawn(pool.putconn, connection))
connection = pool.getconn(5)
number = pid(connection)
pool.putconn(connection)

def refused():
    try:
        pool.getconn(0.3)
    except dbpool.Error as error:
        return error

with frozen(number), within(0.3):
    assert result(spawn(refused)) is not None
connection = pool.getconn(5)
assert value(connection, "select 1") == 1
pool.putconn(connection)
pool.close()
"""


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_under_greenlets(driver, kind):
    driver_pool(driver)
    run_program(under(kind) + GREENLETS.format(driver=driver))


FORK = """
import os, signal, warnings
from drivers import driver_pool, pid, value
from silence import frozen, within
warnings.filterwarnings("ignore", "This process", DeprecationWarning)
pool = driver_pool({driver!r})({{}}, max_size=1, timeout=1)
pool._reset_seconds = 0.2

def borrow_and_freeze():
    connection = pool.getconn(5)
    value(connection, "select 1")
    with frozen(pid(connection)), within(0.2):
        pool.putconn(connection)

borrow_and_freeze()
child = os.fork()
if child == 0:
    signal.alarm(10)
    code = 1
    try:
        borrow_and_freeze()
        code = 0
    finally:
        os._exit(code)
assert os.waitpid(child, 0)[1] == 0
"""


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_in_a_forked_child(driver):
    driver_pool(driver)
    run_program(FORK.format(driver=driver))
