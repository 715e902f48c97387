"""The pools of psycopg2 and psycopg connections: what holds for both."""

from __future__ import annotations

import gc
import importlib
import logging
import os
import pickle
import threading
import time

import pytest
from drivers import driver_pool, pid, value
from support import Thread, eventually

import dbpool


class Owner:
    """What holds a loan."""


@pytest.fixture(params=["psycopg2", "psycopg"])
def kind(request):
    return driver_pool(request.param)


@pytest.fixture
def driver(kind):
    return kind.__module__.rpartition("_")[2]


@pytest.fixture
def errors(driver):
    """The driver's module."""
    return importlib.import_module(driver)


@pytest.fixture
def make(kind):
    pools = []

    def make(kwargs=None, **options):
        pools.append(kind(kwargs or {}, **{"max_size": 2, "timeout": 10, **options}))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def other(errors):
    """A connection of no pool, to look at the server with."""
    connection = errors.connect("")
    connection.autocommit = True
    yield connection
    connection.close()


def terminate(other, *pids):
    for number in pids:
        value(other, f"select pg_terminate_backend({number})")
    assert eventually(lambda: not value(other, f"select count(*) from pg_stat_activity where pid in {(*pids, 0)}"))


# ------------------------------------------------------------------------------------------------------- connections


def test_a_connection_is_the_drivers_own_and_is_lent_again(make, errors, driver):
    pool = make()
    connection = pool.getconn()
    assert isinstance(connection, errors.Connection if driver == "psycopg" else errors.extensions.connection)
    assert connection._pool is pool
    first = pid(connection)
    assert value(connection, "select 1") == 1
    pool.putconn(connection)
    assert connection._pool is None
    again = pool.getconn()
    assert pid(again) == first
    with again:  # commits, does not close
        value(again, "select 1")
    assert value(again, "select 1") == 1
    pool.putconn(again)


def test_a_parked_connection_refuses_use(make, errors):
    pool = make()
    connection = pool.getconn()
    pool.putconn(connection)
    assert connection.closed
    for use in (
        lambda: connection.cursor(),
        lambda: connection.commit(),
        lambda: connection.rollback(),
        lambda: connection.close(),
        lambda: connection.autocommit,
        lambda: setattr(connection, "autocommit", True),
        lambda: connection.__enter__(),
    ):
        with pytest.raises(errors.InterfaceError, match="given back"):
            use()
    assert "given" not in repr(connection)
    assert pool.stats().idle == 1


def test_cursors_of_an_earlier_loan_refuse_use(make, errors):
    pool = make(max_size=1)
    connection = pool.getconn()
    cursor, named = connection.cursor(), connection.cursor("named")
    cursor.execute("select generate_series(1, 9)")
    named.execute("select generate_series(1, 9)")
    pool.putconn(connection)
    again = pool.getconn()
    assert again is connection
    for stale in (cursor, named):
        assert stale.closed
        for name in ("execute", "executemany", "fetchone", "fetchmany", "fetchall", "close"):
            method = getattr(stale, name)
            with pytest.raises(errors.InterfaceError, match="given back"):
                method("select 1")
        with pytest.raises(errors.InterfaceError, match="given back"):
            next(iter(stale))
    assert value(again, "select count(*) from pg_cursors") == 0
    pool.putconn(again)


def test_a_guarded_cursor_refuses_use_too(make, errors):
    pool = make(max_size=1)
    connection = pool.getconn()
    connection.autocommit = True
    cursor = connection.cursor("held", withhold=True)
    cursor.execute("select generate_series(1, 9)")
    pool.guard(cursor)
    pool.putconn(connection)
    with pytest.raises(errors.InterfaceError):
        cursor.fetchone()


def test_server_side_cursors_that_were_left_open_are_closed(make):
    pool = make(max_size=1)
    connection = pool.getconn()
    connection.autocommit = True
    cursor = connection.cursor("held", withhold=True)
    cursor.execute("select generate_series(1, 9)")
    assert value(connection, "select count(*) from pg_cursors where is_holdable") == 1
    pool.putconn(connection)
    connection = pool.getconn()
    assert value(connection, "select count(*) from pg_cursors") == 0
    pool.putconn(connection)


# --------------------------------------------------------------------------------------------------------- restoring


