"""Calls from the library into Python."""

from __future__ import annotations

import gc
import logging
import signal
import subprocess
import threading

import pytest
from support import eventually, query, run_program

import dbpool
from dbpool import _callbacks


def test_configure_is_called_once_for_each_connection(make_pool):
    seen = []

    def configure(conn):
        seen.append((threading.get_ident(), query(conn, "set application_name = 'configured'")))

    pool = make_pool(max_size=1, configure=configure)
    for _ in range(3):
        with pool.connection() as conn:
            assert query(conn, "show application_name") == "configured"
    assert [thread == threading.get_ident() for thread, _ in seen] == [False]


def test_a_connection_kept_by_configure_reaches_nothing(make_pool):
    kept = []
    pool = make_pool(max_size=1, configure=kept.append)
    with pool.connection():
        assert isinstance(kept[0], dbpool.Connection)
        assert not kept[0]
        assert int(kept[0]) == 0


@pytest.mark.parametrize("name", ["configure", "conninfo_provider"])
def test_what_a_callback_raises_is_the_cause_of_the_connect_error(make_pool, name):
    def fail(*_):
        raise KeyError("no token")

    pool = make_pool(min_size=1, **{name: fail})
    for call in (lambda: pool.get(1), lambda: pool.wait(1)):
        with pytest.raises(dbpool.ConnectError, match=name) as caught:
            call()
        assert repr(caught.value.__cause__) == "KeyError('no token')"


