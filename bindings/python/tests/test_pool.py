"""Pool on a real server."""

from __future__ import annotations

import copy
import gc
import logging
import math
import pickle
import time
import weakref

import pytest
from support import Thread, backend_pid, eventually, is_idle, query, send

import dbpool
from dbpool import _lib


def test_a_borrowed_connection_answers(pool):
    conn = pool.get()
    assert query(conn, "select 6 * 7") == "42"
    pool.put(conn)
    assert pool.stats().in_use == 0


def test_the_with_statement_puts_back(pool):
    with pool.connection() as conn:
        assert pool.stats().in_use == 1
        assert query(conn, "select 1") == "1"
    assert pool.stats().in_use == 0
    assert not conn


def test_an_exception_puts_back_and_rolls_back(pool):
    with pytest.raises(KeyError), pool.connection() as conn:
        query(conn, "begin")
        query(conn, "create table kept (id int)")
        raise KeyError
    with pool.connection() as conn:
        assert is_idle(conn)
        assert query(conn, "select to_regclass('kept')") == ""


def test_a_connection_put_back_inside_with_stays_put_back(pool):
    with pool.connection() as conn:
        pool.put(conn)
    with pool.connection() as conn:
        pool.discard(conn)
    with pool.connection() as conn:
        assert query(conn, "select 1") == "1"
    assert pool.stats().discarded == 1


def test_connection_is_for_one_with_at_a_time(pool):
    borrowed = pool.connection()
    with borrowed, pytest.raises(RuntimeError, match="twice"), borrowed:
        pass
    with borrowed as conn:
        assert query(conn, "select 1") == "1"


def test_a_busy_connection_is_replaced(pool):
    with pool.connection() as conn:
        pid = backend_pid(conn)
        send(conn, "select pg_sleep(30)")
    with pool.connection() as conn:
        assert backend_pid(conn) != pid
        assert query(conn, "select 1") == "1"


def test_discard_replaces(pool):
    conn = pool.get()
    pid = backend_pid(conn)
    pool.discard(conn)
    with pool.connection() as conn:
        assert backend_pid(conn) != pid


def test_putting_twice_is_refused(pool):
    conn = pool.get()
    pool.put(conn)
    for end in (pool.put, pool.discard):
        with pytest.raises(dbpool.NotLeased):
            end(conn)
    other = pool.get()  # the same connection, lent on: the old loan does not reach it
    with pytest.raises(dbpool.NotLeased):
        pool.put(conn)
    assert pool.stats().in_use == 1
    pool.put(other)


def test_only_one_of_many_threads_puts_a_loan(pool):
    def put(conn):
        try:
            pool.put(conn)
        except dbpool.NotLeased:
            return 0
        return 1

    for _ in range(50):
        conn = pool.get()
        assert sum(thread.finish() for thread in [Thread(put, conn) for _ in range(4)]) == 1
    assert pool.stats().puts == pool.stats().gets


def test_a_connection_of_another_pool_is_refused_and_stays_lent(pool, make_pool):
    other = make_pool(max_size=1)
    conn = other.get()
    with pytest.raises(dbpool.ForeignConnection):
        pool.put(conn)
    assert query(conn, "select 1") == "1"
    other.put(conn)


@pytest.mark.parametrize("wrong", [None, 5, "x", 2**70, object()])
def test_what_is_no_loan_is_refused(pool, wrong):
    for end in (pool.put, pool.discard):
        with pytest.raises(TypeError, match="conn"):
            end(wrong)


def test_a_closed_pool_says_so(make_pool):
    pool = make_pool(name="shut")
    assert not pool.closed
    pool.close()
    pool.close()
    assert pool.closed
    calls = (pool.get, pool.stats, pool.pause, pool.resume, pool.drain, pool.reconnect, pool.wait)
    for call in (*calls, lambda: pool.resize(0, 1), lambda: pool.get(0)):
        with pytest.raises(dbpool.PoolClosed):
            call()
    assert repr(pool) == "<dbpool.Pool 'shut', closed>"


def test_put_after_close_closes_the_connection(make_pool):
    pool = make_pool()
    watch = make_pool()
    conn = pool.get()
    pid = backend_pid(conn)
    pool.close()
    assert query(conn, "select 1") == "1"
    pool.put(conn)
    with watch.connection() as other:
        sql = f"select count(*) from pg_stat_activity where pid = {pid}"
        assert eventually(lambda: query(other, sql) == "0")


def test_closing_ends_those_who_wait(pool):
    with pool.connection():
        waiter = Thread(pool.get, math.inf)
        assert eventually(lambda: pool.stats().waiting == 1)
        start = time.monotonic()
        pool.close()
        with pytest.raises(dbpool.PoolClosed):
            waiter.finish()
        assert time.monotonic() - start < 0.3


