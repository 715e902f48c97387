"""A connect that takes long: the borrower goes at its deadline, and what comes late goes to the pool."""

from __future__ import annotations

import contextvars
import importlib
import os
import socket
import textwrap
import threading
import traceback

import pytest
from drivers import driver_pool, value
from silence import Proxy, SlowLogin, hanging_resolver, within
from support import Thread, eventually, run_program

import dbpool
from dbpool import _opening


class ByPsycopg2Pool:
    """The replacement of psycopg2.pool, called as the others are."""

    def __init__(self, kwargs, max_size, timeout):
        from dbpool.psycopg2_pool import ThreadedConnectionPool

        self._pool = ThreadedConnectionPool(0, max_size, timeout=timeout, **kwargs)
        self.putconn, self.stats = self._pool.putconn, self._pool.stats

    def getconn(self, timeout=None):
        return self._pool.getconn(timeout=timeout)

    def close(self):
        if not self._pool.closed:
            self._pool.closeall()


@pytest.fixture(params=["psycopg2", "psycopg", "psycopg2_pool"])
def driver(request):
    pytest.importorskip(request.param.partition("_")[0])
    return request.param


@pytest.fixture
def make(driver):
    kind = ByPsycopg2Pool if driver == "psycopg2_pool" else driver_pool(driver)
    pools = []

    def make(max_size=1, timeout=10, **kwargs):
        pools.append(kind(kwargs, max_size=max_size, timeout=timeout))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


@pytest.fixture
def through(make, proxy):
    """Makes a pool that reaches the server through the proxy."""
    return lambda **options: make(host="127.0.0.1", port=proxy.port, connect_timeout=10, **options)


def test_a_silent_handshake_ends_with_the_timeout(through, proxy, driver):
    proxy.dark = True
    pool = through()
    base = importlib.import_module(driver.partition("_")[0]).OperationalError
    for timeout in (0.3, 0.1, 0.1):
        with within(timeout), pytest.raises(base) as caught:
            pool.getconn(timeout)
        assert isinstance(caught.value, (dbpool.ConnectError, dbpool.PoolTimeout))
        if timeout == 0.3:
            assert isinstance(caught.value, dbpool.ConnectError)
            assert "no connection in 0.3 s: connecting takes longer than" in str(caught.value)
    # The attempt goes on and keeps its slot: no other is made beside it.
    assert eventually(lambda: proxy.accepted == 1)
    assert (pool.stats().connecting, len(_opening._running)) == (1, 1)


