"""What getconn and putconn cost on an open connection, in processor time: one thread, pools of four. Samples of so
many rounds as the argument says."""

import sys
import time

import dbpool.psycopg2_pool
import psycopg2.pool
import psycopg_pool
import sqlalchemy.pool
from dbpool._psycopg2 import Psycopg2Pool
from turns import take_turns

CALLS = 5000
SIZE = 4


def repeat(borrow, give_back):
    """A function that measures CALLS pairs once: nanoseconds of processor time for each."""

    def measure():
        start = time.process_time_ns()
        for _ in range(CALLS):
            give_back(borrow())
        return {"ns": (time.process_time_ns() - start) / CALLS}

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
        "psycopg2.pool": repeat(theirs.getconn, theirs.putconn),
        "dbpool.psycopg2_pool": repeat(ours.getconn, ours.putconn),
        "dbpool, the engine's pool of psycopg2": repeat(engine.getconn, engine.putconn),
        "psycopg_pool": repeat(psycopg3.getconn, psycopg3.putconn),
        "SQLAlchemy QueuePool": repeat(alchemy.connect, lambda connection: connection.close()),
    }, (theirs.closeall, ours.closeall, engine.close, psycopg3.close, alchemy.dispose)


def main():
    measures, endings = contestants()
    take_turns(measures, int(sys.argv[1]), test="get_put")
    for end in endings:
        end()


if __name__ == "__main__":
    main()