@pytest.mark.parametrize("kind", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_no_exception_passes_through_the_library(make_pool, kind):
    def fail(conn):
        raise kind

    with pytest.raises(dbpool.ConnectError) as caught:
        make_pool(configure=fail).get(1)
    assert isinstance(caught.value.__cause__, kind)


def test_a_recursion_without_end_is_an_exception():
    """The interpreter's limit is made for stacks of ordinary threads."""
    program = """
        import dbpool

        def recurse(_):
            sorted([1, 2], key=recurse)

        with dbpool.Pool(max_size=1, configure=recurse) as pool:
            try:
                pool.get(2)
            except dbpool.ConnectError as error:
                assert isinstance(error.__cause__, RecursionError), repr(error.__cause__)
            else:
                raise AssertionError("nothing was raised")
    """
    assert run_program(program) == ""


def test_a_callback_that_has_recovered_is_no_cause(make_pool):
    attempts = []

    def configure(conn):
        attempts.append(1)
        if len(attempts) == 1:
            raise KeyError

    pool = make_pool(configure=configure, max_size=1)
    with pool.connection(timeout=10) as conn:
        assert query(conn, "select 1") == "1"
    assert pool._callbacks.raised == {}


def test_conninfo_provider_chooses_the_conninfo(make_pool):
    pool = make_pool(max_size=1, conninfo_provider=lambda: "application_name=provided")
    with pool.connection() as conn:
        assert query(conn, "show application_name") == "provided"


@pytest.mark.parametrize("wrong", [None, 5, "a\0b", "x" * 70_000])
def test_a_conninfo_that_cannot_be_used_is_the_cause(make_pool, wrong):
    with pytest.raises(dbpool.ConnectError) as caught:
        make_pool(conninfo_provider=lambda: wrong).get(1)
    assert isinstance(caught.value.__cause__, (TypeError, dbpool.InvalidArgument))


def test_a_program_that_a_callback_starts_can_be_ended(make_pool):
    """The library's threads block all signals, which such a program would inherit."""
    codes = []

    def provide():
        with subprocess.Popen(["sleep", "60"]) as helper:
            helper.terminate()
            codes.append(helper.wait(10))
        return ""

    pool = make_pool(max_size=1, conninfo_provider=provide, connect_timeout=20)
    with pool.connection(timeout=30) as conn:
        assert query(conn, "select 1") == "1"
    assert codes == [-signal.SIGTERM]


def test_a_callback_that_would_wait_for_itself_is_told(make_pool):
    errors = []

    def configure(conn):
        try:
            pool.get(5)
        except dbpool.Error as error:
            errors.append(error)

    pool = make_pool(max_size=1, configure=configure)
    with pool.connection():
        assert [type(error) for error in errors] == [dbpool.WouldDeadlock]


NOTICE = "do $$ begin raise notice 'hear, hear'; end $$"


def notice(pool):
    with pool.connection() as conn:
        query(conn, NOTICE)


def test_the_log_goes_to_the_logger_that_was_named(make_pool, caplog):
    caplog.set_level(logging.DEBUG)
    for log, name in ((True, "dbpool"), (logging.getLogger("mine"), "mine")):
        notice(make_pool(log=log))
        assert eventually(lambda name=name: any(r.name == name and "hear, hear" in r.message for r in caplog.records))


def test_the_log_goes_to_the_function_with_the_levels_of_logging(make_pool):
    lines = []
    notice(make_pool(log=lambda level, message: lines.append((level, message))))
    assert eventually(lambda: any("hear, hear" in message for _, message in lines))
    assert {level for level, _ in lines} <= {logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR}


def test_a_log_function_that_raises_goes_to_the_hook_for_threads(make_pool, monkeypatch):
    raised = []
    monkeypatch.setattr(threading, "excepthook", lambda args: raised.append(args.exc_type))

    def log(level, message):
        raise KeyError

    pool = make_pool(log=log)
    notice(pool)
    assert eventually(lambda: KeyError in raised)
    with pool.connection() as conn:
        assert query(conn, "select 1") == "1"


def test_callbacks_are_let_go_after_the_pool(make_pool):
    pool = make_pool(configure=lambda conn: None, log=lambda level, message: None)
    with pool.connection():
        assert pool._callbacks.number in _callbacks._contexts
    for _ in range(2):
        pool.close()
        assert eventually(lambda: pool._callbacks.number not in _callbacks._contexts)
        assert eventually(lambda: not _callbacks.any_active())  # those of tests before take their time


def test_a_pool_that_its_own_callback_refers_to_can_be_garbage(make_pool):
    """Its sessions stayed for ever."""

    class Owner:
        def __init__(self):
            self.pool = dbpool.Pool(min_size=1, name="owned", log=self.log)
            self.pool.wait(10)

        def log(self, level, message):
            pass

    def owners():
        gc.collect()
        return sum(type(thing) is Owner for thing in gc.get_objects())

    Owner()
    with pytest.warns(ResourceWarning, match="owned"):
        gc.collect()
    assert eventually(lambda: owners() == 0)
    with make_pool().connection() as conn:
        sessions = "select count(*) from pg_stat_activity where application_name = 'owned'"
        assert eventually(lambda: query(conn, sessions) == "0")


def test_what_the_library_says_after_the_end_of_a_pool_is_told():
    lines, is_inside, may_go_on = [], threading.Event(), threading.Event()

    def configure(conn):
        is_inside.set()
        may_go_on.wait(10)
        query(conn, NOTICE)

    pool = dbpool.Pool(min_size=1, configure=configure, log=lambda level, message: lines.append(message))
    assert is_inside.wait(10)
    with pytest.warns(ResourceWarning):
        del pool
    may_go_on.set()
    assert eventually(lambda: any("hear, hear" in message for message in lines))
    assert eventually(lambda: not _callbacks.any_active())


def test_callbacks_of_a_pool_that_did_not_come_into_being_are_let_go():
    before = len(_callbacks._contexts)
    with pytest.raises(dbpool.InvalidArgument):
        dbpool.Pool("frobnicate=1", log=True)
    assert len(_callbacks._contexts) == before


def test_callbacks_survive_the_collection_of_what_nobody_names(make_pool):
    pool = make_pool(max_size=5, configure=lambda conn: query(conn, "select 1"))
    gc.collect()
    loans = [pool.get() for _ in range(5)]
    for loan in loans:
        pool.put(loan)
