"""Waits end in time, and signals are heard."""

from __future__ import annotations

import math
import re
import textwrap
import time

import pytest
from support import Thread, eventually, run_program, under

import dbpool


def took(call, *arguments):
    start = time.monotonic()
    with pytest.raises(dbpool.PoolTimeout) as caught:
        call(*arguments)
    return time.monotonic() - start, caught.value


@pytest.mark.parametrize("timeout", [0, 0.001, 0.3, "300ms"])
def test_a_deadline_is_kept_on_the_main_thread_and_on_others(pool, timeout):
    wanted = 0.3 if timeout == "300ms" else timeout
    with pool.connection():
        for call in (pool.get, lambda timeout: Thread(pool.get, timeout).finish()):
            seconds, error = took(call, timeout)
            assert wanted <= seconds < wanted + 0.15
            assert error.code == -3
    assert pool.stats().waiting == 0


def test_the_default_is_the_pools(make_pool):
    pool = make_pool(max_size=1, acquire_timeout=0.2)
    with pool.connection(timeout=10):
        assert 0.2 <= took(pool.get)[0] < 0.35


def test_infinite_waits_end_with_the_connection(make_pool):
    pool = make_pool(max_size=1, acquire_timeout=None)
    conn = pool.get(math.inf)
    before = pool.stats().waits
    waiters = [Thread(lambda: pool.put(pool.get())), Thread(lambda: pool.put(pool.get(math.inf)))]
    assert eventually(lambda: pool.stats().waiting == 2)
    pool.put(conn)
    for waiter in waiters:
        waiter.finish()
    assert pool.stats().waits == before + 2


@pytest.mark.parametrize("timeout", [-1, math.nan, "soon", 1e300])
def test_a_wrong_timeout_is_refused(pool, timeout):
    for call in (pool.get, pool.wait, pool.drain):
        with pytest.raises(dbpool.InvalidArgument, match="timeout"):
            call(timeout)
    with pytest.raises(dbpool.InvalidArgument, match="timeout"), pool.connection(timeout):
        pass
    assert pool.stats().paused is False


def test_an_error_tells_of_the_whole_wait(make_pool):
    """On the main thread it told of the last slice."""
    nowhere, lent = make_pool("host=127.0.0.1 port=1", min_size=1, name="within 1 ms (2 in"), make_pool()
    conn = lent.get(10)
    for call in (nowhere.wait, lent.drain):
        with pytest.raises(dbpool.Error, match=r"(came free|be opened) within 250 ms \(\d+ in use, "):
            call(0.25)
    lent.put(conn)


def test_an_error_that_comes_early_tells_of_the_wait_until_then(make_pool):
    def wrong():
        time.sleep(0.25)
        return "password=wrong"

    pool = make_pool(min_size=1, conninfo_provider=wrong)
    with pytest.raises(dbpool.ConnectError, match="password authentication failed") as caught:
        pool.wait(10)
    assert 250 <= int(re.search(r"within (\d+) ms", str(caught.value))[1]) < 5000


INTERRUPTED = """
    import math, os, signal, threading, time
    import dbpool
    from support import eventually, query

    pool = dbpool.Pool(min_size=1, max_size=1)
    pool.wait(10)
    conn = pool.get()
    sent = []

    def interrupt():
        assert eventually(lambda: {condition})
        time.sleep(0.02)
        sent.append(time.monotonic())
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    try:
        {call}
    except KeyboardInterrupt:
        delay = time.monotonic() - sent[0]
        assert delay < 0.3, delay
    else:
        raise SystemExit("no KeyboardInterrupt")
    thread.join()
    assert pool.stats().waiting == 0
    pool.resume()
    pool.put(conn)
    for _ in range(3):
        with pool.connection(timeout=5) as conn:
            assert query(conn, "select 1") == "1"
    assert pool.stats().in_use == 0
    pool.close()
"""


