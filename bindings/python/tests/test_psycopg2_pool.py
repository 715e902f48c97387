"""The drop-in for psycopg2.pool: each of these tests runs on the original and on ours, beside a native pool."""

from __future__ import annotations

import contextlib
import importlib
import inspect
import socket
import sys
import threading
import time

import pytest
from support import Thread, backend_pid, eventually, query

import dbpool

psycopg2 = pytest.importorskip("psycopg2")
from psycopg2 import extensions, extras  # noqa: E402
from psycopg2.pool import PoolError  # noqa: E402

ORIGINAL, OURS = "psycopg2.pool", "dbpool.psycopg2_pool"
KINDS = ("SimpleConnectionPool", "ThreadedConnectionPool")


class Connection(extensions.connection):
    """A user's own class."""


@pytest.fixture(scope="module", autouse=True)
def native_pool():
    """A pool of libpq connections in the same process: its session outlives all of these tests."""
    with dbpool.Pool(min_size=1, max_size=1) as pool:
        pool.wait(10)
        with pool.connection() as conn:
            before = backend_pid(conn)
        yield pool
        with pool.connection() as conn:
            assert (backend_pid(conn), query(conn, "select 6 * 7")) == (before, "42")


@pytest.fixture(params=[ORIGINAL, OURS], ids=["original", "ours"])
def module(request):
    return importlib.import_module(request.param)


@pytest.fixture
def make(module, request):
    """Makes pools, and closes them after the test."""
    pools = []

    def make(minconn, maxconn, *args, kind="ThreadedConnectionPool", **kwargs):
        factory = kind if inspect.isclass(kind) else getattr(module, kind)
        pools.append(factory(minconn, maxconn, *(args or ("",)), **kwargs))
        return pools[-1]

    yield make
    for pool in pools:
        if not pool.closed:
            pool.closeall()


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def value(conn, sql):
    with conn.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def terminate(*conns):
    """Ends their sessions from outside."""
    with dbpool.Pool(max_size=1) as killer, killer.connection() as by:
        pids = ", ".join(str(conn.info.backend_pid) for conn in conns)
        query(by, f"select pg_terminate_backend(pid) from unnest(array[{pids}]) pid")
        living = f"select count(*) from pg_stat_activity where pid in ({pids})"
        assert eventually(lambda: query(by, living) == "0")


def closed_port():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        return unused.getsockname()[1]


# --------------------------------------------------------------------------------------------------- the interface


@pytest.mark.parametrize("name", ["AbstractConnectionPool", *KINDS])
def test_signatures_are_those_of_the_original_with_optional_arguments_behind(name):
    original, ours = (getattr(importlib.import_module(module), name) for module in (ORIGINAL, OURS))
    for method in ("__init__", "getconn", "putconn", "closeall", "_connect", "_getconn", "_putconn", "_closeall"):
        assert hasattr(ours, method) == hasattr(original, method)
        if not hasattr(original, method):
            continue
        wanted = dict(inspect.signature(getattr(original, method)).parameters)
        found = dict(inspect.signature(getattr(ours, method)).parameters)
        assert [n for n in found if n in wanted] == list(wanted)
        for parameter in wanted.values():
            assert found[parameter.name].kind == parameter.kind
            assert parameter.default in (parameter.empty, found[parameter.name].default)
        extra = [found[n] for n in found if n not in wanted]
        assert all(parameter.default is not parameter.empty for parameter in extra)


def test_the_classes_derive_from_the_abstract_one_and_the_error_is_psycopg2s(module, kind):
    assert issubclass(getattr(module, kind), module.AbstractConnectionPool)
    assert module.PoolError is PoolError
    assert issubclass(PoolError, psycopg2.Error)


def test_minconn_connections_are_open_at_once(make, kind):
    pool = make(3, 5, kind=kind)
    assert len(pool._pool) == 3
    assert {value(conn, "select 42") for conn in pool._pool} == {42}
    assert len({conn.info.backend_pid for conn in pool._pool}) == 3
    assert (pool._used, pool._rused) == ({}, {})