def test_a_connect_that_is_cut_off_tells_of_the_failure_before(make, driver):
    """A borrower that waited for others' attempts may have next to no time left for its own."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    pool = make(host="127.0.0.1", port=port, user="u", password="secret")
    base = importlib.import_module(driver.partition("_")[0]).OperationalError
    with pytest.raises(base, match="refused"):
        pool.getconn(0.5)
    with socket.create_server(("127.0.0.1", port)), within(1.5):
        with pytest.raises(dbpool.ConnectError, match=r"in 1\.5 s: .*; the attempt before: .*refused") as caught:
            pool.getconn(1.5)
        assert "secret" not in str(caught.value)


def test_a_connection_that_comes_late_is_the_pools(through, proxy):
    proxy.dark = True
    pool = through()
    with pytest.raises(dbpool.Error):
        pool.getconn(0.2)
    proxy.dark = False
    assert eventually(lambda: pool.stats().idle == 1)
    connection = pool.getconn(5)
    assert value(connection, "select 1") == 1
    pool.putconn(connection)
    connection = pool.getconn(5)
    assert value(connection, "select 2") == 2
    assert (proxy.accepted, pool.stats().opened) == (1, 1)
    pool.putconn(connection)
    assert not _opening._running


def test_who_waits_gets_the_connection_that_came_late(through, proxy):
    proxy.dark = True
    pool = through()
    with pytest.raises(dbpool.Error):
        pool.getconn(0.1)
    waiter = Thread(pool.getconn, 10)
    assert eventually(lambda: pool.stats().waiting == 1)
    proxy.dark = False
    connection = waiter.finish()
    assert value(connection, "select 1") == 1
    assert proxy.accepted == 1
    pool.putconn(connection)


def test_a_pool_that_was_closed_meanwhile_closes_what_comes_late(through, proxy):
    proxy.dark = True
    pool = through()
    with pytest.raises(dbpool.Error):
        pool.getconn(0.1)
    with within(0):
        pool.close()
    assert eventually(lambda: proxy.accepted == 1)
    proxy.dark = False
    assert eventually(lambda: not _opening._running)
    assert eventually(lambda: proxy.open_sessions() == 0)


def test_a_login_that_keeps_the_driver_busy_ends_with_the_timeout(make):
    server = SlowLogin(700_000)
    try:
        pool = make(host="127.0.0.1", port=server.port, user="u", password="p", sslmode="disable", connect_timeout=3)
        with within(0.1), pytest.raises(dbpool.ConnectError, match="connecting takes longer"):
            pool.getconn(0.1)
    finally:
        server.close()
    assert eventually(lambda: not _opening._running, 30)


def test_the_error_of_a_late_failure_is_told_to_the_next(make):
    server = SlowLogin(200_000)
    try:
        pool = make(host="127.0.0.1", port=server.port, user="u", password="p", sslmode="disable")
        with pytest.raises(dbpool.Error):
            pool.getconn(0.02)
    finally:
        server.close()
    assert eventually(lambda: not _opening._running, 30)
    assert pool.stats().connecting == 0
    with pytest.raises(dbpool.Error):
        pool.getconn(0.02)


def test_an_error_is_the_drivers_own_with_the_way_that_it_came(make, driver):
    module = importlib.import_module(driver.partition("_")[0])
    pool = make(dbname="nowhere", password="secret-7", host="127.0.0.1", port=1)
    with pytest.raises(module.OperationalError) as caught:
        pool.getconn(0)
    assert not isinstance(caught.value, dbpool.Error)
    frames = [frame.name for frame in traceback.extract_tb(caught.value.__traceback__)]
    assert frames[0] == "test_an_error_is_the_drivers_own_with_the_way_that_it_came"
    assert frames[-1] == "connected"
    assert "secret-7" not in str(caught.value)


def test_a_context_variable_is_seen_where_the_connection_is_made(driver):
    if driver == "psycopg2_pool":
        pytest.skip("it has no hooks but _connect")
    variable = contextvars.ContextVar("variable", default=0)
    variable.set(7)
    seen = []
    pool = driver_pool(driver)({}, configure=lambda connection: seen.append((variable.get(), threading.get_ident())))
    pool.putconn(pool.getconn())
    pool.close()
    assert seen[0][0] == 7
    assert seen[0][1] != threading.get_ident()


PROGRAM = """
    import os, signal, sys, threading, time, warnings
    import dbpool
    from drivers import driver_pool, value
    from silence import Proxy, within
    from support import eventually
    from dbpool import _opening
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)
    if {driver!r} == "psycopg2_pool":
        from test_opening import ByPsycopg2Pool as make
    else:
        make = driver_pool({driver!r})
