"""What dbpool.psycopg2_pool does beyond psycopg2.pool."""

from __future__ import annotations

import gc
import inspect
import pickle
import threading
import time

import pytest
from support import Thread, eventually, query, run_program

import dbpool

psycopg2 = pytest.importorskip("psycopg2")
from psycopg2 import extensions  # noqa: E402
from psycopg2.pool import PoolError  # noqa: E402

from dbpool import psycopg2_pool  # noqa: E402


@pytest.fixture
def make():
    pools = []

    def make(minconn, maxconn, *args, kind=psycopg2_pool.ThreadedConnectionPool, **kwargs):
        pools.append(kind(minconn, maxconn, *(args or ("",)), **kwargs))
        return pools[-1]

    yield make
    for pool in pools:
        if not pool.closed:
            pool.closeall()


def value(conn, sql):
    with conn.cursor() as cursor:
        cursor.execute(sql)
        return cursor.fetchone()[0]


def execute(conn, sql):
    with conn.cursor() as cursor:
        cursor.execute(sql)


def terminate(pids):
    with dbpool.Pool(max_size=1) as killer, killer.connection() as by:
        numbers = ", ".join(map(str, pids))
        query(by, f"select pg_terminate_backend(pid) from unnest(array[{numbers}]) pid")
        assert eventually(lambda: query(by, f"select count(*) from pg_stat_activity where pid in ({numbers})") == "0")


def pid(conn):
    return conn.info.backend_pid


# ---------------------------------------------------------------------------------------------------------- waiting


def test_a_timeout_waits_for_a_put(make):
    pool = make(1, 1, timeout=10)
    conn = pool.getconn()
    waiter = Thread(pool.getconn)
    assert eventually(lambda: pool.stats().waiting == 1)
    pool.putconn(conn)
    assert waiter.finish() is conn


@pytest.mark.parametrize(
    ("of_pool", "of_call", "seconds"), [(0.2, None, 0.2), (0, 0.2, 0.2), (10, 0, 0), (None, "200ms", 0.2), (0, None, 0)]
)
def test_a_timeout_ends_with_the_error_of_the_original(make, of_pool, of_call, seconds):
    pool = make(1, 1, timeout=of_pool)
    pool.getconn()
    for arguments in ({}, {"key": "key"}):
        start = time.monotonic()
        with pytest.raises(PoolError, match=r"^connection pool exhausted") as caught:
            pool.getconn(timeout=of_call, **arguments)
        assert seconds <= time.monotonic() - start < seconds + 0.25
        assert isinstance(caught.value, dbpool.PoolTimeout)
        assert caught.value.code == -3
    assert len(pool._used) == 1


def test_timeout_is_no_argument_of_connect():
    arguments = inspect.signature(psycopg2_pool.ThreadedConnectionPool).parameters
    options = {name for name, parameter in arguments.items() if parameter.kind == parameter.KEYWORD_ONLY}
    assert options == {"timeout", "max_lifetime", "max_idle"}
    with pytest.raises(psycopg2.ProgrammingError, match="invalid"):
        for option in options:
            psycopg2.connect("", **{option: 1})
    assert not options & set(psycopg2.extensions.ConnectionInfo.__dict__)


@pytest.mark.parametrize("options", [{"timeout": -1}, {"max_idle": "soon"}, {"max_lifetime": -1}])
def test_a_wrong_option_is_refused_by_name(make, options):
    with pytest.raises(dbpool.InvalidArgument, match=r"timeout|idle|lifetime"):
        make(0, 1, **options)


@pytest.mark.parametrize(("minconn", "maxconn"), [(2, 1), (0, 0), (-1, 1), (0, -1)])
def test_limits_that_make_no_sense_are_refused(make, minconn, maxconn):
    with pytest.raises(ValueError, match="size"):
        make(minconn, maxconn)


def test_those_who_wait_are_served_in_turn(make):
    pool = make(1, 1, timeout=10)
    conn, order, waiters = pool.getconn(), [], []

    def work(number):
        conn = pool.getconn()
        order.append(number)
        pool.putconn(conn)

    for number in range(5):
        waiters.append(Thread(work, number))
        assert eventually(lambda number=number: pool.stats().waiting == number + 1)
    pool.putconn(conn)
    for waiter in waiters:
        waiter.finish()
    assert order == [0, 1, 2, 3, 4]


