"""Pools of psycopg2 and psycopg connections: fork, signals, greenlets, and the end of the interpreter."""

from __future__ import annotations

import subprocess
import sys
import textwrap
import time

import pytest
from drivers import driver_pool
from support import run_program, scaled, under

PREAMBLE = """
    import gc, logging, math, os, random, signal, sys, threading, time, warnings
    import dbpool
    from drivers import driver_pool, pid, value
    from support import eventually

    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # fork with threads: that is the point
    make = driver_pool("{driver}")
"""


@pytest.fixture(params=["psycopg2", "psycopg"])
def program(request):
    """Runs a program that has `make`, the class of pools."""
    driver_pool(request.param)
    preamble = textwrap.dedent(PREAMBLE.format(driver=request.param))
    return lambda source, before="", **options: run_program(before + preamble + textwrap.dedent(source), **options)


# ---------------------------------------------------------------------------------------------------------------- fork

FORK = """
    pool = make({{}}, max_size=2)
    lent, idle = pool.getconn(), pool.getconn()
    pids = {{pid(lent), pid(idle)}}
    value(lent, "create temporary table mine as select 1 as one")
    pool.putconn(idle)

    def in_child():
        global lent, idle, pool
{work}

    sys.stdout.flush()
    child = os.fork()
    if child == 0:
        signal.alarm(15)
        code = 1
        try:
            in_child()
            code = 0
        finally:
            if code: sys.excepthook(*sys.exc_info())
            {end}
    assert os.waitpid(child, 0)[1] == 0
    assert value(lent, "select one from mine") == 1
    pool.putconn(lent)
    again = [pool.getconn(), pool.getconn()]
    assert {{pid(one) for one in again}} == pids
    assert pool.stats().lost == 0
    for one in again:
        pool.putconn(one)
    pool.close()
"""

IN_CHILD = {
    "use the pool": """
        own = [pool.getconn(5), pool.getconn(5)]
        assert not {pid(one) for one in own} & pids
        assert [value(one, "select 1") for one in own] == [1, 1]
        for one in own:
            pool.putconn(one)
        assert pool.stats().idle == 2
    """,
    "give back what the parent borrowed": """
        pool.putconn(lent)
        pool.discard(lent)
        own = pool.getconn(5)
        assert own is not lent and own is not idle
        assert value(own, "select 1") == 1
        pool.putconn(own)
    """,
    "forget what the parent borrowed": """
        lent = idle = None
        gc.collect()
        pool.putconn(pool.getconn(5))
        assert pool.stats().in_use == 0
    """,
    "close": "pool.close()",
    "forget the pool": "lent = idle = pool = None; gc.collect()",
    "fork again": """
        pool.putconn(pool.getconn(5))
        child = os.fork()
        if child == 0:
            own = pool.getconn(5)
            os._exit(0 if value(own, "select 1") == 1 else 1)
        assert os.waitpid(child, 0)[1] == 0
        own = pool.getconn(5)
        assert value(own, "select 1") == 1
    """,
    "close idle connections in time": """
        pool.putconn(pool.getconn(5))
        pool.reconnect()
        assert eventually(lambda: pool.stats().idle == 0)
    """,
    "do nothing": "pass",
}


@pytest.mark.parametrize("end", ["os._exit(code)", "sys.exit(code)"])
@pytest.mark.parametrize("work", IN_CHILD)
def test_parent_and_child_do_not_disturb_each_other(program, work, end):
    program(FORK.format(work=textwrap.indent(textwrap.dedent(IN_CHILD[work]), " " * 8), end=end))


def test_a_fork_while_threads_have_loans_with_owners(program):
    program(
        """
        class Owner: pass

        pool = make({}, max_size=3)
        stop = threading.Event()

        def work():
            owner = Owner()
            while not stop.is_set():
                connection = pool.getconn(10, owner=owner)
                assert value(connection, "select 1") == 1
                pool.putconn(connection)

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        assert eventually(lambda: pool.stats().gets > 20)
        statuses = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(15)
                try:
                    own = pool.getconn(10, owner=Owner)
                    assert value(own, "select 2") == 2
                    pool.putconn(own)
                    os._exit(0)
                finally:
                    os._exit(1)
            statuses.append(os.waitpid(child, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 10, statuses
        assert pool.stats().in_use == 0
        assert pool.stats().lost == 0
        """,
        seconds=60,
    )