@pytest.mark.parametrize("statement", ["select 1", "select 1/0", "begin", "lock table pg_class"])
@pytest.mark.parametrize("autocommit", [False, True])
def test_an_open_transaction_is_rolled_back(make, errors, other, statement, autocommit):
    pool = make(max_size=1)
    connection = pool.getconn()
    connection.autocommit = autocommit
    try:
        with connection.cursor() as cursor:
            cursor.execute("begin" if autocommit else "select 1")
            cursor.execute(statement)
    except errors.DataError:
        pass
    first = pid(connection)
    pool.putconn(connection)
    assert value(other, f"select state from pg_stat_activity where pid = {first}") == "idle"
    connection = pool.getconn()
    assert pid(connection) == first
    assert connection.autocommit is False
    pool.putconn(connection)


def test_state_at_the_clients_end_is_as_configure_left_it(make, driver):
    read_only = "read_only" if driver == "psycopg" else "readonly"

    def configure(connection):
        assert connection.autocommit
        setattr(connection, read_only, False)

    pool = make(configure=configure, max_size=1)
    connection = pool.getconn()
    names = ("autocommit", "isolation_level", read_only, "deferrable", "cursor_factory")
    before = {name: getattr(connection, name) for name in names}
    assert before[read_only] is False
    assert before["autocommit"] is False
    connection.isolation_level = 3
    setattr(connection, read_only, True)
    connection.deferrable = True
    connection.cursor_factory = type("Mine", (type(connection.cursor()),), {})
    connection.autocommit = True
    value(connection, "select 1")
    pool.putconn(connection)
    again = pool.getconn()
    assert again is connection
    assert {name: getattr(again, name) for name in names} == before
    assert value(again, "show default_transaction_isolation") == "read committed"
    pool.putconn(again)


@pytest.mark.parametrize("wanted", [True, False, None])
def test_borrowers_start_with_the_autocommit_that_was_asked_for(make, wanted):
    pool = make(max_size=1, autocommit=wanted, configure=lambda connection: None)
    for _ in range(2):
        connection = pool.getconn()
        assert connection.autocommit is bool(wanted)
        connection.autocommit = not wanted
        value(connection, "select 1")
        pool.putconn(connection)


@pytest.mark.parametrize("reset", ["discard_all", "reset search_path"])
def test_reset_runs_at_each_putconn(make, reset):
    pool = make(max_size=1, reset=reset)
    connection = pool.getconn()
    value(connection, "set search_path to nowhere")
    connection.commit()
    pool.putconn(connection)
    connection = pool.getconn()
    assert value(connection, "show search_path") == '"$user", public'
    pool.putconn(connection)
    assert pool.stats().opened == 1


def test_without_a_reset_the_session_keeps_what_it_was_told(make):
    pool = make(max_size=1)
    connection = pool.getconn()
    value(connection, "set search_path to nowhere")
    connection.commit()
    pool.putconn(connection)
    connection = pool.getconn()
    assert value(connection, "show search_path") == "nowhere"
    pool.putconn(connection)


def test_a_reset_that_fails_closes_the_connection(make, other):
    pool = make(max_size=1, reset="select 1/0")
    connection = pool.getconn()
    first = pid(connection)
    pool.putconn(connection)
    assert connection.closed
    connection = pool.getconn()
    assert pid(connection) != first
    pool.putconn(connection)


def test_a_reset_that_always_fails_is_a_warning_once(make, caplog):
    caplog.set_level(logging.WARNING, "dbpool.pool")
    pool = make(max_size=1, reset="selec 1")
    for _ in range(3):
        pool.putconn(pool.getconn())
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "selec" in caplog.text


def test_a_parked_round_trip_is_not_made(make, other):
    pool = make(max_size=1)
    connection = pool.getconn()
    assert value(connection, "select 1") == 1
    connection.rollback()
    query = f"select query, query_start::text from pg_stat_activity where pid = {pid(connection)}"
    cursor = other.cursor()
    cursor.execute(query)
    before = cursor.fetchone()
    for _ in range(10):
        pool.putconn(connection)
        connection = pool.getconn()
    cursor.execute(query)
    assert cursor.fetchone() == before
    pool.putconn(connection)


# ------------------------------------------------------------------------------------------------------------- dying


def test_a_dead_idle_connection_is_not_lent(make, other):
    pool = make(max_size=2)
    connections = [pool.getconn(), pool.getconn()]
    dead = {pid(connection) for connection in connections}
    for connection in connections:
        pool.putconn(connection)
    terminate(other, *dead)
    assert eventually(lambda: pool.stats().lost == 2)
    connection = pool.getconn()
    assert pid(connection) not in dead
    assert value(connection, "select 1") == 1
    pool.putconn(connection)