def test_attributes_are_readable(make, kind):
    pool = make("1", 2.0, kind=kind)
    assert (pool.minconn, pool.maxconn, pool.closed) == (1, 2, False)
    first, second = pool.getconn(), pool.getconn("key")
    assert set(map(id, pool._used.values())) == {id(first), id(second)}
    assert pool._used["key"] is second
    assert pool._rused[id(second)] == "key"
    assert pool._used[pool._rused[id(first)]] is first
    assert (len(pool._used), len(pool._rused), pool._pool) == (2, 2, [])
    pool.putconn(second)
    pool.putconn(first)
    assert (pool._used, pool._rused) == ({}, {})
    assert second in pool._pool
    pool.closeall()
    assert pool.closed is True
    assert isinstance(pool.closed, bool)


def test_minconn_and_maxconn_are_numbers(module, kind):
    with pytest.raises(ValueError, match="invalid literal"):
        getattr(module, kind)("many", 2, "")
    with pytest.raises(TypeError):
        getattr(module, kind)(None, 2, "")


def test_arguments_go_to_connect_as_they_are(make, kind):
    pool = make(
        1,
        2,
        "dbname=none application_name=shop",
        kind=kind,
        dbname=value(make(1, 1).getconn(), "select current_database()"),
        connection_factory=Connection,
        cursor_factory=extras.DictCursor,
    )
    for conn in (pool.getconn(), pool.getconn()):
        assert type(conn) is Connection
        assert conn.get_dsn_parameters()["application_name"] == "shop"
        with conn.cursor() as cursor:
            cursor.execute("select 1 as one")
            assert cursor.fetchone()["one"] == 1


def test_without_a_class_of_the_user_connections_are_psycopg2s_own(make):
    assert type(make(1, 1).getconn()) is extensions.connection


def test_all_arguments_may_be_keywords(module, kind):
    pool = getattr(module, kind)(minconn=1, maxconn=2, dsn="")
    assert value(pool.getconn(key=None), "select 1") == 1
    pool.closeall()


def test_a_missing_server_is_the_drivers_error(make, kind):
    for arguments in (("host=127.0.0.1", {"port": closed_port()}), ("dbname=there_is_none", {})):
        with pytest.raises(psycopg2.OperationalError) as caught:
            make(1, 2, arguments[0], kind=kind, **arguments[1])
        assert type(caught.value) is psycopg2.OperationalError
    with pytest.raises(psycopg2.ProgrammingError, match="no_such_option"):
        make(1, 2, kind=kind, no_such_option=1)


@pytest.mark.parametrize("where", [{"host": "127.0.0.1"}, {"dbname": "there_is_none"}])
def test_a_failed_connect_is_the_drivers_error_and_takes_no_place(make, kind, where):
    if "host" in where:
        where = {**where, "port": closed_port()}
    pool = make(0, 1, kind=kind, **where)
    for _ in range(3):
        with pytest.raises(psycopg2.OperationalError, match=r"refused|there_is_none"):
            pool.getconn()
    assert (pool._pool, pool._used) == ([], {})


# ------------------------------------------------------------------------------------------------ getconn, putconn


def test_getconn_lends_an_idle_connection_and_the_last_one_put_first(make, kind):
    pool = make(2, 2, kind=kind)
    first, second = pool.getconn(), pool.getconn()
    assert first is not second
    assert first.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
    pool.putconn(first)
    pool.putconn(second)
    assert pool.getconn() is second
    assert pool.getconn() is first


def test_exhausted_is_an_error_at_once_and_ends_with_a_put(make, kind):
    pool = make(1, 2, kind=kind)
    first, _second = pool.getconn(), pool.getconn()
    start = time.monotonic()
    with pytest.raises(PoolError, match=r"^connection pool exhausted$"):
        pool.getconn()
    assert time.monotonic() - start < 0.1
    pool.putconn(first)
    assert pool.getconn() is first


