"""What a borrower does with a connection of whatever driver; every row must bring the query's tag and the backend's pid
back."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any, Callable, NamedTuple

from dbpool import errors
from hosted_ledger import Ledger, starved

DEFAULT_TIMEOUT = 3.0  # of the oracle's pool
# The server was stopped, crashed or starts again; the session was ended.
EXPLAINED = {None, "57P01", "57P02", "57P03"}
# psycopg, whose session the server has ended in the midst of a pipeline, before libpq has read the end of the stream.
PIPELINE_CUT = "cannot exit pipeline mode while busy"
# libpq's, the same in both drivers.
IDLE = 0


class Driver(NamedTuple):
    """What is a driver's own."""

    module: Any  # its connect and errors
    pool: type[Any]
    # What an earlier borrower has left on a connection, as texts.
    left_on: Callable[[Any], list[str]]
    # Beside those of all drivers.
    jobs: list[Job]


class Worker:
    def __init__(self, number: int, seed: float, ledger: Ledger, driver: Driver) -> None:
        self.number = number
        self.random = random.Random(f"{seed} {number}")
        self.ledger = ledger
        self.driver = driver
        self.jobs = JOBS + driver.jobs
        # Comes before what chance chooses.
        self.untried: list[Job] = []
        self.serial = 0
        self.tag = ""
        self.pid = 0
        # What a job does not end: it outlives the loan by a moment.
        self.kept: list[Any] = []
        self.stale_cursor: Any = None

    def next_tag(self) -> str:
        self.serial += 1
        self.tag = f"{self.number}.{self.serial}.{self.random.randrange(2**30)}"
        return self.tag

    def check(self, rows: list[Any], count: int = 1) -> None:
        self.ledger.count("answers")
        if len(rows) != count or any(row[:2] != (self.tag, self.pid) for row in rows):
            self.ledger.complain("wrong_answers", f"{self.tag} asked backend {self.pid} for {count} rows: {rows[:3]}")


# The job, how often, and whether it is the last of its loan: after it there is nothing to be asked.
Job = tuple[Callable[[Worker, Any], None], int, bool]


class Unfinished(Exception):
    """Ends a COPY half-way."""


# ------------------------------------------------------------------------------------------------------------- jobs


