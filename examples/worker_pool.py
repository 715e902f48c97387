#!/usr/bin/env python3
"""worker_pool.c in Python: eight threads share four connections, with the pool and without.

    PYTHONPATH=bindings/python python3 examples/worker_pool.py [--no-pool] [--threads 8] [--connections 4] [--seconds 4]

The pool lends the address of a PGconn, which any ctypes code can use: here libpq itself, so that no driver is needed.
The database, the units of work, the retries and the lines of output are those of worker_pool.c.
"""

import argparse
import contextlib
import ctypes
import sys
import threading
import time

import dbpool

ACCOUNTS = 100
UNITS_PER_TRANSFER = 5
PROGRESS_SECONDS = 0.1

CONNECTION_OK = 0
PGRES_COMMAND_OK, PGRES_TUPLES_OK = 1, 2

BALANCE = b"SELECT balance FROM accounts WHERE id = $1::bigint"
BOOK = b"INSERT INTO ledger VALUES ($1::bigint, $2::bigint) ON CONFLICT DO NOTHING"
CHANGE = b"UPDATE accounts SET balance = balance + $1::bigint WHERE id = $2::bigint"


def load_libpq():
    """The functions of libpq that are used here, with their types."""
    libpq = ctypes.CDLL("libpq.so.5")
    pointer, text, number = ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int
    texts = ctypes.POINTER(ctypes.c_char_p)
    for name, result, *arguments in (
        ("PQconnectdb", pointer, text),
        ("PQfinish", None, pointer),
        ("PQstatus", number, pointer),
        ("PQerrorMessage", text, pointer),
        ("PQexecParams", pointer, pointer, text, number, pointer, texts, pointer, pointer, number),
        ("PQresultStatus", number, pointer),
        ("PQntuples", number, pointer),
        ("PQcmdTuples", text, pointer),
        ("PQclear", None, pointer),
    ):
        function = getattr(libpq, name)
        function.restype, function.argtypes = result, arguments
    return libpq


pq = load_libpq()


class LostError(Exception):
    """The connection broke: the unit is to be done again."""


class WrongError(Exception):
    """The server refused, or answered nonsense: ends the run."""


def report(kind, message):
    """Print one line in one write, so that the lines of two threads do not mix."""
    lines = str(message).splitlines() or [""]
    sys.stdout.write(f"{kind} {lines[0]}\n")
    sys.stdout.flush()


@contextlib.contextmanager
def own_connection():
    """Without the pool: a connection of its own for each unit of work."""
    conn = pq.PQconnectdb(b"")
    try:
        if pq.PQstatus(conn) != CONNECTION_OK:
            raise LostError(pq.PQerrorMessage(conn).decode())
        yield conn
    finally:
        pq.PQfinish(conn)


def run(conn, sql, *numbers):
    """Run one statement; how many rows it returned or changed."""
    values = (ctypes.c_char_p * 3)(*(b"%d" % number for number in numbers))
    result = pq.PQexecParams(conn, sql, len(numbers), None, values, None, None, 0)
    status = pq.PQresultStatus(result)
    rows = pq.PQntuples(result) if status == PGRES_TUPLES_OK else int(pq.PQcmdTuples(result) or 0)
    pq.PQclear(result)
    if status not in (PGRES_COMMAND_OK, PGRES_TUPLES_OK):
        message = pq.PQerrorMessage(conn).decode()
        raise WrongError(message) if pq.PQstatus(conn) == CONNECTION_OK else LostError(message)
    return rows


def expect_one_row(conn, sql, *numbers):
    if run(conn, sql, *numbers) != 1:
        raise WrongError("expected one row")


def ask_balance(conn, unit):
    """One query. Returns the number of statements."""
    expect_one_row(conn, BALANCE, unit % ACCOUNTS)
    return 1


