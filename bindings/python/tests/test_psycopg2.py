"""Psycopg2Pool: what is psycopg2's own."""

from __future__ import annotations

import contextlib
import datetime
import weakref

import pytest
from drivers import driver_pool, pid, value

import dbpool

psycopg2 = pytest.importorskip("psycopg2")
from psycopg2 import extensions, extras, sql  # noqa: E402


@pytest.fixture
def make():
    pools = []

    def make(kwargs=None, **options):
        pools.append(driver_pool("psycopg2")(kwargs or {}, **{"max_size": 1, "timeout": 10, **options}))
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


def test_everything_that_wants_a_real_connection_takes_ours(make):
    with lent(make()) as connection:
        extras.register_uuid(conn_or_curs=connection)
        extras.register_default_jsonb(conn_or_curs=connection, loads=lambda text: text)
        assert extensions.quote_ident("a b", connection) == '"a b"'
        assert sql.Identifier("a b").as_string(connection) == '"a b"'
        assert extensions.encrypt_password("p", "u", scope=connection, algorithm="md5").startswith("md5")
        extensions.QuotedString("x").prepare(connection)
        assert extensions.cursor(connection).connection is connection
        assert weakref.ref(connection)() is connection
        cursor = connection.cursor()
        assert cursor.connection is connection
        assert isinstance(cursor, extensions.cursor)
        assert isinstance(connection, extensions.connection)
        assert connection.get_native_connection()
        assert not hasattr(connection, "__dict__")


def test_the_users_factories_are_used(make):
    class Connection(extensions.connection):
        def hello(self):
            return "hello"

    class Cursor(extensions.cursor):
        def hello(self):
            return "hello"

    pool = make({"connection_factory": Connection, "cursor_factory": Cursor})
    with lent(pool) as connection:
        assert isinstance(connection, Connection)
        assert connection.hello() == "hello"
        cursor = connection.cursor()
        assert type(cursor) is Cursor
        assert connection.cursor("named").hello() == "hello"
        assert isinstance(connection.cursor(cursor_factory=extras.DictCursor), extras.DictCursor)
    with pytest.raises(psycopg2.InterfaceError):
        cursor.hello()


def test_a_factory_that_makes_its_cursors_itself(make):
    class Connection(extensions.connection):
        def cursor(self):
            return super().cursor()

    pool = make({"connection_factory": Connection})
    with lent(pool) as connection:
        cursor = connection.cursor()
        cursor.execute("select 1")
    with lent(pool), pytest.raises(psycopg2.InterfaceError):
        cursor.fetchone()


@pytest.mark.parametrize("factory", [extras.DictConnection, extras.RealDictConnection, extras.NamedTupleConnection])
def test_factories_with_cursors_of_their_own(make, factory):
    with lent(make({"connection_factory": factory})) as connection:
        cursor = connection.cursor()
        cursor.execute("select 1 as one")
        row = cursor.fetchone()
        assert (row.one if hasattr(row, "one") else row["one"]) == 1


def test_typecasters_are_those_that_configure_left(make):
    def casting(result):
        return extensions.new_type((25,), "TEXT", lambda text, _cursor: result)

    pool = make(configure=lambda connection: extensions.register_type(casting("configured"), connection))
    with lent(pool) as connection:
        assert value(connection, "select 'x'::text") == "configured"
        extensions.register_type(casting("changed"), connection)
        extensions.register_type(extensions.new_type((23,), "INT", lambda text, _cursor: "int"), connection)
        assert value(connection, "select 'x'::text") == "changed"
    with lent(pool) as connection:
        assert value(connection, "select 'x'::text") == "configured"
        assert value(connection, "select 1") == 1


def test_encoding_notices_and_notifications_are_those_of_a_new_connection(make):
    pool = make()
    with lent(pool) as connection:
        connection.set_client_encoding("LATIN1")
        connection.autocommit = True
        value(connection, "do $$ begin raise notice 'for me'; end $$")
        value(connection, "listen mine")
        value(connection, "notify mine")
        connection.poll()
        assert connection.notices
        assert connection.notifies
    with lent(pool) as connection:
        assert connection.encoding == "UTF8"
        assert value(connection, "show client_encoding") == "UTF8"
        assert connection.notices == connection.notifies == []


