"""What getconn and putconn cost on an open connection, in processor time: one thread, pools of four."""

import time
from statistics import median

import dbpool.psycopg2_pool
import psycopg2.pool
import psycopg_pool
import sqlalchemy.pool
from dbpool._psycopg2 import Psycopg2Pool
from turns import QUICK, print_table, ratio, take_turns

CALLS, REPEATS = (2000, 9) if QUICK else (10000, 25)
SIZE = 4


def repeat(borrow, give_back):
    """A function that measures CALLS pairs once: nanoseconds of processor time for each."""

    def measure():
        start = time.process_time_ns()
        for _ in range(CALLS):
            give_back(borrow())
        return (time.process_time_ns() - start) / CALLS

    measure()  # opens what is to be open
    return measure


def contestants():
    theirs = psycopg2.pool.ThreadedConnectionPool(SIZE, SIZE, "")
    ours = dbpool.psycopg2_pool.ThreadedConnectionPool(SIZE, SIZE, "")
    engine = Psycopg2Pool({"dsn": ""}, max_size=SIZE)
    psycopg3 = psycopg_pool.ConnectionPool("", min_size=SIZE, max_size=SIZE, open=True)
    psycopg3.wait()
    alchemy = sqlalchemy.pool.QueuePool(lambda: psycopg2.connect(""), pool_size=SIZE, reset_on_return=None)
    return {
        "psycopg2.pool.ThreadedConnectionPool": repeat(theirs.getconn, theirs.putconn),
        "**dbpool.psycopg2_pool.ThreadedConnectionPool**": repeat(ours.getconn, ours.putconn),
        "the pool of the Django engine, psycopg2": repeat(engine.getconn, engine.putconn),
        "psycopg_pool.ConnectionPool": repeat(psycopg3.getconn, psycopg3.putconn),
        "sqlalchemy.pool.QueuePool": repeat(alchemy.connect, lambda connection: connection.close()),
    }, (theirs.closeall, ours.closeall, engine.close, psycopg3.close, alchemy.dispose)


def main():
    measures, endings = contestants()
    figures = take_turns(measures, REPEATS)
    for end in endings:
        end()
    reference = next(iter(figures))
    rows = [(name, f"{median(figures[name]):,.0f}", ratio(figures, name, reference)) for name in figures]
    print_table(
        f"getconn and putconn, {REPEATS} rounds of {CALLS} by one thread",
        ("pool of 4", "ns (median)", "compared with psycopg2's: min / median / max"),
        rows,
    )


if __name__ == "__main__":
    main()