def test_the_pool_is_a_context_manager():
    with dbpool.Pool(max_size=1) as pool, pool.connection() as conn:
        assert query(conn, "select 1") == "1"
    assert pool.closed


def test_a_forgotten_pool_is_closed_with_a_warning():
    pool = dbpool.Pool(name="forgotten")
    handle = pool._handle
    with pytest.warns(ResourceWarning, match="forgotten"):
        del pool
        gc.collect()
    with pytest.raises(dbpool.PoolClosed):
        _lib.read_stats(handle)


def test_a_closed_pool_is_not_kept(make_pool):
    pool = dbpool.Pool(configure=lambda conn: None)
    reference = weakref.ref(pool)
    pool.close()
    del pool
    gc.collect()
    assert reference() is None


def test_many_threads_share_few_connections(make_pool):
    pool = make_pool(max_size=3)
    owners = {}

    def work():
        for _ in range(100):
            with pool.connection() as conn:
                assert owners.setdefault(int(conn), None) is None
                owners[int(conn)] = True
                assert query(conn, "select 1") == "1"
                del owners[int(conn)]

    for thread in [Thread(work) for _ in range(12)]:
        thread.finish(60)
    stats = pool.stats()
    assert (stats.in_use, stats.waiting, stats.timeouts) == (0, 0, 0)
    assert stats.gets == stats.puts == 1200
    assert stats.opened <= 3


def test_limits_and_resize(make_pool):
    pool = make_pool(min_size=1, max_size=2, max_waiting=1)
    pool.wait(timeout=10)
    assert (pool.stats().min_size, pool.stats().max_size) == (1, 2)
    pool.resize(0, 1)
    assert (pool.stats().min_size, pool.stats().max_size) == (0, 1)
    with pool.connection():
        waiter = Thread(pool.get, 10)
        assert eventually(lambda: pool.stats().waiting == 1)
        with pytest.raises(dbpool.TooManyWaiting):
            pool.get(timeout=5)
    pool.put(waiter.finish())
    with pytest.raises(dbpool.InvalidArgument):
        pool.resize(2, 1)


def test_pause_and_resume(pool):
    pool.pause()
    assert pool.stats().paused is True
    for timeout in (0, 0.05):
        with pytest.raises(dbpool.PoolPaused):
            pool.get(timeout)
    waiter = Thread(pool.get, 10)
    assert eventually(lambda: pool.stats().waiting == 1)
    pool.resume()
    pool.put(waiter.finish())
    assert pool.stats().paused is False


def test_drain(pool):
    conn = pool.get()
    with pytest.raises(dbpool.PoolTimeout):
        pool.drain(timeout=0.25)
    pool.put(conn)
    pool.drain(timeout=5)
    assert (pool.stats().total, pool.stats().paused) == (0, True)
    pool.resume()
    with pool.connection() as conn:
        assert query(conn, "select 1") == "1"


@pytest.mark.parametrize("on_main_thread", [True, False])
def test_resume_ends_a_drain_and_is_not_undone(pool, on_main_thread):
    with pool.connection():
        resumer = Thread(lambda: eventually(lambda: pool.stats().paused) and pool.resume())
        with pytest.raises(dbpool.Canceled):
            pool.drain(timeout=10) if on_main_thread else Thread(pool.drain, 10).finish()
        resumer.finish()
        assert pool.stats().paused is False


def test_reconnect(pool):
    with pool.connection() as conn:
        pid = backend_pid(conn)
    pool.reconnect()
    with pool.connection() as conn:
        assert backend_pid(conn) != pid


def test_statistics_count(pool):
    with pool.connection():
        with pytest.raises(dbpool.PoolTimeout):
            pool.get(timeout=0)
        with pytest.raises(dbpool.PoolTimeout):
            pool.get(timeout=0.01)
    stats = pool.stats()
    assert (stats.gets, stats.puts, stats.timeouts, stats.waits) == (1, 1, 2, 1)
    assert stats.wait_us >= 10_000


def test_the_repr_has_name_and_counts(make_pool):
    pool = make_pool(name="web")
    with pool.connection() as conn:
        assert repr(pool) == "<dbpool.Pool 'web' idle=0 in_use=1 waiting=0 total=1 max_size=10>"
        assert repr(conn) == f"<dbpool.Loan {int(conn):#x}>"
    assert repr(conn) == "<dbpool.Loan, put back>"


def test_the_name_reaches_the_server(make_pool):
    with make_pool(name="web").connection() as conn:
        assert query(conn, "show application_name") == "web"


def test_options_in_the_conninfo_win(make_pool):
    assert make_pool("pool_max_size=3", max_size=7).stats().max_size == 3


