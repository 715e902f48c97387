"""Sessions that can only fail again leave the pool when they are given back."""

from __future__ import annotations

import importlib
import io
import threading

import pytest
from drivers import driver_pool, pid, value
from support import Thread, eventually

from dbpool import _verdicts

READ_ONLY = {"options": "-c default_transaction_read_only=on"}


@pytest.fixture(params=["psycopg2", "psycopg"])
def driver(request):
    return importlib.import_module(driver_pool(request.param).__module__.rpartition("_")[2])


@pytest.fixture
def make(driver):
    pools = []

    def make(kwargs=None, **options):
        pools.append(driver_pool(driver.__name__)(kwargs or {}, **{"max_size": 1, "timeout": 10, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def table(driver):
    connection = driver.connect("")
    connection.autocommit = True
    value(connection, "drop table if exists verdicts; create table verdicts (n int)")
    yield "verdicts"
    value(connection, "drop table verdicts")
    connection.close()


def write(connection, table):
    connection.cursor().execute(f"insert into {table} values (1)")


STANDBY = {"in_hot_standby": "on", "default_transaction_read_only": "off"}
FENCED = {"in_hot_standby": "off", "default_transaction_read_only": "on"}
PRIMARY = {"in_hot_standby": "off", "default_transaction_read_only": "off"}


@pytest.mark.parametrize(
    ("sqlstate", "severity", "reported", "unfit"),
    [
        ("25006", "ERROR", STANDBY, True),
        ("25006", "ERROR", FENCED, True),
        ("25006", "ERROR", PRIMARY, False),
        ("25006", "ERROR", {}, True),
        ("57P01", "FATAL", {}, True),
        ("57P02", None, {}, True),
        ("57P03", "ERROR", {}, True),
        ("57P05", None, {}, True),
        ("25P03", None, {}, True),
        ("08006", None, {}, True),
        ("08P01", "FATAL", {}, True),
        ("08001", "ERROR", {}, False),
        ("XX000", "PANIC", {}, True),
        ("XX000", "ERROR", {}, False),
        ("57014", "ERROR", {}, False),
        ("23505", None, {}, False),
        (None, None, {}, False),
    ],
)
def test_what_an_sqlstate_says(sqlstate, severity, reported, unfit):
    assert _verdicts.is_unfit(sqlstate, severity, reported.get) is unfit


@pytest.mark.parametrize("rolled_back", [True, False])
def test_a_session_that_refused_a_write_for_the_server_leaves(make, driver, table, rolled_back):
    pool = make(READ_ONLY)
    connection = pool.getconn()
    before = pid(connection)
    with pytest.raises(driver.errors.ReadOnlySqlTransaction):
        write(connection, table)
    if rolled_back:
        connection.rollback()
        assert value(connection, "select 1") == 1
    pool.putconn(connection)
    assert connection.closed
    connection = pool.getconn()
    assert pid(connection) != before
    pool.putconn(connection)


def test_a_transaction_of_the_borrowers_own_choice_says_nothing(make, driver, table):
    pool = make()
    connection = pool.getconn()
    before = pid(connection)
    value(connection, "set transaction read only")
    with pytest.raises(driver.errors.ReadOnlySqlTransaction):
        write(connection, table)
    pool.putconn(connection)
    connection = pool.getconn()
    assert pid(connection) == before
    write(connection, table)
    pool.putconn(connection)


def test_other_errors_say_nothing(make, driver):
    pool = make(READ_ONLY)
    connection = pool.getconn()
    before = pid(connection)
    with pytest.raises(driver.Error):
        value(connection, "select 1/0")
    pool.putconn(connection)
    connection = pool.getconn()
    assert pid(connection) == before
    pool.putconn(connection)


def test_in_autocommit_too(make, driver, table):
    pool = make(READ_ONLY)
    connection = pool.getconn()
    connection.autocommit = True
    with pytest.raises(driver.errors.ReadOnlySqlTransaction):
        connection.cursor().executemany(f"insert into {table} values (%s)", [(1,), (2,)])
    pool.putconn(connection)
    assert connection.closed


def test_a_report_does_what_a_cursor_would_have_done(make, driver):
    pool, other = make(), make()
    connection = pool.getconn()
    with pytest.raises(driver.InterfaceError):
        other.report(connection, "57P01")
    with pytest.raises(driver.InterfaceError):
        pool.report(object(), "57P01")
    pool.report(connection, "23505")
    pool.report(connection, None)
    assert not connection._session.is_unfit
    pool.report(connection, "57P01")
    assert value(connection, "select 1") == 1
    pool.putconn(connection)
    assert connection.closed
    with pytest.raises(driver.InterfaceError):
        pool.report(connection, "57P01")


def test_a_lost_loan_does_not_come_back_unfit(make):
    pool = make()
    connection = pool.getconn()
    before = pid(connection)
    pool.report(connection, "57P01")
    del connection
    assert eventually(lambda: pool.stats().in_use == 0)
    connection = pool.getconn()
    assert pid(connection) != before
    pool.putconn(connection)


# ------------------------------------------------------------------------------------------- psycopg2's own cursors


@pytest.mark.parametrize(
    "kind", ["extensions.cursor", "extras.DictCursor", "extras.RealDictCursor", "extras.NamedTupleCursor"]
)
@pytest.mark.parametrize("how", ["argument", "position", "connection"])
def test_cursors_of_psycopg2_tell(table, kind, how):
    psycopg2 = pytest.importorskip("psycopg2")
    module, name = kind.split(".")
    factory = getattr(importlib.import_module(f"psycopg2.{module}"), name)
    pool = driver_pool("psycopg2")(READ_ONLY, max_size=1, timeout=10)
    connection = pool.getconn()
    if how == "connection":
        connection.cursor_factory = factory
    cursor = {
        "argument": lambda: connection.cursor(cursor_factory=factory),
        "position": lambda: connection.cursor(None, factory),
        "connection": connection.cursor,
    }[how]()
    assert isinstance(cursor, factory)
    cursor.execute("select 1 as one")
    assert len(cursor.fetchone()) == 1
    with pytest.raises(psycopg2.errors.ReadOnlySqlTransaction):
        cursor.execute(f"insert into {table} values (1)")
    pool.putconn(connection)
    assert connection.closed
    with pytest.raises(psycopg2.InterfaceError):
        cursor.fetchone()
    pool.close()


def test_arguments_by_position_are_all_kept():
    pytest.importorskip("psycopg2")
    pool = driver_pool("psycopg2")({}, max_size=1, timeout=10)
    connection = pool.getconn()
    cursor = connection.cursor("held", None, True, True)
    assert (cursor.name, cursor.withhold, cursor.scrollable) == ("held", True, True)
    pool.putconn(connection)
    pool.close()


def test_copy_tells(make, driver, table):
    pool = make(READ_ONLY)
    connection = pool.getconn()
    with pytest.raises(driver.errors.ReadOnlySqlTransaction):
        copy_in(connection, f"copy {table} from stdin")
    pool.putconn(connection)
    assert connection.closed


def copy_in(connection, sql):
    cursor = connection.cursor()
    if hasattr(cursor, "copy_expert"):
        cursor.copy_expert(sql, io.StringIO("1\n"))
        return
    with cursor.copy(sql) as copy:
        copy.write_row((1,))


# ----------------------------------------------------------------------------------------------- requests to cancel


def slow_to_cancel(driver, started, go_on):
    """Of connect: a class whose requests to cancel arrive late."""
    base = driver.extensions.connection if driver.__name__ == "psycopg2" else driver.Connection

    class Slow(base):
        def cancel(self):
            started.set()
            assert go_on.wait(10)
            super().cancel()

    return {"connection_factory" if driver.__name__ == "psycopg2" else "connection_class": Slow}


@pytest.mark.parametrize("given_back", ["put", "dropped"])
def test_a_request_to_cancel_on_its_way_does_not_meet_the_next(make, driver, given_back):
    started, go_on = threading.Event(), threading.Event()
    pool = make(slow_to_cancel(driver, started, go_on))
    connection = pool.getconn()
    before = pid(connection)
    request = Thread(connection.cancel)
    assert started.wait(10)
    if given_back == "put":
        pool.putconn(connection)
        assert connection.closed
    else:
        pool.reclaim(connection, connection._session.loan[0], "in a test")
    connection = pool.getconn()
    assert pid(connection) != before
    go_on.set()
    if driver.__name__ == "psycopg2":
        with pytest.raises(driver.InterfaceError):  # closed meanwhile
            request.finish()
    else:
        request.finish()
    assert value(connection, "select pg_sleep(0.05), 1") is not None
    pool.putconn(connection)


def test_a_request_to_cancel_that_has_ended_is_no_reason_to_close(make):
    pool = make()
    connection = pool.getconn()
    before = pid(connection)
    connection.cancel()
    pool.putconn(connection)
    connection = pool.getconn()
    assert pid(connection) == before
    assert value(connection, "select 1") == 1
    pool.putconn(connection)


# ------------------------------------------------------------------------------- the replacement of psycopg2.pool


@pytest.mark.parametrize(("hot_standby", "stays"), [("on", False), ("off", True)])
def test_the_drop_in_keeps_no_session_whose_transaction_failed_on_a_standby(hot_standby, stays):
    psycopg2 = pytest.importorskip("psycopg2")
    from dbpool import psycopg2_pool

    class Connection(psycopg2.extensions.connection):
        def get_parameter_status(self, name):
            return hot_standby if name == "in_hot_standby" else super().get_parameter_status(name)

    pool = psycopg2_pool.ThreadedConnectionPool(1, 1, connection_factory=Connection)
    connection = pool.getconn()
    with pytest.raises(psycopg2.Error):
        value(connection, "select 1/0")
    pool.putconn(connection)
    assert bool(connection.closed) is not stays
    connection = pool.getconn()
    assert value(connection, "select 1") == 1
    pool.putconn(connection)
    pool.closeall()
