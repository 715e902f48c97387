"""psycopg2 with a wait callback: a login ends in time, whatever waits for it."""

from __future__ import annotations

import textwrap

import pytest
from support import run_program, under

pytest.importorskip("psycopg2")

GEVENT = """
from gevent.socket import wait_read, wait_write

def callback(connection):  # that of psycogreen
    while (state := connection.poll()) != extensions.POLL_OK:
        (wait_read if state == extensions.POLL_READ else wait_write)(connection.fileno())

"""

POLL = """
import select

def callback(connection):
    while (state := connection.poll()) != extensions.POLL_OK:
        poll = select.poll()
        poll.register(connection.fileno(), select.POLLIN if state == extensions.POLL_READ else select.POLLOUT)
        poll.poll()

"""

SETUP = {
    "gevent": GEVENT + "extensions.set_wait_callback(callback)",
    "eventlet": "assert extensions.get_wait_callback() is not None  # its own",
    "select": "extensions.set_wait_callback(extras.wait_select)",
    "poll": POLL + "extensions.set_wait_callback(callback)",
}

PROGRAM = """
import os, signal, socket, threading, time
import psycopg2
from psycopg2 import extensions, extras
import dbpool
from dbpool import _watchdog
from dbpool._psycopg2 import Psycopg2Pool
from drivers import value
from silence import Proxy, within
from support import eventually
from test_opening import ByPsycopg2Pool

def silent():
    # It connects, and says nothing; once it is full it does not even connect.
    return socket.create_server(("127.0.0.1", 0), backlog=4)

def fill(server):
    taken = []
    try:
        while True:
            taken.append(socket.create_connection(server.getsockname(), 0.2))
    except OSError:
        assert taken
    return taken

def address(server):
    return {"host": "127.0.0.1", "port": server.getsockname()[1], "connect_timeout": 10}

def refused(pool, timeout, seconds=None):
    with within(timeout if seconds is None else seconds):
        try:
            pool.getconn(timeout)
        except psycopg2.OperationalError as error:
            assert "timeout expired" in str(error), error
        else:
            raise AssertionError
    assert not _watchdog._watched

def works(pool):
    connection = pool.getconn(5)
    assert not _watchdog._watched
    assert value(connection, "select 1") == 1
    pool.putconn(connection)
    return connection

"""


@pytest.fixture(params=["Psycopg2Pool", "ByPsycopg2Pool"])
def make(request):
    return request.param


def run_with(make, kind, source):
    """A program under a kind of callback."""
    patches = under(kind) if kind in ("gevent", "eventlet") else ""
    return run_program(f"{patches}{PROGRAM}make = {make}\n{SETUP[kind]}\n{textwrap.dedent(source)}")


@pytest.fixture(params=SETUP)
def run(request, make):
    return lambda source: run_with(make, request.param, source)


def test_a_silent_server_keeps_no_borrower_and_no_slot(run):
    """A getconn hung for ever."""
    run(
        """
        server = silent()
        pool = make(address(server), max_size=1, timeout=10)
        for count in (1, 2):
            refused(pool, 0.3)
            now = pool.stats()
            assert (now.connecting, now.total, now.connect_failures) == (0, 0, count), now
        port = server.getsockname()[1]
        server.close()
        proxy = Proxy(port)
        works(pool)
        """
    )


def test_an_address_that_takes_no_connection_keeps_no_borrower(run):
    run(
        """
        server = silent()
        taken = fill(server)
        pool = make(address(server), max_size=1, timeout=10)
        refused(pool, 0.3)
        assert pool.stats().total == 0
        """
    )


def test_each_address_has_connect_timeout(run):
    run(
        """
        server = silent()
        both = f"{server.getsockname()[1]},{os.environ['PGPORT']}"
        pool = make({"host": "127.0.0.1,127.0.0.1", "port": both, "connect_timeout": 1}, max_size=1, timeout=10)
        taken = fill(server)
        with within(1):
            works(pool)
        pool.close()
        server = silent()
        pool = make({**address(server), "connect_timeout": 1}, max_size=1, timeout=0)
        refused(pool, 0, seconds=1)
        """
    )


def test_what_connects_too_late_is_not_lent(make):
    run_with(
        make,
        "select",
        """
        class Slow(extensions.connection):
            def __init__(self, *args, **kwargs):
                super().__init__(*args, **kwargs)
                time.sleep(0.2)

        pool = make({"connection_factory": Slow}, max_size=1, timeout=10)
        refused(pool, 0.1)
        assert pool.stats().total == 0
        assert type(works(pool)).__mro__.index(Slow)
        """,
    )


def test_what_ends_the_callback_ends_the_login(make):
    run_with(
        make,
        "poll",
        """
        server = silent()
        pool = make(address(server), max_size=1, timeout=10)

        def interrupt():
            assert eventually(lambda: _watchdog._watched)
            os.kill(os.getpid(), signal.SIGINT)

        thread = threading.Thread(target=interrupt)
        thread.start()
        with within(0):
            try:
                pool.getconn()
                raise AssertionError
            except KeyboardInterrupt:
                assert not _watchdog._watched
        thread.join()
        assert pool.stats().total == 0
        """,
    )


def test_a_greenlet_that_is_killed_during_a_login_keeps_no_slot(make):
    run_with(
        make,
        "gevent",
        """
        server = silent()
        pool = make(address(server), max_size=1, timeout=10)
        greenlet = spawn(pool.getconn)
        assert eventually(lambda: _watchdog._watched)
        greenlet.kill()
        assert not _watchdog._watched
        assert pool.stats().total == 0
        """,
    )


def test_a_factory_that_is_no_class_is_called_as_it_is():
    """Of the drop-in, as the original takes it."""
    run_with(
        "ByPsycopg2Pool",
        "select",
        """
        made = []

        def factory(*args, **kwargs):
            made.append(extensions.connection(*args, **kwargs))
            return made[-1]

        assert works(make({"connection_factory": factory}, max_size=1, timeout=10)) is made[0]
        """,
    )


def test_arguments_by_position_stay_where_they_are():
    run_with(
        "ByPsycopg2Pool",
        "select",
        """
        from dbpool.psycopg2_pool import ThreadedConnectionPool

        class Mine(extensions.connection):
            pass

        pool = ThreadedConnectionPool(0, 1, "application_name=x", Mine, extras.DictCursor)
        connection = pool.getconn()
        assert isinstance(connection, Mine)
        assert connection.cursor_factory is extras.DictCursor
        assert value(connection, "show application_name") == "x"
        pool.putconn(connection)
        pool.closeall()
        """,
    )
