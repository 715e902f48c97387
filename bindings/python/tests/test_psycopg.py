"""PsycopgPool: what is psycopg's own."""

from __future__ import annotations

import contextlib

import pytest
from drivers import driver_pool, pid, value
from support import Thread

import dbpool

psycopg = pytest.importorskip("psycopg")
from psycopg import rows  # noqa: E402


@pytest.fixture
def make():
    pools = []

    def make(kwargs=None, **options):
        pools.append(driver_pool("psycopg")(kwargs or {}, **{"max_size": 1, "timeout": 10, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@contextlib.contextmanager
def lent(pool):
    connection = pool.getconn()
    try:
        yield connection
    finally:
        pool.putconn(connection)


class Loader(psycopg.adapt.Loader):
    def load(self, data):
        return "mine"


def test_arguments_of_connect_and_a_class_of_the_users(make):
    class Connection(psycopg.Connection):
        def hello(self):
            return "hello"

    pool = make(
        {"connection_class": Connection, "row_factory": rows.dict_row, "autocommit": True, "application_name": "a"}
    )
    with lent(pool) as connection:
        assert connection.hello() == "hello"
        assert connection.execute("show application_name").fetchone() == {"application_name": "a"}
        assert connection.autocommit
        assert connection.info.get_parameters()["tcp_user_timeout"] == "30000"


def test_rows_cursors_and_adapters_are_those_that_configure_left(make):
    def configure(connection):
        connection.adapters.register_loader("bool", Loader)

    pool = make(configure=configure)
    with lent(pool) as connection:
        connection.row_factory = rows.dict_row
        connection.cursor_factory = psycopg.ClientCursor
        connection.server_cursor_factory = type("Mine", (psycopg.ServerCursor,), {})
        connection.prepare_threshold = 0
        connection.prepared_max = 3
        connection.adapters.register_loader("int4", Loader)
        connection.adapters.types.add(psycopg.types.TypeInfo("mine", 987654, 987655))
        connection.add_notice_handler(print)
        connection.add_notify_handler(print)
        assert connection.execute("select 1 as i, true as b").fetchone() == {"i": "mine", "b": "mine"}
    with lent(pool) as connection:
        assert connection.execute("select 1, true").fetchone() == (1, "mine")
        assert type(connection.cursor()) is psycopg.Cursor
        with connection.cursor("named") as cursor:
            assert type(cursor) is psycopg.ServerCursor
        assert (connection.prepare_threshold, connection.prepared_max) == (5, 100)
        assert connection.adapters.types.get("mine") is None
        value(connection, "do $$ begin raise notice 'not printed'; end $$")


@pytest.mark.parametrize("reset", ["discard_all", "deallocate all"])
def test_the_cache_of_prepared_statements_hears_of_the_reset(make, reset):
    pool = make(reset=reset)
    for _ in range(3):
        with lent(pool) as connection:
            for _ in range(8):
                assert connection.execute("select %s::int", [1]).fetchone() == (1,)
            assert value(connection, "select count(*) from pg_prepared_statements") > 0
    assert pool.stats().opened == 1


@pytest.mark.parametrize("reset", ["discard_all", "deallocate all"])
def test_a_statement_prepared_after_many_resets_is_forgotten_too(make, reset):
    # psycopg heeds only the first of equal commands, and there was nothing to forget at the time.
    pool = make({"autocommit": True}, reset=reset)  # else psycopg forgets them at the rollback
    for _ in range(12):
        with lent(pool) as connection:
            for _ in range(2):
                assert connection.execute("select %s::int + 1", [1]).fetchone() == (2,)
    assert pool.stats().opened == 1


def test_prepared_statements_stay_without_a_reset(make):
    pool = make()
    with lent(pool) as connection:
        connection.execute("select %s::int", [1], prepare=True)
        connection.commit()  # after a rollback psycopg drops them all
    with lent(pool) as connection:
        assert value(connection, "select count(*) from pg_prepared_statements") == 1


def test_what_a_borrower_hangs_on_a_connection_does_not_stay(make, tmp_path):
    pool = make(autocommit=True)
    heard, log = [], tmp_path / "log"
    with lent(pool) as connection, log.open("w") as file:
        first = pid(connection)
        connection.tenant = "A"
        connection.pgconn.notice_handler = connection.pgconn.notify_handler = heard.append
        connection.pgconn.trace(file.fileno())
    with lent(pool) as connection:
        told = []
        connection.add_notice_handler(lambda notice: told.append(notice.message_primary))
        connection.execute("do $$ begin raise notice 'of B'; end $$")
        connection.execute("listen mine")
        connection.execute("notify mine")
        assert pid(connection) == first
        assert not hasattr(connection, "tenant")
        assert told == ["of B"]
    assert (heard, log.read_text()) == ([], "")


def test_a_class_of_the_users_keeps_its_attributes(make):
    class Connection(psycopg.Connection):
        def count(self):
            self.counted = getattr(self, "counted", 0) + 1
            return self.counted

    pool = make({"connection_class": Connection})
    for expected in (1, 2):
        with lent(pool) as connection:
            assert connection.count() == expected


def test_a_pipeline_left_on_closes_the_connection(make):
    pool = make()
    connection = pool.getconn()
    first = pid(connection)
    pipeline = connection.pipeline()
    pipeline.__enter__()
    connection.execute("select 1")
    pool.putconn(connection)
    assert connection.closed
    with lent(pool) as connection:
        assert pid(connection) != first


def test_a_transaction_block_left_open_closes_the_connection(make):
    pool = make()
    connection = pool.getconn()
    block = connection.transaction()
    block.__enter__()
    pool.putconn(connection)
    assert connection.closed
    with lent(pool) as connection:
        assert value(connection, "select 1") == 1


def test_a_copy_left_open_closes_the_connection(make):
    pool = make()
    connection = pool.getconn()
    copy = connection.cursor().copy("copy (select 1) to stdout")
    copy.__enter__()
    pool.putconn(connection)
    assert connection.closed
    with lent(pool) as connection:
        assert value(connection, "select 1") == 1


@pytest.mark.parametrize("reset", ["rollback", "discard_all"])
@pytest.mark.parametrize("autocommit", [True, False])
def test_notifications_that_nobody_reads_on_keep_nobody_waiting(make, reset, autocommit):
    pool = make(reset=reset, autocommit=autocommit)
    connection = pool.getconn()
    connection.execute("listen news")
    connection.execute("notify news")
    connection.commit()
    notifies = connection.notifies(timeout=30)
    assert next(notifies).channel == "news"  # psycopg's lock stays with the generator
    Thread(pool.putconn, connection).finish(5)
    assert connection.closed

    def borrow():
        with lent(pool) as connection:
            return value(connection, "select 1")

    assert Thread(borrow).finish(10) == 1
    with pytest.raises(psycopg.Error):
        next(notifies)


def test_a_with_block_of_the_connection_does_not_close_it(make):
    pool = make()
    connection = pool.getconn()
    with connection:
        connection.execute("select 1")
    assert not connection.closed
    pool.putconn(connection)
    assert pool.stats().idle == 1


def test_a_server_side_cursor_made_without_the_connections_help(make):
    pool = make()
    connection = pool.getconn()
    connection.autocommit = True
    cursor = psycopg.ServerCursor(connection, "held", withhold=True)
    pool.guard(cursor)
    cursor.execute("select generate_series(1, 9)")
    pool.putconn(connection)
    with lent(pool) as connection:
        with pytest.raises(psycopg.InterfaceError):
            cursor.fetchone()
        assert value(connection, "select count(*) from pg_cursors") == 0


@pytest.mark.parametrize("wrong", [psycopg.AsyncConnection, object, "x"])
def test_a_class_that_cannot_be_pooled_is_refused_at_once(make, wrong):
    with pytest.raises(psycopg.ProgrammingError, match="connection_class") as caught:
        make({"connection_class": wrong})
    assert isinstance(caught.value, dbpool.InvalidArgument)


def test_a_conninfo_is_psycopgs_to_refuse(make):
    with pytest.raises(psycopg.ProgrammingError):
        make({"conninfo": "this is none"}).getconn()