@pytest.mark.parametrize("reset", ["rollback", "discard_all"])
def test_a_connection_that_another_thread_uses_is_closed_without_waiting_for_it(make, errors, other, reset):
    pool = make(reset=reset)
    connection = pool.getconn()
    number = pid(connection)
    user = Thread(value, connection, "select pg_sleep(30)")
    assert eventually(lambda: value(other, f"select state from pg_stat_activity where pid = {number}") == "active")
    start = time.monotonic()
    pool.putconn(connection)
    assert time.monotonic() - start < 2
    with pytest.raises(errors.Error):
        user.finish(5)
    connection = pool.getconn()
    assert pid(connection) != number
    pool.putconn(connection)


def test_a_connection_that_died_on_loan_is_replaced(make, errors, other):
    pool = make(max_size=1)
    connection = pool.getconn()
    terminate(other, pid(connection))
    with pytest.raises((errors.OperationalError, errors.InterfaceError)):
        value(connection, "select 1")
    pool.putconn(connection)
    connection = pool.getconn()
    assert value(connection, "select 1") == 1
    pool.putconn(connection)


def test_a_connection_that_the_borrower_closed_is_replaced(make):
    pool = make(max_size=1)
    connection = pool.getconn()
    connection.close()
    assert connection.closed
    pool.putconn(connection)
    connection = pool.getconn()
    assert value(connection, "select 1") == 1
    pool.putconn(connection)


def test_the_end_of_all_sessions_heals_with_all_threads_waiting(make, other):
    pool = make(max_size=3, timeout=10)
    connections = [pool.getconn() for _ in range(3)]
    pids = [pid(connection) for connection in connections]

    def work():
        connection = pool.getconn()
        result = value(connection, "select 1")
        pool.putconn(connection)
        return result

    for connection in connections:
        pool.putconn(connection)
    pool.pause()
    threads = [Thread(work) for _ in range(8)]
    assert eventually(lambda: pool.stats().waiting == 8)
    terminate(other, *pids)
    assert eventually(lambda: pool.stats().idle == 0)
    pool.resume()
    assert [thread.finish() for thread in threads] == [1] * 8


def test_a_test_query_that_always_fails_is_not_tried_for_ever(make, errors):
    pool = make(max_size=2, test_query="select nonsense")
    with pytest.raises(errors.ProgrammingError, match="nonsense"):
        pool.getconn()
    assert pool.stats().in_use == 0
    assert pool.stats().discarded == 3


def test_test_query_leaves_no_transaction_and_passes_over_the_unfit(make):
    query = "do $$ begin if current_setting('my.fault', true) = '1' then raise 'no'; end if; end $$"
    pool = make(max_size=2, test_query=query)
    one, two = pool.getconn(), pool.getconn()
    fit = pid(one)
    value(two, "set my.fault = '1'")
    two.commit()
    pool.putconn(one)
    pool.putconn(two)
    connection = pool.getconn()
    assert pid(connection) == fit
    assert connection.info.transaction_status == 0
    pool.putconn(connection)
    assert pool.stats().discarded == 1


# -------------------------------------------------------------------------------------------------------------- errors


def test_errors_are_the_drivers_and_the_pools(make, errors, other):
    pool = make(max_size=1, name="shop")
    connection = pool.getconn()
    with pytest.raises(errors.OperationalError, match="shop") as caught:
        pool.getconn(0.05)
    assert isinstance(caught.value, dbpool.PoolTimeout)
    assert caught.value.code == -3
    with pytest.raises(errors.OperationalError, match=r"^connection pool exhausted$"):
        pool.getconn(0)
    pool.putconn(connection)
    with pytest.raises(errors.InterfaceError) as caught:
        pool.putconn(connection)
    assert isinstance(caught.value, dbpool.NotLeased)
    stranger = make().getconn()
    for foreign in (stranger, other, object()):
        with pytest.raises(errors.InterfaceError) as caught:
            pool.putconn(foreign)
        assert isinstance(caught.value, dbpool.ForeignConnection)
    assert value(other, "select 1") == value(stranger, "select 1") == 1
    pool.close()
    with pytest.raises(errors.InterfaceError) as caught:
        pool.getconn()
    assert isinstance(caught.value, dbpool.PoolClosed)
    with pytest.raises(errors.InterfaceError):
        pool.stats()


WRONG = [
    ({"user": "nobody_at_all"}, "FATAL"),
    ({"password": "wrong"}, "FATAL"),
    ({"dbname": "no_such_database"}, "FATAL"),
    ({"sslmode": "bogus"}, 'invalid sslmode value: "bogus"'),
    ({"port": "99999"}, 'invalid port number: "99999"'),
    ({"service": "no_such_service"}, 'definition of service "no_such_service" not found'),
]