def test_closeall_ends_the_waits(make):
    pool = make(1, 1, timeout=10)
    conn = pool.getconn()
    waiter = Thread(pool.getconn)
    assert eventually(lambda: pool.stats().waiting == 1)
    pool.closeall()
    with pytest.raises(PoolError, match=r"^connection pool is closed$") as caught:
        waiter.finish()
    assert caught.value.code == -6
    assert conn.closed


def test_closeall_while_a_connection_is_being_opened(make):
    opening, go_on, opened = threading.Event(), threading.Event(), []

    class Slow(psycopg2_pool.ThreadedConnectionPool):
        def _connect(self, key=None):
            opening.set()
            assert go_on.wait(10)
            opened.append(super()._connect(key))
            return opened[0]

    pool = make(0, 1, kind=Slow)
    opener = Thread(pool.getconn)
    assert opening.wait(10)
    pool.closeall()
    go_on.set()
    with pytest.raises(PoolError, match=r"^connection pool is closed$"):
        opener.finish()
    assert opened[0].closed


def test_threads_share_few_connections(make):
    pool = make(0, 2, timeout=20)

    def work(number):
        for turn in range(20):
            conn = pool.getconn(number if turn % 4 == 0 else None)
            assert value(conn, f"select {number}") == number
            pool.putconn(conn, close=turn == 7)
        return True

    threads = [Thread(work, number) for number in range(8)]
    assert [thread.finish(30) for thread in threads] == [True] * 8
    assert pool._used == {}
    assert pool.stats().opened >= 8


# ------------------------------------------------------------------------------------------------ clean and alive


def test_a_dead_idle_session_is_never_lent(make):
    pool = make(3, 3)
    pids = [pid(conn) for conn in pool._pool]
    terminate(pids)
    assert eventually(lambda: pool.stats().lost == 3)
    conns = [pool.getconn() for _ in range(3)]
    assert not {pid(conn) for conn in conns} & set(pids)
    assert {value(conn, "select 1") for conn in conns} == {1}


@pytest.mark.parametrize("autocommit", [False, True])
@pytest.mark.parametrize("sql", ["begin; create table left_behind (i int)", "begin; bad"])
def test_what_sql_did_to_the_transaction_is_undone(make, autocommit, sql):
    """psycopg2 knows only of the transactions that it opens itself: the original lends the others on."""
    pool = make(1, 1)
    conn = pool.getconn()
    conn.autocommit = autocommit
    for statement in sql.split(";"):
        try:
            execute(conn, statement)
        except psycopg2.Error:
            assert statement == " bad"
    pool.putconn(conn)
    assert pool.getconn() is conn
    assert conn.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
    assert conn.status == extensions.STATUS_READY
    assert value(conn, "select to_regclass('left_behind') is null")


def test_a_transaction_in_two_phases_costs_its_connection(make):
    pool = make(1, 1)
    conn = pool.getconn()
    conn.tpc_begin("unfinished")
    execute(conn, "create table left_behind (i int)")
    pool.putconn(conn)
    assert conn.closed
    assert value(pool.getconn(), "select to_regclass('left_behind') is null")


def test_connections_are_renewed_by_age_and_closed_when_idle_for_long(make):
    pool = make(1, 3, max_lifetime=0.2, max_idle=0.1)
    lent = [pool.getconn() for _ in range(3)]
    for conn in lent:
        pool.putconn(conn)
    assert eventually(lambda: all(conn.closed for conn in lent))
    assert value(pool.getconn(), "select 1") == 1


def test_a_server_that_comes_back_is_found(make):
    outage = {"now": False}

    class Sometimes(psycopg2_pool.ThreadedConnectionPool):
        def _connect(self, key=None):
            if outage["now"]:
                raise psycopg2.OperationalError("the server is down")
            return super()._connect(key)

    pool = make(1, 2, kind=Sometimes)
    conn = pool.getconn()
    outage["now"] = True
    for _ in range(3):
        with pytest.raises(psycopg2.OperationalError, match="the server is down"):
            pool.getconn()
    with pytest.raises(psycopg2.OperationalError, match="the server is down"):
        pool.getconn(timeout=0.3)
    waiter = Thread(pool.getconn, None, 10)
    assert eventually(lambda: pool.stats().waiting == 1)
    outage["now"] = False
    assert value(waiter.finish(), "select 1") == 1
    pool.putconn(conn)