def test_ctrl_c_ends_an_endless_get_and_loses_no_slot():
    run_program(INTERRUPTED.format(condition="pool.stats().waiting == 1", call="pool.get(math.inf)"))


def test_ctrl_c_ends_an_endless_drain():
    run_program(INTERRUPTED.format(condition="pool.stats().paused", call="pool.drain(math.inf)"))


def test_ctrl_c_ends_an_endless_wait():
    call = "pool.resize(1, 2); pool.discard(conn); pool.pause(); other = dbpool.Pool('host=/nowhere', min_size=1)"
    call += "; conn = None; other.wait(math.inf)"
    source = INTERRUPTED.format(condition="pool.stats().paused", call=call)
    source = source.replace("pool.put(conn)", "other.close()")
    run_program(source)


def test_signal_handlers_that_return_run_during_a_wait_and_do_not_end_it():
    run_program(
        """
        import signal, time
        import dbpool

        pool = dbpool.Pool(max_size=1)
        conn = pool.get()
        ticks = []
        signal.signal(signal.SIGALRM, lambda *_: ticks.append(time.monotonic()))
        signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
        start = time.monotonic()
        try:
            pool.get(1)
        except dbpool.PoolTimeout:
            took = time.monotonic() - start
        signal.setitimer(signal.ITIMER_REAL, 0)
        assert 1 <= took < 1.15, took
        assert len(ticks) >= 8, ticks
        pool.put(conn)
        pool.close()
        """
    )


def test_a_signal_handler_may_use_the_pool():
    run_program(
        """
        import signal
        import dbpool

        pool = dbpool.Pool(max_size=1)
        conn = pool.get()
        signal.signal(signal.SIGALRM, lambda *_: pool.put(conn))
        signal.setitimer(signal.ITIMER_REAL, 0.1)
        pool.put(pool.get(5))
        pool.close()
        """
    )


USED_BY_HANDLER = """
    import contextlib, signal, time
    import dbpool
    from drivers import driver_pool

    {make}
    conn = get(10)
    found = []

    def handler(*_):
        with contextlib.suppress({error}):
            get(0)
        found.append(time.monotonic())

    signal.signal(signal.SIGALRM, handler)
    signal.setitimer(signal.ITIMER_REAL, 0.1)
    start = time.monotonic()
    try:
        get(0.5)
    except {error} as error:
        assert "within 500 ms" in str(error), error
    else:
        raise AssertionError("it was lent twice")
    assert len(found) == 1 and found[0] - start < 0.45, found
    assert time.monotonic() - start > 0.49
"""


@pytest.mark.parametrize(
    ("make", "error"),
    [
        ("pool = dbpool.Pool(max_size=1); get = pool.get", "dbpool.PoolTimeout"),
        *(
            (f"pool = driver_pool('{driver}')({{}}, max_size=1, timeout=10); get = pool.getconn", "Exception")
            for driver in ("psycopg2", "psycopg")
        ),
    ],
    ids=["native", "psycopg2", "psycopg"],
)
def test_a_signal_handler_that_gets_nothing_does_not_end_the_wait_it_interrupts(make, error):
    """The library keeps one error for each thread, and the handler runs in the thread that waits."""
    run_program(USED_BY_HANDLER.format(make=make, error=error))


def test_a_signal_handler_may_come_while_a_failed_try_is_counted(make_pool):
    pool = make_pool(max_size=1)

    def get_in_the_middle():
        with pool._retries_lock:
            took(pool.get, 0.01)

    with pool.connection():
        Thread(get_in_the_middle).finish()


def test_exceptions_of_signal_handlers_at_any_instant_lose_no_slot():
    run_program(
        """
        import random, signal, time, warnings
        import dbpool

        warnings.simplefilter("ignore", ResourceWarning)

        class Interrupt(BaseException):
            pass

        def handler(*_):
            raise Interrupt

        pool = dbpool.Pool(min_size=2, max_size=2)
        pool.wait(10)
        signal.signal(signal.SIGALRM, handler)
        end = time.monotonic() + 3
        interrupts = 0
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.003))
                while True:
                    pool.put(pool.get())
                    with pool.connection():
                        conn = pool.get()
                        pool.put(conn)
            except Interrupt:
                interrupts += 1
                conn = None
        assert interrupts > 100, interrupts
        loans = [pool.get(5), pool.get(5)]
        assert pool.stats().in_use == 2
        for loan in loans:
            pool.put(loan)
        pool.close()
        """
    )