@pytest.mark.parametrize(("wrong", "words"), WRONG)
def test_what_will_not_go_away_fails_at_once_with_the_drivers_words(make, errors, wrong, words):
    pool = make(wrong, timeout=20)
    start = time.monotonic()
    with pytest.raises(errors.OperationalError, match=words) as caught:
        pool.getconn()
    assert not isinstance(caught.value, dbpool.Error)
    assert time.monotonic() - start < 5


def test_a_server_that_is_not_there_is_tried_until_the_deadline(make, errors):
    pool = make({"host": "127.0.0.1", "port": 1}, timeout=0.7)
    start = time.monotonic()
    with pytest.raises(errors.OperationalError, match="port 1 failed"):
        pool.getconn()
    assert 0.6 < time.monotonic() - start < 1.2
    assert pool.stats().connect_failures >= 2


def test_who_does_not_wait_for_borrowers_waits_for_what_is_under_way(make, other):
    pool = make(max_size=1, timeout=0, test_query="select 1")
    for _ in range(10):
        connection = pool.getconn()
        other.cursor().execute("select pg_terminate_backend(%s)", [pid(connection)])
        pool.putconn(connection)
    pool.putconn(pool.getconn())


def test_at_a_cold_start_each_thread_that_does_not_wait_gets_a_connection(make):
    pool, barrier = make(max_size=8, timeout=0), threading.Barrier(4)

    def use():
        barrier.wait()
        connection = pool.getconn()
        barrier.wait()
        pool.putconn(connection)

    for thread in [Thread(use) for _ in range(4)]:
        thread.finish()


def test_who_does_not_wait_gets_the_old_text_when_all_are_lent(make, errors):
    pool = make(max_size=1, timeout=0)
    connection = pool.getconn()
    with pytest.raises(errors.OperationalError, match=r"^connection pool exhausted$") as caught:
        pool.getconn()
    assert isinstance(caught.value, dbpool.PoolTimeout)
    pool.putconn(connection)
    pool.close()
    with pytest.raises(errors.InterfaceError):
        pool.getconn()


def test_an_error_of_configure_is_raised_and_nothing_stays_open(make, other):
    pids = []

    def configure(connection):
        pids.append(pid(connection))
        raise ZeroDivisionError

    pool = make(configure=configure)
    with pytest.raises(ZeroDivisionError):
        pool.getconn()
    assert eventually(lambda: not value(other, f"select count(*) from pg_stat_activity where pid = {pids[0]}"))
    assert pool.stats().in_use == pool.stats().connecting == 0


def test_configure_must_leave_no_transaction(make, errors):
    pool = make(configure=lambda connection: value(connection, "begin"))
    with pytest.raises(errors.ProgrammingError, match="transaction"):
        pool.getconn()


def test_no_password_is_to_be_seen(make, errors, caplog):
    caplog.set_level(logging.DEBUG)
    pool = make({"password": "canary-1"}, timeout=0.3, name="shop")
    with pytest.raises(errors.OperationalError) as caught:
        pool.getconn()
    seen = [
        repr(pool),
        str(pool),
        repr(vars(pool)),
        repr(vars(pool._driver)),
        repr(vars(pool._hosted)),
        str(caught.value),
    ]
    with pytest.raises(TypeError) as refused:
        pickle.dumps(pool)
    seen += [str(refused.value), repr(caught.value), caplog.text]
    assert not [text for text in seen if "canary" in text]


# --------------------------------------------------------------------------------------- loans that end by themselves


def test_a_hundred_threads_that_never_give_back_are_all_served(make, caplog):
    pool = make(max_size=2, timeout=20)
    results = []

    def work():
        owner = Owner()
        owner.connection = pool.getconn(owner=owner)
        owner.itself = owner
        results.append(value(owner.connection, "select 1"))

    threads = [threading.Thread(target=work) for _ in range(100)]
    gc.disable()
    try:
        with caplog.at_level(logging.WARNING, "dbpool.pool"):
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
            assert results == [1] * 100
            assert pool.stats().in_use == 0
            pool.putconn(pool.getconn())
    finally:
        gc.enable()
    texts = [record.getMessage() for record in caplog.records if record.name == "dbpool.pool"]
    assert len(texts) == 100
    assert all("the thread has ended" in text for text in texts)


