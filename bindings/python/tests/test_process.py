"""Fork, and the end of the interpreter."""

from __future__ import annotations

import random
import subprocess
import sys
import textwrap
import time

import pytest
from support import run_program, scaled

FORK = """
    import gc, os, signal, sys, threading, time, warnings
    import dbpool
    from support import backend_pid, query

    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # fork with threads: that is the point
    pool = dbpool.Pool(min_size=1, max_size=2, {options})
    pool.wait(10)
    conn = pool.get()
    with pool.connection() as idle:
        pids = [backend_pid(conn), backend_pid(idle)]

    def child_process(work):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            code = 1
            try:
                signal.alarm(15)
                work()
                code = 0
            except SystemExit as end:  # of a child of this child
                code = end.code
            finally:
                if code: sys.excepthook(*sys.exc_info())
                {end}
        _, status = os.waitpid(child, 0)
        assert status == 0, status

    def in_child():
        global conn
        {work}

    child_process(in_child)
    assert query(conn, "select 1") == "1"
    pool.put(conn)
    first, second = pool.get(5), pool.get(5)
    assert sorted(map(backend_pid, (first, second))) == sorted(pids)
    pool.put(first)
    pool.put(second)
    assert pool.stats().lost == 0
    pool.close()
"""

IN_CHILD = {
    "use the pool": """
        with pool.connection(5) as own:
            assert query(own, "select 1") == "1"
            assert backend_pid(own) not in pids
        assert pool.stats().gets == 1
    """,
    "put what the parent borrowed": """
        try:
            pool.put(conn)
        except dbpool.ForkedConnection as error:
            assert error.code == -11
        else:
            raise AssertionError
    """,
    "forget what the parent borrowed": """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            conn = None
            gc.collect()
        assert not caught, caught
    """,
    "close": "pool.close()",
    "forget the pool": """
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            globals().update(conn=None, pool=None)
            gc.collect()
        assert not caught, caught
    """,
    "fork again": """
        def grandchild():
            with pool.connection(5) as own:
                assert query(own, "select 1") == "1"
        with pool.connection(5) as own:
            child_process(grandchild)
            assert query(own, "select 1") == "1"
    """,
    "do nothing": "pass",
}


def indented(work):
    return textwrap.indent(textwrap.dedent(work).strip(), " " * 8).strip()


@pytest.mark.parametrize("end", ["os._exit(code)", "sys.exit(code)"])
@pytest.mark.parametrize("work", IN_CHILD)
def test_parent_and_child_do_not_disturb_each_other(work, end):
    run_program(FORK.format(work=indented(IN_CHILD[work]), end=end, options=""))


def test_callbacks_work_in_a_child():
    work = IN_CHILD["use the pool"] + "    assert len(configured) == 1"
    source = FORK.format(work=indented(work), end="os._exit(code)", options="configure=configure")
    source = source.replace(
        "pool = dbpool.Pool", "configured = []\n    configure = configured.append\n    pool = dbpool.Pool", 1
    )
    run_program(source.replace("pids = [", "configured.clear(); pids = [", 1))


def test_a_fork_while_threads_use_the_pool():
    run_program(
        """
        import os, signal, sys, threading, warnings
        import dbpool
        from support import query

        warnings.simplefilter("ignore", DeprecationWarning)
        pool = dbpool.Pool(max_size=2)
        stop = threading.Event()

        def work():
            while not stop.is_set():
                with pool.connection(10) as conn:
                    assert query(conn, "select 1") == "1"

        threads = [threading.Thread(target=work) for _ in range(4)]
        for thread in threads:
            thread.start()
        statuses = []
        for _ in range(10):
            child = os.fork()
            if child == 0:
                signal.alarm(15)
                try:
                    with pool.connection(10) as conn:
                        assert query(conn, "select 2") == "2"
                        os._exit(0)
                finally:
                    os._exit(1)
            statuses.append(os.waitpid(child, 0)[1])
        stop.set()
        for thread in threads:
            thread.join()
        assert statuses == [0] * 10, statuses
        assert pool.stats().in_use == 0
        pool.close()
        """,
        seconds=60,
    )