def ask(worker: Worker, conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute("select %s, pg_backend_pid()", (worker.next_tag(),))
        worker.check(cursor.fetchall())


def ask_for_rows(worker: Worker, conn: Any) -> None:
    rows = worker.random.randrange(1, 300)
    with conn.cursor() as cursor:
        cursor.execute("select %s, pg_backend_pid(), g from generate_series(1, %s) g", (worker.next_tag(), rows))
        worker.check(cursor.fetchall(), rows)


def ask_slowly(worker: Worker, conn: Any) -> None:
    with conn.cursor() as cursor:
        seconds = worker.random.uniform(0, 0.03)
        cursor.execute("select %s, pg_backend_pid(), pg_sleep(%s)", (worker.next_tag(), seconds))
        worker.check(cursor.fetchall())


def fail(worker: Worker, conn: Any) -> None:
    try:
        with conn.cursor() as cursor:
            cursor.execute(failing(worker.next_tag()))
    except worker.driver.module.Error as error:
        check_failure(worker, error)
    else:
        worker.check([])


def failing(tag: str) -> str:
    return f"do $$ begin raise exception '{tag}' using errcode = 'OR001'; end $$"


def noticing(tag: str) -> str:
    return f"do $$ begin raise notice '{tag}'; end $$"


def notify_itself(worker: Worker, conn: Any) -> str:
    """What it listens to from now on."""
    tag = worker.next_tag()
    channel = "tag_" + tag.replace(".", "_")
    with conn.cursor() as cursor:
        cursor.execute(f"listen {channel}; notify {channel}, '{tag}'")
    conn.commit()
    return channel


def check_failure(worker: Worker, error: Any) -> None:
    """It is the failure that the worker asked for; another one is raised again."""
    if error.diag.sqlstate != "OR001":
        raise error
    worker.check([(error.diag.message_primary, worker.pid)])


def commit(worker: Worker, conn: Any) -> None:
    ask(worker, conn)
    conn.commit()


def leave_transaction(worker: Worker, conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute("insert into leftover values (%s)", (worker.next_tag(),))
        ask(worker, conn)


def leave_failed_transaction(worker: Worker, conn: Any) -> None:
    leave_transaction(worker, conn)
    fail(worker, conn)


def leave_autocommit(worker: Worker, conn: Any) -> None:
    conn.rollback()
    conn.autocommit = True
    ask(worker, conn)


def leave_named_cursor(worker: Worker, conn: Any) -> None:
    is_held = worker.random.random() < 0.5
    cursor = conn.cursor("half_read", withhold=is_held)
    cursor.itersize = 10
    cursor.execute("select %s::text, pg_backend_pid() from generate_series(1, 1000)", (worker.next_tag(),))
    worker.check(cursor.fetchmany(7), 7)
    if is_held:
        conn.commit()
        worker.check(cursor.fetchmany(7), 7)


def leave_cursor(worker: Worker, conn: Any) -> None:
    """Unread; its borrower tries it once more when the loan is over."""
    worker.stale_cursor = conn.cursor()
    worker.stale_cursor.execute("select %s, pg_backend_pid()", (worker.next_tag(),))


def close(worker: Worker, conn: Any) -> None:
    ask(worker, conn)
    conn.close()


JOBS: list[Job] = [
    (ask, 500, False),
    (ask_for_rows, 100, False),
    (ask_slowly, 60, False),
    (fail, 60, True),
    (commit, 60, False),
    (leave_transaction, 60, True),
    (leave_failed_transaction, 30, True),
    (leave_autocommit, 20, True),
    (leave_named_cursor, 10, True),
    (leave_cursor, 20, True),
    (close, 5, True),
]


# ------------------------------------------------------------------------------------------------------------ loans


def loan(worker: Worker, pool: Any) -> None:
    conn = _borrow(worker, pool)
    if conn is None:
        return
    worker.ledger.count("loans")
    worker.pid = conn.info.backend_pid
    worker.ledger.claim(worker.pid, worker.number)
    try:
        _check_clean(worker, conn)
        _work(worker, conn)
    except worker.driver.module.Error as error:
        _note_failure(worker, conn, error)
    worker.ledger.release(worker.pid, worker.number)
    if worker.random.random() < 0.01:
        pool.discard(conn)
    else:
        pool.putconn(conn)
    worker.kept.clear()
    _try_stale_cursor(worker)


def _try_stale_cursor(worker: Worker) -> None:
    cursor, worker.stale_cursor = worker.stale_cursor, None
    if cursor is None:
        return
    time.sleep(worker.random.uniform(0, 0.005))  # somebody else has its connection meanwhile
    with contextlib.suppress(worker.driver.module.InterfaceError, worker.driver.module.OperationalError):
        cursor.execute("select 'of an ended loan'")
        worker.ledger.complain("refused", f"{worker.tag}: a cursor asks after the end of its loan")


def _borrow(worker: Worker, pool: Any) -> Any:
    timeout = worker.random.choice([0, worker.random.uniform(0.001, 0.03), 2, 2, 2, None])
    starved_before, began = starved(), time.monotonic()
    try:
        return pool.getconn(timeout)
    except (errors.PoolTimeout, errors.PoolPaused, errors.ConnectError):
        worker.ledger.count("not_lent")
    except worker.driver.module.OperationalError:
        worker.ledger.count("not_lent")  # of a connect of our own
    finally:
        # Without a timeout to wait for, one makes a whole attempt to connect.
        if timeout != 0:
            late = time.monotonic() - began - (DEFAULT_TIMEOUT if timeout is None else timeout)
            worker.ledger.note_lateness(late, starved() - starved_before)
    return None


def _check_clean(worker: Worker, conn: Any) -> None:
    if conn.closed or conn.autocommit or conn.info.transaction_status != IDLE:
        worker.ledger.complain(
            "unclean_loans", f"closed {conn.closed}, autocommit {conn.autocommit}, {conn.info.transaction_status}"
        )
    left = worker.driver.left_on(conn)
    if left:
        worker.ledger.complain("unclean_loans", f"lent with {', '.join(left)}")


def _work(worker: Worker, conn: Any) -> None:
    if worker.untried:
        worker.untried.pop()[0](worker, conn)
        return
    weights = [weight for _, weight, _ in worker.jobs]
    for job, _, is_last in worker.random.choices(worker.jobs, weights, k=worker.random.randrange(1, 4)):
        job(worker, conn)
        if is_last:
            break


def _note_failure(worker: Worker, conn: Any, error: Any) -> None:
    worker.ledger.count("lost")
    sqlstate = error.diag.sqlstate
    if sqlstate is None and str(error) == PIPELINE_CUT:
        return
    # Without words from the server it is lost, or the driver refuses what it should not.
    if sqlstate not in EXPLAINED or (sqlstate is None and not conn.closed):
        worker.ledger.complain("strange_errors", f"{worker.tag}: {sqlstate}: {error!r}")


def wait_for_sessions(driver: Driver, application: str, wanted: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        with contextlib.closing(driver.module.connect("")) as conn, conn.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where application_name = %s", (application,))
            found = cursor.fetchone()[0]
        if found == wanted or time.monotonic() > end:
            return bool(found == wanted)
        time.sleep(0.02)