def test_a_level_set_in_autocommit_mode_does_not_stay_with_the_server(make):
    pool = make()
    with lent(pool) as connection:
        connection.set_session(isolation_level="SERIALIZABLE", readonly=True, autocommit=True)
        assert value(connection, "show default_transaction_isolation") == "serializable"
    with lent(pool) as connection:
        assert value(connection, "show default_transaction_isolation") == "read committed"
        assert value(connection, "show default_transaction_read_only") == "off"


def test_autocommit_is_turned_back_without_asking_the_server(make):
    with lent(make()) as watcher:
        pool = make()
        with lent(pool) as connection:
            connection.autocommit = True
            value(connection, "SELECT 6 * 7")
            number = pid(connection)
        with lent(pool) as connection:
            assert connection.autocommit is False
            query = f"SELECT query FROM pg_stat_activity WHERE pid = {number}"
            assert value(watcher, query) == "SELECT 6 * 7"


def test_a_prepared_two_phase_transaction_closes_the_connection(make):
    pool = make()
    with lent(pool) as connection:
        first = pid(connection)
        connection.tpc_begin(connection.xid(1, "a", "b"))
    with lent(pool) as connection:
        second = pid(connection)
    assert pool.stats().in_use == 0
    assert first is not None
    assert second is not None


@pytest.mark.parametrize("wrong", [{"async_": True}, {"async": 1}, {"connection_factory": lambda dsn: None}])
def test_what_cannot_be_pooled_is_refused_at_once(make, wrong):
    with pytest.raises(psycopg2.ProgrammingError, match=next(iter(wrong)).rstrip("_")) as caught:
        make(wrong)
    assert isinstance(caught.value, dbpool.InvalidArgument)


def test_a_dsn_is_psycopg2s_to_refuse(make):
    with pytest.raises(psycopg2.ProgrammingError, match="dsn"):
        make({"dsn": "this is none"}).getconn()


def test_a_dsn_and_keywords_go_together(make):
    with lent(
        make({"dsn": "application_name=from_dsn keepalives_idle=7", "options": "-c search_path=x"})
    ) as connection:
        assert value(connection, "show application_name") == "from_dsn"
        assert value(connection, "show search_path") == "x"
        found = connection.get_dsn_parameters()
        assert (found["keepalives_idle"], found["tcp_user_timeout"], found["connect_timeout"]) == ("7", "30000", "10")


@pytest.mark.parametrize("reset", ["discard_all", "RESET ALL"])
def test_what_psycopg2_set_when_it_connected_holds_after_the_reset(make, reset):
    pool = make({"options": "-c datestyle=SQL,DMY"}, reset=reset)
    for _ in range(3):
        with lent(pool) as connection:
            assert value(connection, "select date '2026-02-03'") == datetime.date(2026, 2, 3)
            value(connection, "set datestyle to german")
            connection.commit()


@pytest.mark.parametrize("reset", ["rollback", "discard_all"])
def test_what_configure_told_psycopg2_holds_for_every_borrower(make, reset):
    def configure(connection):
        connection.set_client_encoding("LATIN1")
        connection.set_session(isolation_level="SERIALIZABLE", readonly=True)

    pool = make(configure=configure, autocommit=True, reset=reset)
    for _ in range(3):
        with lent(pool) as connection:
            assert value(connection, "select chr(228)") == "\u00e4"
            assert value(connection, "show transaction_isolation") == "serializable"
            assert value(connection, "show transaction_read_only") == "on"
            connection.autocommit = False


def test_a_large_object_of_an_earlier_loan_begins_no_transaction_for_the_next(make):
    pool = make()
    with lent(pool) as connection:
        number = pid(connection)
        large = connection.lobject(0, "wb")
        large.write("x")
        connection.commit()
    large.unlink()  # in the pool
    with lent(pool) as connection:
        assert connection.get_transaction_status() == extensions.TRANSACTION_STATUS_IDLE
        assert pid(connection) == number
        assert value(connection, f"select count(*) from pg_largeobject_metadata where oid = {large.oid}") == 1
        value(connection, f"select lo_unlink({large.oid})")
        connection.commit()


def test_nothing_is_sent_after_a_reset_that_has_undone_nothing(make):
    pool = make(reset="discard_all", max_size=2)
    with lent(pool) as first:
        number = pid(first)
    with lent(pool) as connection, lent(pool) as other:
        assert number in (pid(connection), pid(other))
        watcher, watched = (other, number) if pid(connection) == number else (connection, number)
        last = value(watcher, f"select query from pg_stat_activity where pid = {watched}")
        assert last in ("DISCARD ALL", "SELECT 1")  # that one after a slow reset
