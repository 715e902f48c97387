"""What a borrower does with a psycopg2 connection; every row must bring the query's tag and the backend's pid back."""

from __future__ import annotations

import contextlib
import random
import time
from typing import Any, Callable

import psycopg2
from dbpool import errors
from hosted_ledger import Ledger, starved
from psycopg2 import extensions

DEFAULT_TIMEOUT = 3.0  # of the oracle's pool
# The server was stopped, crashed or starts again; the session was ended.
EXPLAINED = {None, "57P01", "57P02", "57P03"}


class Worker:
    def __init__(self, number: int, seed: float, ledger: Ledger) -> None:
        self.number = number
        self.random = random.Random(f"{seed} {number}")
        self.ledger = ledger
        self.serial = 0
        self.tag = ""
        self.pid = 0

    def next_tag(self) -> str:
        self.serial += 1
        self.tag = f"{self.number}.{self.serial}.{self.random.randrange(2**30)}"
        return self.tag

    def check(self, rows: list[Any], count: int = 1) -> None:
        self.ledger.count("answers")
        if len(rows) != count or any(row[:2] != (self.tag, self.pid) for row in rows):
            self.ledger.complain("wrong_answers", f"{self.tag} asked backend {self.pid} for {count} rows: {rows[:3]}")


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
            cursor.execute(f"do $$ begin raise exception '{worker.next_tag()}' using errcode = 'OR001'; end $$")
    except psycopg2.Error as error:
        if error.pgcode != "OR001":
            raise
        text = error.diag.message_primary
        worker.check([(text, worker.pid)])


def commit(worker: Worker, conn: Any) -> None:
    ask(worker, conn)
    conn.commit()


def be_told(worker: Worker, conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute(f"do $$ begin raise notice '{worker.next_tag()}'; end $$")
    # A server that ends may say so meanwhile.
    notices = [text.split() for text in conn.notices if text.startswith("NOTICE:")]
    worker.check([(words[-1], worker.pid) for words in notices])
    del conn.notices[:]


def listen(worker: Worker, conn: Any) -> None:
    tag = worker.next_tag()
    name = "tag_" + tag.replace(".", "_")
    with conn.cursor() as cursor:
        cursor.execute(f"listen {name}; notify {name}, '{tag}'")
        conn.commit()
        cursor.execute(f"unlisten {name}")
    conn.poll()
    worker.check([(notify.payload, notify.pid) for notify in conn.notifies])
    del conn.notifies[:]


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
    cursor = conn.cursor("half_read")
    cursor.itersize = 10
    cursor.execute("select %s, pg_backend_pid() from generate_series(1, 1000)", (worker.next_tag(),))
    worker.check(cursor.fetchmany(7), 7)


class HalfReader:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def write(self, data: bytes) -> None:
        tag, pid = bytes(data).decode().split("\n")[0].split("\t")
        self.worker.check([(tag, int(pid))])
        raise Unfinished


def leave_copy(worker: Worker, conn: Any) -> None:
    query = f"copy (select '{worker.next_tag()}', pg_backend_pid() from generate_series(1, 5000)) to stdout"
    with contextlib.suppress(Unfinished), conn.cursor() as cursor:
        cursor.copy_expert(query, HalfReader(worker))


def close(worker: Worker, conn: Any) -> None:
    ask(worker, conn)
    conn.close()


# The job, how often, and whether it is the last of its loan: after it there is nothing to be asked.
JOBS: list[tuple[Callable[[Worker, Any], None], int, bool]] = [
    (ask, 500, False),
    (ask_for_rows, 100, False),
    (ask_slowly, 60, False),
    (fail, 60, True),
    (commit, 60, False),
    (be_told, 40, False),
    (listen, 20, False),
    (leave_transaction, 60, True),
    (leave_failed_transaction, 30, True),
    (leave_autocommit, 20, True),
    (leave_named_cursor, 10, True),
    (leave_copy, 5, True),
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
    except psycopg2.Error as error:
        _note_failure(worker, conn, error)
    worker.ledger.release(worker.pid, worker.number)
    if worker.random.random() < 0.01:
        pool.discard(conn)
    else:
        pool.putconn(conn)


def _borrow(worker: Worker, pool: Any) -> Any:
    timeout = worker.random.choice([0, worker.random.uniform(0.001, 0.03), 2, 2, 2, None])
    starved_before, began = starved(), time.monotonic()
    try:
        return pool.getconn(timeout)
    except (errors.PoolTimeout, errors.PoolPaused, errors.ConnectError):
        worker.ledger.count("not_lent")
    except psycopg2.OperationalError:
        worker.ledger.count("not_lent")  # of a connect of our own
    finally:
        # Without a timeout to wait for, one makes a whole attempt to connect.
        if timeout != 0:
            late = time.monotonic() - began - (DEFAULT_TIMEOUT if timeout is None else timeout)
            worker.ledger.note_lateness(late, starved() - starved_before)
    return None


def _check_clean(worker: Worker, conn: Any) -> None:
    if conn.closed or conn.autocommit or conn.info.transaction_status != extensions.TRANSACTION_STATUS_IDLE:
        worker.ledger.complain(
            "unclean_loans", f"closed {conn.closed}, autocommit {conn.autocommit}, {conn.info.transaction_status}"
        )
    # The last words of a server that has just ended the session may be there.
    if conn.notifies or any(text.startswith("NOTICE:") for text in conn.notices):
        worker.ledger.complain("unclean_loans", f"lent with {conn.notices} and {conn.notifies}")


def _work(worker: Worker, conn: Any) -> None:
    weights = [weight for _, weight, _ in JOBS]
    for job, _, is_last in worker.random.choices(JOBS, weights, k=worker.random.randrange(1, 4)):
        job(worker, conn)
        if is_last:
            break


def _note_failure(worker: Worker, conn: Any, error: psycopg2.Error) -> None:
    worker.ledger.count("lost")
    if error.pgcode not in EXPLAINED or not (conn.closed or isinstance(error, psycopg2.OperationalError)):
        worker.ledger.complain("strange_errors", f"{worker.tag}: {error.pgcode}: {error!r}")


def wait_for_sessions(application: str, wanted: int, seconds: float) -> bool:
    end = time.monotonic() + seconds
    while True:
        with contextlib.closing(psycopg2.connect("")) as conn, conn.cursor() as cursor:
            cursor.execute("select count(*) from pg_stat_activity where application_name = %s", (application,))
            found = cursor.fetchone()[0]
        if found == wanted or time.monotonic() > end:
            return bool(found == wanted)
        time.sleep(0.02)