def test_a_connection_that_is_not_lent_is_refused_and_stays_as_it_is(make, kind):
    pool, other = make(1, 2, kind=kind), make(1, 2, kind=kind)
    conn, foreign = pool.getconn(), other.getconn()
    pool.putconn(conn)
    for wrong in (conn, foreign, None, "text"):
        with pytest.raises(PoolError, match=r"^trying to put unkeyed connection$"):
            pool.putconn(wrong)
    assert not conn.closed
    assert not foreign.closed
    assert pool._pool == [conn]
    assert other._rused.keys() == {id(foreign)}
    if kind == "ThreadedConnectionPool":
        with pytest.raises(PoolError, match=r"^trying to put unkeyed connection$"):
            pool.putconn()


def test_the_same_key_gives_the_same_connection(make, kind):
    pool = make(1, 2, kind=kind)
    first = pool.getconn("a")
    assert pool.getconn("a") is first
    assert pool.getconn(key="a") is first
    other = pool.getconn(threading.get_ident())
    assert other is not first
    with pytest.raises(PoolError, match="exhausted"):
        pool.getconn("b")
    with pytest.raises(PoolError, match="exhausted"):
        pool.getconn()
    pool.putconn(first, "a")
    assert pool.getconn(("b", 1)) is first
    pool.putconn(first)
    pool.putconn(other, key=threading.get_ident())
    assert pool._used == {}
    with pytest.raises(PoolError, match=r"^trying to put unkeyed connection$"):
        pool.putconn(first)


def test_a_key_is_free_after_a_put(make, kind):
    pool = make(2, 3, kind=kind)
    first = pool.getconn("a")
    pool.putconn(first)
    assert pool.getconn() is first
    second = pool.getconn("a")
    assert second is not first
    pool.putconn(second, "a")
    pool.putconn(first)


def test_keys_are_hashable_and_a_wrong_one_is_a_key_error(make, kind):
    pool = make(1, 2, kind=kind)
    with pytest.raises(TypeError, match="unhashable"):
        pool.getconn([])
    conn = pool.getconn("a")
    with pytest.raises(KeyError):
        pool.putconn(conn, "b")


def test_of_two_threads_that_put_the_same_connection_one_is_refused_and_no_place_is_lost(make, module):
    pool = make(0, 2, kind="ThreadedConnectionPool")
    interval = sys.getswitchinterval()

    def put(conn):
        try:
            pool.putconn(conn)
        except module.PoolError:
            return False
        return True

    def use():
        gets = puts = 0
        for turn in range(50):
            try:
                conn = pool.getconn()
            except module.PoolError:
                continue
            if turn % 2:
                conn.cursor().execute("select 1")  # to be rolled back
            gets += 1
            puts += sum(thread.finish() for thread in [Thread(put, conn), Thread(put, conn)])
        return gets - puts

    sys.setswitchinterval(1e-5)
    try:
        # A late put may end the next loan of the same connection, whose borrower is then refused twice.
        assert sum(thread.finish() for thread in [Thread(use) for _ in range(3)]) == 0
    finally:
        sys.setswitchinterval(interval)
    conns = [pool.getconn(), pool.getconn()]
    for conn in conns:
        pool.putconn(conn)


def test_closed_connections_are_replaced(make, kind):
    pool = make(1, 1, kind=kind)
    for close in (lambda conn: conn.close(), lambda conn: None) * 5:
        conn = pool.getconn()
        close(conn)
        pool.putconn(conn, close=not conn.closed)
        assert conn.closed
        assert value(pool.getconn("again"), "select 1") == 1
        pool.putconn(pool.getconn("again"))


def test_a_transaction_left_open_is_rolled_back(make, kind):
    pool = make(1, 1, kind=kind)
    for sql, status in (
        ("create table left_behind (i int)", extensions.TRANSACTION_STATUS_INTRANS),
        ("select nonsense", extensions.TRANSACTION_STATUS_INERROR),
    ):
        conn = pool.getconn()
        with conn.cursor() as cursor, contextlib.suppress(psycopg2.ProgrammingError):
            cursor.execute(sql)
        assert conn.get_transaction_status() == status
        pool.putconn(conn)
        assert pool.getconn() is conn
        assert conn.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
        assert value(conn, "select to_regclass('left_behind') is null")
        pool.putconn(conn)