EXITS = {
    "a loan is out": "conn = pool.get()",
    "a loan is out, in a cycle": "conn = [pool.get()]; conn.append(conn)",
    "a loan is out, inside a transaction": "conn = pool.get(); query(conn, 'begin')",
    "the pool is closed and a loan is out": "conn = pool.get(); pool.close()",
    "a daemon thread waits without end": """
loans = pool.get(), pool.get()
threading.Thread(target=until_closed, args=(pool.get, math.inf), daemon=True).start()
assert eventually(lambda: pool.stats().waiting == 1)
""",
    "daemon threads borrow and put": """
def work():
    while True:
        with pool.connection() as conn:
            query(conn, 'select 1')
for _ in range(4):
    threading.Thread(target=until_closed, args=(work,), daemon=True).start()
assert eventually(lambda: pool.stats().gets > 50)
""",
    "connections are being opened": "pool.resize(10, 10)",
    "a daemon thread waits for a connection that is being opened": """
conn = pool.get()
threading.Thread(target=until_closed, args=(pool.get, math.inf), daemon=True).start()
""",
    "nothing can be connected": "other = dbpool.Pool('host=/nowhere', min_size=5, **options)",
    "a thread that is no daemon ends later": """
def work():
    time.sleep(0.2)
    with pool.connection() as conn:
        assert query(conn, 'select 1') == '1'
threading.Thread(target=work).start()
""",
    "sys.exit was called": "conn = pool.get(); print('END', flush=True); sys.exit(0)",
}
# A pool with callbacks is closed at exit, and those who use it are told.
UNTIL_CLOSED = """
def until_closed(work, *arguments):
    try:
        work(*arguments)
    except dbpool.PoolClosed:
        assert options
"""
CALLBACKS = {
    "": "options = {}",
    ", with callbacks": "options = dict(log=lambda level, text: None, configure=lambda conn: query(conn, 'select 1'))",
}


@pytest.mark.parametrize("callbacks", CALLBACKS)
@pytest.mark.parametrize("case", EXITS)
def test_the_interpreter_ends_in_peace_while(case, callbacks):
    source = "\n".join(
        (
            "import math, sys, threading, time, dbpool",
            "from support import eventually, query",
            CALLBACKS[callbacks],
            UNTIL_CLOSED,
            "pool = dbpool.Pool(max_size=2, **options)",
            "with pool.connection() as conn: pass",
            EXITS[case],
            "print('END', flush=True)",
        )
    )
    assert run_program(source).endswith("END\n")


TLS_FILL = """
import sys, time, dbpool
pool = dbpool.Pool("host=127.0.0.1 sslmode=require", min_size=8, max_size=8)
time.sleep(float(sys.argv[1]))
"""


# OpenSSL takes itself down at exit; a thread that was in a handshake then crashed.
def test_two_hundred_exits_during_a_tls_fill():
    moments = random.Random(20121)
    for _ in range(scaled(200)):
        moment = moments.uniform(0, 0.08)
        start = time.monotonic()
        ended = subprocess.run(
            [sys.executable, "-c", TLS_FILL, str(moment)], capture_output=True, text=True, timeout=30, check=False
        )
        assert (ended.returncode, ended.stdout, ended.stderr) == (0, "", "")
        # A second at most for the exit, and one for the interpreter to start.
        assert time.monotonic() - start - moment < 2


SLOW_LOGIN = """
import hashlib, ssl  # OpenSSL has an exit handler before the pool can keep it from that
import dbpool
from silence import SlowLogin
server = SlowLogin(50_000_000)
pool = dbpool.Pool(f"host=127.0.0.1 port={server.port} user=u password=p sslmode=disable")
try:
    pool.get(0.1)
except dbpool.ConnectError:
    print("END", flush=True)
"""


# libpq computes the rounds in one step, which is longer than an exit may wait.
def test_forty_exits_during_a_login_that_keeps_libpq_busy():
    for _ in range(scaled(40)):
        assert run_program(SLOW_LOGIN) == "END\n"