def test_an_unknown_option_is_named():
    with pytest.raises(TypeError, match="max_sizes"):
        dbpool.Pool(max_sizes=5)


WRONG_OPTIONS = {
    "min_size": -1,
    "max_size": 0,
    "max_waiting": -1,
    "acquire_timeout": -1,
    "connect_timeout": 0,
    "connect_concurrency": -1,
    "max_lifetime": math.nan,
    "lifetime_jitter_percent": 101,
    "idle_timeout": "5 parsecs",
    "check": "sniff",
    "check_after_idle": -0.5,
    "check_timeout": 0,
    "reset": 99,
    "reset_query": "select 1\0",
    "queue_mode": 5,
    "leak_threshold": "-1s",
    "name": "x" * 64,
    "conninfo": "frobnicate=1",
}


@pytest.mark.parametrize("option", WRONG_OPTIONS)
def test_a_wrong_value_names_its_option(option):
    mention = "frobnicate" if option == "conninfo" else option
    with pytest.raises(dbpool.InvalidArgument, match=mention):
        dbpool.Pool(**{option: WRONG_OPTIONS[option]})


@pytest.mark.parametrize("option", ["log", "configure", "conninfo_provider", "name", "conninfo", "reset_query"])
def test_a_wrong_type_names_its_option(option):
    with pytest.raises(TypeError, match=option):
        dbpool.Pool(**{option: 5})


RIGHT_OPTIONS = {
    "min_size": (3, 3),
    "max_size": (30, 30),
    "max_waiting": (4, 4),
    "acquire_timeout": (None, -2),
    "connect_timeout": ("2s", 2000),
    "connect_concurrency": (2, 2),
    "max_lifetime": ("1h", 3_600_000),
    "lifetime_jitter_percent": (7, 7),
    "idle_timeout": (math.inf, 0),
    "check": ("ping", 3),
    "check_after_idle": (0.75, 750),
    "check_timeout": (1, 1000),
    "reset": ("query", 3),
    "reset_query": ("select 1", b"select 1"),
    "queue_mode": ("fifo", 1),
    "leak_threshold": ("1min", 60_000),
    "exact_times": (True, 1),
    "name": ("wéb", "wéb".encode()),
}


def test_every_option_reaches_the_library(monkeypatch):
    made = []
    real = _lib.create

    def create(conninfo, options):
        made.append(options)
        return real(conninfo, options)

    monkeypatch.setattr(_lib, "create", create)
    callbacks = {"log": logging.getLogger("x"), "configure": lambda conn: None, "conninfo_provider": lambda: ""}
    pool = dbpool.Pool(**{name: value for name, (value, _) in RIGHT_OPTIONS.items()}, **callbacks)
    pool.close()
    for name, (_, expected) in RIGHT_OPTIONS.items():
        field = name if hasattr(made[0], name) else name + "_ms"
        assert getattr(made[0], field) == expected, name
    covered = {*RIGHT_OPTIONS, *callbacks}
    fields = {name.replace("_ms", "") for name, _ in _lib.Options._fields_}
    # The last two are for hosted pools, and for none.
    assert covered == fields - {"size", "context", "context_free", "background_open", "reserved"}


def test_an_unreachable_server_is_another_error_than_a_busy_pool(make_pool, tmp_path):
    pool = make_pool(f"host={tmp_path}", max_size=1)
    with pytest.raises(dbpool.ConnectError, match=r"No such file|server"):
        pool.get(timeout=0.5)


def test_wait_tells_early_of_what_will_not_go_away(make_pool):
    pool = make_pool("dbname=there_is_none", min_size=1)
    start = time.monotonic()
    with pytest.raises(dbpool.ConnectError, match="there_is_none"):
        pool.wait(timeout=20)
    assert time.monotonic() - start < 5


@pytest.mark.parametrize("asked", [{"check": "ping"}, {"conninfo": "pool_check=ping"}])
def test_a_ping_that_was_asked_for_is_made(make_pool, asked):
    pool = make_pool(max_size=1, check_after_idle=0, **asked)
    for _ in range(3):
        with pool.connection() as conn:
            assert query(conn, "select 1") == "1"
        time.sleep(0.002)
    assert pool.stats().checks >= 1


# A shallow copy, when it was collected, closed the pool it was made from.
@pytest.mark.parametrize("duplicate", [copy.copy, copy.deepcopy, pickle.dumps])
def test_a_pool_is_not_copied(pool, duplicate):
    with pytest.raises(TypeError, match="a pool is not to be copied"):
        duplicate(pool)
    gc.collect()
    with pool.connection() as conn:
        assert query(conn, "select 1") == "1"