RAISED_IN_A_THREAD = """
    import ctypes, gc, random, threading, time, warnings
    import dbpool
    from support import Thread, eventually, query

    warnings.simplefilter("ignore", ResourceWarning)

    class Interrupt(BaseException):
        pass

    def raise_in(thread):
        ident = ctypes.c_ulong(thread.ident)
        assert ctypes.pythonapi.PyThreadState_SetAsyncExc(ident, ctypes.py_object(Interrupt)) == 1

    def check_whole(pool):
        gc.collect()  # a thread that keeps its exception is in its own traceback
        assert eventually(lambda: pool.stats().in_use == pool.stats().waiting == 0), pool.stats()
        loans = [pool.get(5) for _ in range(pool.stats().max_size)]
        for loan in loans:
            assert query(loan, "select 1") == "1"
            pool.put(loan)
        pool.close()
"""


@pytest.mark.parametrize("end", ["pool.put(conn)", "pass"], ids=["served", "timed out"])
def test_an_exception_raised_in_a_thread_that_waits_arrives_at_the_end_of_the_wait(end):
    run_program(
        RAISED_IN_A_THREAD
        + f"""
    pool = dbpool.Pool(max_size=1)
    conn = pool.get()
    waiter = Thread(pool.get, 60 if {end == "pool.put(conn)"} else 0.5)
    assert eventually(lambda: pool.stats().waiting == 1)
    raise_in(waiter)
    {end}
    try:
        waiter.finish()
    except Interrupt:
        pass
    else:
        raise SystemExit("no exception")
    if conn:
        pool.put(conn)
    del waiter
    check_whole(pool)
    """
    )


def test_exceptions_raised_in_a_thread_at_any_instant_lose_no_slot():
    """The next one is raised when the one before has arrived."""
    run_program(
        RAISED_IN_A_THREAD
        + """
    pool = dbpool.Pool(min_size=2, max_size=2)
    pool.wait(10)
    arrived = 0
    over = False

    def borrow():
        while not over:
            pool.put(pool.get())
            with pool.connection():
                conn = pool.get()
                pool.put(conn)

    def count_interrupts():
        global arrived
        while not over:
            is_hit = False
            try:
                borrow()
            except Interrupt:
                is_hit = True
            arrived += is_hit

    other = threading.Thread(target=lambda: [pool.put(pool.get()) for _ in iter(lambda: over, True)])
    thread = Thread(count_interrupts)
    other.start()
    end = time.monotonic() + 3
    raised = 0
    while time.monotonic() < end:
        time.sleep(random.uniform(0, 0.003))
        raise_in(thread)
        raised += 1
        assert eventually(lambda: arrived == raised, 10), (arrived, raised)
    over = True
    thread.finish()
    other.join()
    assert raised > 50, raised
    check_whole(pool)
    """
    )


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_other_greenlets_run_during_a_wait(kind):
    source = """
        import dbpool

        pool = dbpool.Pool(max_size=1)
        conn = pool.get(5)
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                sleep(0.01)

        ticker = spawn(tick)
        waiter = spawn(pool.get, 5)
        sleep(0.3)
        assert len(ticks) > 10
        pool.put(conn)
        pool.put(result(waiter))
        loser = spawn(pool.get, 5)
        conn = pool.get(5)
        sleep(0.1)
        loser.kill()
        pool.put(conn)
        pool.put(pool.get(1))
        ticker.kill()
        pool.close()
    """
    run_program(under(kind) + textwrap.dedent(source))