# ------------------------------------------------------------------------------------------------------ odds and ends


class AlwaysEqual(extensions.connection):
    def __eq__(self, other):
        return True

    def __hash__(self):
        return 1


class NotHashable(extensions.connection):
    def __eq__(self, other):
        return True

    __hash__ = None


@pytest.mark.parametrize("factory", [AlwaysEqual, NotHashable])
def test_connections_are_told_apart_by_identity(make, factory):
    pool = make(1, 3, connection_factory=factory)
    conns = [pool.getconn(), pool.getconn("key"), pool.getconn()]
    assert len({pid(conn) for conn in conns}) == 3
    pool.putconn(conns[0])
    assert [pid(conn) for conn in pool._pool] == [pid(conns[0])]
    assert pool._used["key"] is conns[1]
    with pytest.raises(PoolError, match="unkeyed"):
        pool.putconn(conns[0])
    pool.putconn(conns[1], "key")
    pool.putconn(conns[2], close=True)
    assert [conn.closed for conn in conns] == [0, 0, 1]
    assert pool._used == {}


def test_keys_of_the_past_do_not_pile_up(make):
    pool = make(1, 2)
    kept = pool.getconn("kept")
    for number in range(100):
        pool.putconn(pool.getconn(number))
    assert len(pool._keyed) < 30
    assert pool.getconn("kept") is kept


def test_errors_are_pickled_with_their_code(make):
    pool = make(0, 1)
    pool.getconn()
    with pytest.raises(PoolError) as caught:
        pool.getconn()
    copy = pickle.loads(pickle.dumps(caught.value))
    assert (type(copy), str(copy), copy.code) == (type(caught.value), "connection pool exhausted", -3)


def test_a_lost_loan_stays_lent_as_in_the_original(make):
    pool = make(0, 1)
    number = pid(pool.getconn())
    gc.collect()
    assert [pid(conn) for conn in pool._used.values()] == [number]
    pool.putconn(*pool._used.values())
    assert pid(pool.getconn()) == number


def test_a_loan_outlives_its_forgotten_pool(make):
    conn = psycopg2_pool.ThreadedConnectionPool(1, 1, "").getconn()
    gc.collect()
    assert value(conn, "select 1") == 1


def test_repr_and_stats_count(make):
    pool = make(2, 5)
    pool.getconn()
    assert repr(pool) == "<dbpool.psycopg2_pool.ThreadedConnectionPool idle=1 in_use=1 maxconn=5>"
    now = pool.stats()
    assert (now.min_size, now.max_size, now.idle, now.in_use) == (2, 5, 1, 1)
    pool.closeall()
    assert repr(pool) == "<dbpool.psycopg2_pool.ThreadedConnectionPool, closed>"


# --------------------------------------------------------------------------------- signals, fork, the end: programs


def test_an_interrupt_ends_a_wait_and_loses_nothing():
    run_program(
        """
        import os, signal, threading
        from dbpool.psycopg2_pool import ThreadedConnectionPool
        from support import eventually

        pool = ThreadedConnectionPool(1, 1, "", timeout=30)
        conn = pool.getconn()

        def interrupt():
            assert eventually(lambda: pool.stats().waiting == 1)
            os.kill(os.getpid(), signal.SIGINT)

        for key in (None, "key"):
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                pool.getconn(key)
            except KeyboardInterrupt:
                thread.join()
            else:
                raise SystemExit("no interrupt")
        assert pool.stats().waiting == 0
        pool.putconn(conn)
        assert pool.getconn("key", timeout=0) is conn
        print("END", flush=True)
        """
    )