def transfer(conn, unit):
    """One transaction. Accounts are changed in ascending order, so two transfers cannot block each other for ever."""
    first, amount = unit % (ACCOUNTS - 1), unit % 7 - 3
    run(conn, b"BEGIN")
    if run(conn, BOOK, unit, amount) == 0:  # only the answer to its COMMIT was lost
        run(conn, b"ROLLBACK")
        return 3
    expect_one_row(conn, CHANGE, -amount, first)
    expect_one_row(conn, CHANGE, amount, first + 1)
    run(conn, b"COMMIT")
    return 5


class Worker(threading.Thread):
    """One thread, with figures of its own that the main thread adds up."""

    def __init__(self, number, settings, connection):
        super().__init__(name=f"worker-{number}")
        self.number, self.settings, self.connection = number, settings, connection
        self.queries = self.transfers = self.errors = self.abandoned = 0
        self.waits = []
        self.stopping = threading.Event()
        self.failure = None

    def run(self):
        try:
            i = 0
            while not self.stopping.is_set():
                unit = i * self.settings.threads + self.number  # no two threads share a number
                self.do_unit(unit, transfer if i % UNITS_PER_TRANSFER == 0 else ask_balance)
                i += 1
        except Exception as error:
            self.failure = error

    def do_unit(self, unit, task):
        for _ in range(5):  # sessions are killed one after the other: a retry can meet the next of them
            try:
                self.attempt(unit, task)
                return
            except (LostError, dbpool.ConnectError, dbpool.PoolTimeout) as error:
                report("lost", error)
                self.errors += 1
            if self.stopping.is_set():
                return
        self.abandoned += 1

    def attempt(self, unit, task):
        start = time.perf_counter()
        with self.connection() as conn:  # a broken one may go back like any other: the pool replaces it
            self.waits.append(time.perf_counter() - start)
            self.queries += task(conn, unit)
        if task is transfer:
            self.transfers += 1


def show_progress_until(end, workers):
    while time.monotonic() < end and not any(worker.failure for worker in workers):
        time.sleep(PROGRESS_SECONDS)
        queries, errors = sum(worker.queries for worker in workers), sum(worker.errors for worker in workers)
        report("progress", f"queries={queries} errors={errors}")


def run_workers(settings, connection):
    """All the work; True when it went well."""
    workers = [Worker(number, settings, connection) for number in range(settings.threads)]
    start = time.monotonic()
    for worker in workers:
        worker.start()
    try:
        show_progress_until(start + settings.seconds, workers)
    finally:
        for worker in workers:
            worker.stopping.set()
        for worker in workers:
            worker.join()
    failures = [worker.failure for worker in workers if worker.failure]
    if not failures and not any(worker.waits for worker in workers):
        failures.append("there was no connection at all")
    for failure in failures:
        report("error", failure)
    if not failures:
        print_result(workers, time.monotonic() - start)
    return not failures


def print_result(workers, seconds):
    waits = sorted(wait for worker in workers for wait in worker.waits)
    names = ("queries", "transfers", "errors", "abandoned")
    figures = " ".join(f"{name}={sum(getattr(worker, name) for worker in workers)}" for name in names)
    p50, p99 = (1e6 * waits[len(waits) * percent // 100] for percent in (50, 99))
    report("result", f"seconds={seconds:.3f} {figures} wait_p50_us={p50:.1f} wait_p99_us={p99:.1f}")


def main():
    parser = argparse.ArgumentParser(description="Eight threads share four connections.")
    parser.add_argument("--no-pool", action="store_true")
    parser.add_argument("--threads", type=int, default=8)
    parser.add_argument("--connections", type=int, default=4)
    parser.add_argument("--seconds", type=float, default=4)
    settings = parser.parse_args()
    if settings.no_pool:
        return 0 if run_workers(settings, own_connection) else 1
    with dbpool.Pool("", name="worker_pool.py", max_size=settings.connections) as pool:
        return 0 if run_workers(settings, pool.connection) else 1


if __name__ == "__main__":
    sys.exit(main())