def test_the_next_borrower_of_a_reclaimed_connection_finds_it_clean(make, errors):
    pool = make(max_size=1)
    kept = []

    def work():
        owner = Owner()
        connection = pool.getconn(owner=owner)
        connection.autocommit = True
        cursor = connection.cursor()
        cursor.execute("select generate_series(1, 3)")
        kept.append((owner, connection, cursor, pid(connection)))

    Thread(work).finish()
    connection = pool.getconn(5)
    assert pid(connection) == kept[0][3]
    assert connection.autocommit is False
    with pytest.raises(errors.InterfaceError):
        kept[0][2].fetchone()
    pool.putconn(connection)


def test_an_open_transaction_of_an_ended_thread_ends_at_once(make, other):
    pool = make(max_size=1)
    kept = []

    def work():
        kept.append(Owner())
        kept.append(pool.getconn(owner=kept[0]))
        value(kept[1], "select 1")
        return pid(kept[1])

    number = Thread(work).finish()
    assert eventually(lambda: not value(other, f"select count(*) from pg_stat_activity where pid = {number}"))
    assert pool.stats().in_use == 0
    assert kept[1].closed


def test_a_loan_whose_owner_is_garbage_ends(make):
    pool = make(max_size=1)
    owner = Owner()
    connection = pool.getconn(owner=owner)
    del owner
    assert pool.stats().in_use == 0
    assert connection.closed


def test_a_shared_owner_outlives_the_thread(make):
    pool = make(max_size=2)
    owners = [Owner(), Owner()]
    owners[0].keeps_loan = True
    owners[1]._thread_ident = threading.get_ident()
    connections = Thread(lambda: [pool.getconn(owner=owner) for owner in owners]).finish()
    assert pool.stats().in_use == 2
    for connection in connections:
        assert value(connection, "select 1") == 1
        pool.putconn(connection)


def test_what_was_given_back_is_not_taken_back_again(make):
    pool = make(max_size=1)
    owner = Owner()

    def work(owner):
        pool.putconn(pool.getconn(owner=owner))

    Thread(work, owner).finish()
    connection = pool.getconn()
    owner = None
    gc.collect()
    assert pool.stats().in_use == 1
    assert value(connection, "select 1") == 1
    pool.putconn(connection)


def test_a_connection_that_is_garbage_gives_its_slot_back(make):
    pool = make(max_size=1)
    for owner in (None, Owner()):
        pool.getconn(owner=owner)
        gc.collect()
        pool.putconn(pool.getconn(5))


def test_close_takes_back_what_garbage_holds(make, other):
    pool = make(max_size=1)
    gc.disable()
    try:
        owner = Owner()
        owner.itself = owner
        owner.connection = pool.getconn(owner=owner)
        number = pid(owner.connection)
        del owner
        pool.close()
    finally:
        gc.enable()
    assert eventually(lambda: not value(other, f"select count(*) from pg_stat_activity where pid = {number}"))


# ------------------------------------------------------------------------------------------------------- life of a pool


def test_a_repr_shows_the_counts(make, kind):
    pool = make(name="shop")
    connection = pool.getconn()
    assert repr(pool) == f"<dbpool.{kind.__name__} 'shop' idle=0 in_use=1 waiting=0 total=1 max=2>"
    pool.putconn(connection)
    pool.close()
    assert repr(pool) == f"<dbpool.{kind.__name__} 'shop' closed>"


def test_a_closed_pool_closes_what_is_put(make, other):
    pool = make()
    lent, idle = pool.getconn(), pool.getconn()
    pids = pid(lent), pid(idle)
    pool.putconn(idle)
    pool.close()
    pool.putconn(lent)
    assert lent.closed
    assert eventually(lambda: not value(other, f"select count(*) from pg_stat_activity where pid in {pids}"))
    assert pool.closed


def test_a_native_pool_in_the_same_process(make, make_pool):
    native, pool = make_pool(max_size=2), make()
    for _ in range(20):
        with native.connection(10):
            connection = pool.getconn()
            assert value(connection, "select 1") == 1
            pool.putconn(connection)


def test_over_tls_and_a_unix_socket(make):
    tls = make({"host": "127.0.0.1", "sslmode": "require"})
    socket = make({"host": os.environ["DBPOOL_PGSOCKET"]})
    for pool in (tls, socket):
        first = pool.getconn()
        number = pid(first)
        pool.putconn(first)
        time.sleep(0.2)  # what the server sends by itself after the handshake does not make the connection doubtful
        assert pid(pool.getconn()) == number
        assert pool.stats().lost == 0