# ------------------------------------------------------------------------------------------------------------- signals


@pytest.mark.parametrize(
    ("number", "handler", "error"),
    [
        ("SIGINT", "signal.default_int_handler", "KeyboardInterrupt"),
        ("SIGTERM", "lambda *_: sys.exit(3)", "SystemExit"),
    ],
)
def test_a_signal_ends_a_wait_at_once_and_loses_no_slot(program, number, handler, error):
    program(
        f"""
        pool = make({{}}, max_size=1)
        connection = pool.getconn()
        signal.signal(signal.{number}, {handler})
        sent = []

        def interrupt():
            assert eventually(lambda: pool.stats().waiting == 1)
            time.sleep(0.02)
            sent.append(time.monotonic())
            os.kill(os.getpid(), signal.{number})

        thread = threading.Thread(target=interrupt)
        thread.start()
        try:
            pool.getconn(math.inf)
        except {error}:
            assert time.monotonic() - sent[0] < 0.3
        else:
            raise AssertionError
        thread.join()
        assert pool.stats().waiting == 0
        pool.putconn(connection)
        pool.putconn(pool.getconn(5))
        assert pool.stats().in_use == 0
        """
    )


def test_exceptions_of_signal_handlers_at_any_instant_lose_no_slot(program):
    program(
        """
        class Interrupt(BaseException):
            pass

        class Owner:
            pass

        def handler(*_):
            raise Interrupt

        def swallowed(unraisable):
            # Python drops what is raised in a finalizer: then the loop below has not heard of it.
            if isinstance(unraisable.exc_value, Interrupt):
                signal.setitimer(signal.ITIMER_REAL, 0.001)
            else:
                sys.__unraisablehook__(unraisable)

        sys.unraisablehook = swallowed
        logging.getLogger("dbpool").setLevel(logging.CRITICAL)
        pool = make({}, max_size=2)
        owner = Owner()
        signal.signal(signal.SIGALRM, handler)
        end = time.monotonic() + 4
        interrupts = 0
        while time.monotonic() < end:
            try:
                signal.setitimer(signal.ITIMER_REAL, random.uniform(0.00005, 0.003))
                while True:
                    connection = pool.getconn(owner=owner)
                    other = pool.getconn()
                    pool.putconn(connection)
                    pool.putconn(other)
                    connection = other = None
            except Interrupt:
                interrupts += 1
            connection = other = None
        assert interrupts > 50, interrupts
        gc.collect()
        loans = [pool.getconn(5), pool.getconn(5)]
        assert [value(loan, "select 1") for loan in loans] == [1, 1]
        assert pool.stats().in_use == 2
        assert pool.stats().internal_errors == 0
        """,
        seconds=40,
    )


def test_a_loan_of_the_parent_does_not_start_the_library_in_a_child(program):
    source = """
        pool = make({}, max_size=2)
        kept, lent = pool.getconn(), pool.getconn(owner=threading.current_thread())
        pool.putconn(kept)
        child = os.fork()
        if child == 0:
            signal.alarm(15)
            lent = kept = None
            gc.collect()
            began = len(os.listdir("/proc/self/task"))
            value(pool.getconn(), "select 1")
            os._exit(0 if began == 1 and pool.stats().in_use == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        assert value(lent, "select 1") == 1
        pool.putconn(lent)
        assert pool.stats().idle == 2
    """
    program(source)


# ----------------------------------------------------------------------------------------------------------- greenlets


@pytest.mark.parametrize("kind", ["gevent", "eventlet"])
def test_other_greenlets_run_during_a_wait_and_lost_ones_give_back(program, kind):
    source = """
        class Owner: pass

        pool = make({}, max_size=1)
        connection = pool.getconn(5)
        ticks = []

        def tick():
            while True:
                ticks.append(1)
                sleep(0.01)

        ticker = spawn(tick)
        waiter = spawn(pool.getconn, 5)
        sleep(0.3)
        assert len(ticks) > 10
        pool.putconn(connection)
        connection = result(waiter)
        loser = spawn(pool.getconn, 5)
        sleep(0.05)
        loser.kill()
        pool.putconn(connection)
        connection = loser = waiter = None

        kept = []
        warned = []
        logging.getLogger("dbpool.pool").addFilter(lambda record: warned.append(record.getMessage()))

        def forgetful():
            kept.append(Owner())
            kept.append(pool.getconn(owner=kept[-1]))

        result(spawn(forgetful))
        sleep(0.05)
        pool.putconn(pool.getconn(1))
        assert ["the thread has ended" in text for text in warned] == [True]
        # The collecting thread is a real one: it works while this one does nothing but compute.
        other, idle = make({}), pool.getconn(1)
        connection = other.getconn()
        connection.autocommit = True
        descriptor = idle.fileno()
        number = pid(idle)
        pool.putconn(idle)
        value(connection, f"select pg_terminate_backend({number})")

        def is_closed():
            try:
                return not os.readlink(f"/proc/self/fd/{descriptor}").startswith("socket")
            except FileNotFoundError:
                return True

        end = time.monotonic() + 5
        while not is_closed() and time.monotonic() < end:
            pass
        assert is_closed()
        ticker.kill()
        pool.close()
    """
    program(source, before=under(kind))