"""


def run(driver, source, **options):
    return run_program(textwrap.dedent(PROGRAM.format(driver=driver)) + textwrap.dedent(source), **options)


def test_control_c_is_heard_in_a_connect(driver):
    run(
        driver,
        """
        proxy = Proxy()
        proxy.dark = True
        pool = make({"host": "127.0.0.1", "port": proxy.port}, max_size=1, timeout=10)
        sent = []

        def interrupt():
            assert eventually(lambda: proxy.accepted == 1)
            time.sleep(0.05)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.SIGINT)

        for timeout in (None, 0):
            thread = threading.Thread(target=interrupt)
            thread.start()
            try:
                pool.getconn(timeout)
                raise AssertionError
            except KeyboardInterrupt:
                assert time.monotonic() - sent[-1] < 0.5
            thread.join()
            proxy.dark = False
            assert eventually(lambda: pool.stats().idle == 1)
            connection = pool.getconn()
            assert value(connection, "select 1") == 1
            assert (proxy.accepted, pool.stats().in_use) == (1, 1)
            pool.putconn(connection)
            pool.close()
            assert eventually(lambda: proxy.open_sessions() == 0)
            proxy.dark, proxy.accepted = True, 0
            pool = make({"host": "127.0.0.1", "port": proxy.port}, max_size=1, timeout=10)
        """,
    )


def test_a_fork_during_a_connect(driver):
    run(
        driver,
        """
        proxy = Proxy()
        proxy.dark = True
        pool = make({"host": "127.0.0.1", "port": proxy.port}, max_size=1, timeout=10)
        other = make({}, max_size=1, timeout=10)
        try:
            pool.getconn(0.1)
        except dbpool.ConnectError:
            pass
        assert len(_opening._running) == 1
        child = os.fork()
        if child == 0:
            signal.alarm(10)
            code = 1
            try:
                assert not _opening._running
                assert pool.stats().connecting == 0
                assert value(other.getconn(), "select 1") == 1
                code = 0
            finally:
                os._exit(code)
        assert os.waitpid(child, 0)[1] == 0
        proxy.dark = False
        assert eventually(lambda: pool.stats().idle == 1)
        """,
    )


def test_the_interpreter_ends_during_a_connect(driver):
    run(
        driver,
        """
        proxy = Proxy()
        proxy.dark = True
        pool = make({"host": "127.0.0.1", "port": proxy.port, "connect_timeout": 10}, max_size=1, timeout=10)
        try:
            pool.getconn(0.1)
        except dbpool.ConnectError:
            pass
        assert eventually(lambda: proxy.accepted == 1)
        proxy.close()
        print("END", flush=True)
        """,
    )


def test_the_interpreter_ends_during_a_login_that_keeps_the_driver_busy(driver):
    for _ in range(3):
        output = run(
            driver,
            """
            import atexit
            from silence import SlowLogin
            server = SlowLogin(50_000_000)
            words = {"host": "127.0.0.1", "port": server.port, "user": "u", "password": "p", "sslmode": "disable"}
            pool = make(words, max_size=1, timeout=10)
            atexit.register(print, "handlers of Python run")
            try:
                pool.getconn(0.1)
            except dbpool.ConnectError as error:
                assert "login" in str(error)
            print("END", flush=True)
            """,
        )
        assert "handlers of Python run" in output


def test_a_resolver_that_hangs_keeps_one_thread_for_a_slot(driver, tmp_path):
    library = hanging_resolver(tmp_path)
    if library is None:
        pytest.skip("no C compiler")
    os.environ["LD_PRELOAD"] = library
    try:
        run(
            driver,
            """
            del os.environ["LD_PRELOAD"]
            pool = make({"host": "hang.example"}, max_size=2, timeout=10)
            other = make({}, max_size=1, timeout=10)
            threads = lambda: len(os.listdir("/proc/self/task"))
            for _ in range(4):
                with within(0.1):
                    try:
                        pool.getconn(0.1)
                        raise AssertionError
                    except dbpool.ConnectError as error:
                        assert "resolved" in str(error), error
            assert 1 <= len(_opening._running) <= 2
            connection = other.getconn()
            assert value(connection, "select 1") == 1
            other.putconn(connection)
            print("END", flush=True)
            """,
        )
    finally:
        del os.environ["LD_PRELOAD"]


# ----------------------------------------------------------------------------------------- subclasses of psycopg2_pool


def test_a_subclass_connects_in_the_thread_that_needs_the_connection(proxy):
    pytest.importorskip("psycopg2")
    from dbpool.psycopg2_pool import ThreadedConnectionPool

    class Prepared(ThreadedConnectionPool):
        def _connect(self, key=None):
            threads.append(threading.get_ident())
            connection = super()._connect(key)
            connection.set_session(readonly=True)
            return connection

    threads = []
    pool = Prepared(0, 1, host="127.0.0.1", port=proxy.port, connect_timeout=10, timeout=10)
    connection = pool.getconn()
    assert connection.readonly
    pool.putconn(connection, close=True)
    assert threads == [threading.get_ident()]
    proxy.dark = True
    with within(0.3), pytest.raises(dbpool.ConnectError, match="connecting takes longer"):
        pool.getconn(timeout=0.3)
    with pytest.raises(dbpool.Error):
        pool.getconn(timeout=0.1)
    assert len(_opening._running) == 1
    # It was not prepared: nobody gets it.
    proxy.dark = False
    assert eventually(lambda: not _opening._running and proxy.open_sessions() == 0)
    connection = pool.getconn(timeout=5)
    assert connection.readonly
    pool.putconn(connection)
    pool.closeall()


def test_who_comes_with_the_key_of_another_waits_no_longer_than_its_timeout(proxy):
    pytest.importorskip("psycopg2")
    from dbpool.psycopg2_pool import ThreadedConnectionPool

    pool = ThreadedConnectionPool(0, 1, timeout=None)
    connection = pool.getconn()
    first = Thread(pool.getconn, "key")
    assert eventually(lambda: pool.stats().waiting == 1)
    for timeout in (0, 0.2):
        with within(timeout), pytest.raises(dbpool.PoolTimeout):
            pool.getconn("key", timeout=timeout)
    second = Thread(pool.getconn, "key")
    pool.putconn(connection)
    assert first.finish() is second.finish()
    pool.putconn(connection, "key")
    assert pool._openings == {}
    pool.closeall()