def test_a_session_found_dead_by_its_borrower_is_replaced(make, kind):
    pool = make(1, 1, kind=kind)
    for _ in range(3):
        conn = pool.getconn()
        terminate(conn)
        with pytest.raises(psycopg2.Error):
            value(conn, "select 1")
        pool.putconn(conn)
        assert conn.closed
    assert value(pool.getconn(), "select 1") == 1


# -------------------------------------------------------------------------------------------- the end of a pool


def test_closeall_closes_all_lent_ones_too(make, kind):
    pool = make(2, 3, kind=kind)
    lent, keyed, idle = pool.getconn(), pool.getconn("key"), pool.getconn()
    pool.putconn(idle)
    pool.closeall()
    assert all(conn.closed for conn in (lent, keyed, idle))
    for call in (
        pool.getconn,
        lambda: pool.getconn("key"),
        lambda: pool.putconn(lent),
        lambda: pool.putconn(keyed, "key"),
        lambda: pool.putconn(lent, close=True),
        lambda: pool.putconn(object()),
        pool.closeall,
    ):
        with pytest.raises(PoolError, match=r"^connection pool is closed$"):
            call()


def test_closeall_gets_by_with_connections_that_are_closed_or_dead(make, kind):
    pool = make(2, 2, kind=kind)
    closed, dead = pool.getconn(), pool.getconn()
    closed.close()
    terminate(dead)
    pool.closeall()
    assert dead.closed


def test_a_pool_that_is_forgotten_ends_its_sessions(make, module, kind, native_pool):
    pool = getattr(module, kind)(2, 2, "application_name=forgotten")
    sessions = "select count(*) from pg_stat_activity where application_name = 'forgotten'"
    with native_pool.connection() as watcher:
        assert query(watcher, sessions) == "2"
        del pool
        assert eventually(lambda: query(watcher, sessions) == "0")


# ------------------------------------------------------------------------------------------------------ subclasses


def test_a_subclass_may_override_what_opens_connections(make, module, kind):
    class Named(getattr(module, kind)):
        def _connect(self, *args, **kwargs):
            conn = super()._connect(*args, **kwargs)
            conn.autocommit = True
            return conn

    pool = make(1, 2, kind=Named)
    assert (pool.getconn().autocommit, pool.getconn().autocommit) == (True, True)


def test_a_subclass_may_wrap_getconn_and_putconn(make, module, kind):
    class Blocking(getattr(module, kind)):
        def __init__(self, minconn, maxconn, *args, **kwargs):
            self._semaphore = threading.Semaphore(maxconn)
            super().__init__(minconn, maxconn, *args, **kwargs)

        def getconn(self, *args, **kwargs):
            self._semaphore.acquire()
            return super().getconn(*args, **kwargs)

        def putconn(self, *args, **kwargs):
            super().putconn(*args, **kwargs)
            self._semaphore.release()

    pool = make(1, 1, kind=Blocking)
    conn = pool.getconn()
    waiter = Thread(pool.getconn)
    pool.putconn(conn)
    assert waiter.finish() is conn


def test_the_abstract_pool_is_there_to_derive_from(make, module):
    class Persistent(module.AbstractConnectionPool):
        closeall = module.AbstractConnectionPool._closeall

        def getconn(self):
            return self._getconn(threading.get_ident())

        def putconn(self, close=False):
            self._putconn(self._used[threading.get_ident()], threading.get_ident(), close)

    pool = make(1, 2, kind=Persistent)
    conn = pool.getconn()
    assert pool.getconn() is conn
    assert Thread(pool.getconn).finish() is not conn
    pool.putconn()
    pool.putconn_refused = True  # a pool takes attributes of others
    assert pool.getconn() is conn
    pool.putconn(close=True)
    assert conn.closed