# -------------------------------------------------------------------------------------------------------------- the end

EXITS = {
    "a loan is out": "connection = pool.getconn()",
    "a loan with an owner is out": "owner = Owner(); connection = pool.getconn(owner=owner)",
    "a loan is out, in a cycle": "cycle = [pool.getconn()]; cycle.append(cycle)",
    "a loan is out, inside a transaction": "connection = pool.getconn(); value(connection, 'select 1')",
    "the pool is closed and a loan is out": "connection = pool.getconn(); pool.close()",
    "a daemon thread waits without end": """
loans = pool.getconn(), pool.getconn()
threading.Thread(target=pool.getconn, args=(math.inf,), daemon=True).start()
assert eventually(lambda: pool.stats().waiting == 1)
""",
    "daemon threads borrow and put": """
def work():
    owner = Owner()
    while True:
        connection = pool.getconn(owner=owner)
        value(connection, 'select 1')
        pool.putconn(connection)
for _ in range(4):
    threading.Thread(target=work, daemon=True).start()
assert eventually(lambda: pool.stats().gets > 50)
""",
    "a daemon thread that has a loan sleeps": """
def work():
    owner = Owner()
    connection = pool.getconn(owner=owner)
    time.sleep(60)
threading.Thread(target=work, daemon=True).start()
assert eventually(lambda: pool.stats().in_use == 1)
""",
    "connections are being opened": """
loans = []
for _ in range(2):
    threading.Thread(target=lambda: loans.append(pool.getconn()), daemon=True).start()
""",
    "nothing can be connected": """
other = make({'host': '/nowhere'})
threading.Thread(target=other.getconn, daemon=True).start()
""",
    "a thread that is no daemon ends later": """
def work():
    time.sleep(0.2)
    pool.putconn(pool.getconn())
threading.Thread(target=work).start()
""",
    "sys.exit was called": "connection = pool.getconn(); print('END', flush=True); sys.exit(0)",
}


@pytest.mark.parametrize("case", EXITS)
def test_the_interpreter_ends_in_peace_while(program, case):
    start = "class Owner: pass\npool = make({}, max_size=2)\npool.putconn(pool.getconn())\n"
    assert program(start + EXITS[case] + "\nprint('END', flush=True)").endswith("END\n")


FIFTY = """
import math, threading
from drivers import driver_pool
pool = driver_pool({driver!r})({{"host": "127.0.0.1", "sslmode": "require"}}, max_size=2)
loans = [pool.getconn(), pool.getconn()]
pool.putconn(loans.pop())

def work():
    while True:
        connection = pool.getconn(math.inf)
        connection.cursor().execute("select 1")
        pool.putconn(connection)

for _ in range(3):
    threading.Thread(target=work, daemon=True).start()
print("END", flush=True)
"""


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_fifty_exits_with_tls_loans_out_and_threads_waiting(driver):
    driver_pool(driver)
    for _ in range(scaled(50)):
        process = subprocess.Popen(
            [sys.executable, "-c", FIFTY.format(driver=driver)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            assert process.stdout.readline() == "END\n"
            start = time.monotonic()
            assert process.stdout.read() == ""
            assert process.wait(10) == 0
            assert time.monotonic() - start < 1
        finally:
            process.kill()
            process.stdout.close()
            process.wait()


def test_the_package_imports_no_driver():
    run_program(
        """
        import sys
        import dbpool, dbpool._hosted
        assert not {"psycopg", "psycopg2", "django"} & set(sys.modules)
        """
    )