def test_signals_at_any_moment_lose_no_connection():
    """A handler that raises between any two byte codes of getconn and putconn."""
    run_program(
        """
        import random, signal, sys, time
        import psycopg2
        from dbpool.psycopg2_pool import ThreadedConnectionPool

        class Alarm(BaseException):
            pass

        def handler(*_):
            global armed
            if armed:
                armed = False
                raise Alarm

        pool = ThreadedConnectionPool(0, 2, "")
        sys.unraisablehook = lambda _: None  # of an alarm inside a finalizer
        signal.signal(signal.SIGALRM, handler)
        end, alarms, armed, random = time.monotonic() + 3, 0, False, random.Random(7)
        while time.monotonic() < end or (alarms <= 100 and time.monotonic() < end + 30):
            pool.putconn(pool.getconn(timeout=10))
            armed = True
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.000_01, random.choice([0.000_3, 0.01])))
                while armed:
                    conn = pool.getconn()
                    pool.putconn(conn)
                    conn = pool.getconn("key")
                    pool.putconn(conn, "key")
            except Alarm:
                alarms += 1
            except psycopg2.OperationalError:  # an attempt that was cut off has failed: the next one waits a moment
                armed = False
            # The borrower's own part: it was interrupted before its putconn.
            for conn in pool._used.values():
                pool.putconn(conn)
        assert alarms > 100, alarms
        first, second = pool.getconn(timeout=10), pool.getconn(timeout=10)
        assert first is not second
        assert pool.stats().in_use == 2
        pool.putconn(first)
        pool.putconn(second)
        # The opener that an alarm kept from saying that it is done is dead: the next with its key takes its place.
        assert not any(opener() for opener in pool._openings.values())
        pool.putconn(pool.getconn("key", timeout=10), "key")
        assert (pool._used, pool._rused, pool._openings) == ({}, {}, {})
        print("END", flush=True)
        """,
        seconds=60,
    )


@pytest.mark.parametrize("end", ["os._exit(0)", "sys.exit(0)"])
def test_a_forked_child_starts_empty_and_leaves_the_parents_sessions_alone(end):
    run_program(
        f"""
        import os, signal, sys, warnings
        from dbpool.psycopg2_pool import ThreadedConnectionPool, PoolError

        warnings.filterwarnings("ignore", "This process", DeprecationWarning)
        pool = ThreadedConnectionPool(2, 3, "")
        conn, keyed = pool.getconn(), pool.getconn("key")
        parents = {{c.info.backend_pid for c in (conn, keyed)}}
        with conn.cursor() as cursor:
            cursor.execute("create temp table mine as select 42 as i")
        child = os.fork()
        if child == 0:
            signal.alarm(15)
            assert (pool._used, pool._rused, pool._pool) == ({{}}, {{}}, [])
            pool.putconn(conn)  # nothing: it is the parent's, and inside its transaction
            pool.putconn(keyed, "key", close=True)
            assert not conn.closed and not keyed.closed
            own = [pool.getconn("key"), pool.getconn(), pool.getconn()]
            assert not {{c.info.backend_pid for c in own}} & parents
            with own[0].cursor() as cursor:
                cursor.execute("select 1")
            for c in own:
                pool.putconn(c)
            pool.closeall()
            del conn, keyed, own, c
            {end}
        assert os.waitpid(child, 0)[1] == 0
        with conn.cursor() as cursor:
            cursor.execute("select i from mine")
            assert cursor.fetchone() == (42,)
        assert pool.getconn("key") is keyed
        pool.putconn(conn)
        pool.putconn(keyed, "key")
        assert {{c.info.backend_pid for c in pool._pool}} == parents
        print("END", flush=True)
        """
    )


@pytest.mark.parametrize("after", ["", "pool.closeall()"])
def test_the_interpreter_ends_with_loans_out_and_threads_waiting(after):
    run_program(
        f"""
        import threading
        from dbpool.psycopg2_pool import ThreadedConnectionPool
        from support import eventually

        pool = ThreadedConnectionPool(1, 2, "", timeout=30)
        loans = [pool.getconn(), pool.getconn("key")]

        def wait():
            try:
                pool.getconn()
            except Exception:
                pass

        for _ in range(2):
            threading.Thread(target=wait, daemon=True).start()
        assert eventually(lambda: pool.stats().waiting == 2)
        {after}
        print("END", flush=True)
        """
    )