# --------------------------------------------------------------------------------------------------------- threads


def test_threads_never_share_a_connection(make):
    pool, lent, lock = make(2, 4), set(), threading.Lock()

    def work(number):
        served = 0
        while served < 50:
            key = f"{number} {served}" if served % 5 == 0 else None
            try:
                conn = pool.getconn(key)
            except PoolError:
                time.sleep(0.0001)
                continue
            with lock:
                assert conn not in lent
                lent.add(conn)
            assert value(conn, f"select {number}") == number
            with lock:
                lent.remove(conn)
            pool.putconn(conn, key, close=served % 10 == 9)
            served += 1
        return served

    threads = [Thread(work, number) for number in range(8)]
    assert [thread.finish(30) for thread in threads] == [50] * 8
    assert (pool._used, pool._rused) == ({}, {})
    assert len(pool._pool) <= 4


def test_many_threads_that_open_at_once_are_all_served(make):
    pool, start = make(0, 8), threading.Barrier(8)

    def work():
        start.wait()
        return pool.getconn()

    threads = [Thread(work) for _ in range(8)]
    assert len({thread.finish().info.backend_pid for thread in threads}) == 8


def test_threads_with_the_same_key_get_the_same_connection(make):
    pool = make(0, 1)
    for _ in range(10):
        start = threading.Barrier(4)

        def work(start=start):
            start.wait()
            return pool.getconn("key")

        threads = [Thread(work) for _ in range(4)]
        (conn,) = {thread.finish() for thread in threads}
        pool.putconn(conn, "key")


# ---------------------------------------------------------------------------- where ours differs, and on purpose


def test_how_many_idle_connections_are_kept(make, module):
    """The original closes what is put above minconn, so that each busy moment connects anew: what a pool is to spare.
    Ours keeps up to maxconn and closes them when they were idle for `max_idle`."""
    pool = make(1, 3)
    lent = [pool.getconn() for _ in range(3)]
    for conn in lent:
        pool.putconn(conn)
    assert len(pool._pool) == (1 if module.__name__ == ORIGINAL else 3)
    assert sum(not conn.closed for conn in lent) == len(pool._pool)


def test_a_session_that_died_unnoticed(make, module):
    """The original lends it again: nobody has looked at it. Ours does not, neither one put dead nor one that died
    while it lay in the pool."""
    pool = make(1, 1)
    conn = pool.getconn()
    terminate(conn)
    pool.putconn(conn)
    assert module.__name__ == ORIGINAL or eventually(lambda: pool.stats().idle == 0)
    assert (pool.getconn() is conn) == (module.__name__ == ORIGINAL)


def test_a_put_whose_rollback_fails(make, module):
    """The original raises and keeps the connection lent for ever: its place is lost. Ours drops it silently: the
    borrower has done its part."""
    pool = make(1, 1)
    conn = pool.getconn()
    value(conn, "select 1")
    terminate(conn)
    if module.__name__ == ORIGINAL:
        with pytest.raises(psycopg2.Error):
            pool.putconn(conn)
        assert list(pool._used.values()) == [conn]
    else:
        pool.putconn(conn)
        assert value(pool.getconn(), "select 1") == 1


def test_a_key_of_the_user_that_is_also_an_automatic_one(make, module):
    """The automatic keys of the original are 1, 2, 3: who uses such numbers is given somebody else's connection. Those
    of ours are equal to nothing else."""
    pool = make(1, 2)
    conn = pool.getconn()
    assert (pool.getconn(1) is conn) == (module.__name__ == ORIGINAL)


def test_a_wrong_key_does_no_harm(make, module):
    """The original has the connection in the pool and lent at the same time when it has raised KeyError."""
    pool = make(1, 1)
    conn = pool.getconn()
    with pytest.raises(KeyError):
        pool.putconn(conn, "wrong")
    assert (conn in pool._pool) == (module.__name__ == ORIGINAL)
    assert list(pool._used.values()) == [conn]
