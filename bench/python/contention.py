"""Many threads on four connections, one `SELECT 1` for each loan: how many loans, and whether all get their turn.
The arguments: rounds, and seconds of each. All but psycopg_pool lend connections of psycopg2."""

import collections
import sys
import threading
import time

import dbpool.psycopg2_pool
import psycopg
import psycopg2
import psycopg_pool
import sqlalchemy.pool
from turns import take_turns

SIZE = 4


class Semaphore:
    """What a program would do by itself: a semaphore over a list of psycopg2's connections."""

    connect = staticmethod(psycopg2.connect)

    def __init__(self):
        self.free = threading.Semaphore(SIZE)
        self.idle = [self.connect("") for _ in range(SIZE)]

    def getconn(self):
        self.free.acquire()
        return self.idle.pop()

    def putconn(self, connection):
        connection.rollback()
        self.idle.append(connection)
        self.free.release()


class Queue:
    """The same, but first come, first served: each waiter has a lock that the one who gives back opens."""

    def __init__(self):
        self.guard = threading.Lock()
        self.waiting = collections.deque()
        self.idle = [psycopg2.connect("") for _ in range(SIZE)]

    def getconn(self):
        with self.guard:
            if self.idle:
                return self.idle.pop()
            turn = [threading.Lock(), None]
            turn[0].acquire()
            self.waiting.append(turn)
        turn[0].acquire()
        return turn[1]

    def putconn(self, connection):
        connection.rollback()
        with self.guard:
            if not self.waiting:
                self.idle.append(connection)
                return
            turn = self.waiting.popleft()
        turn[1] = connection
        turn[0].release()


class Psycopg3:
    """psycopg_pool, whose connections are of psycopg 3: the reference for it is `Psycopg3Semaphore`."""

    def __init__(self):
        self.pool = psycopg_pool.ConnectionPool("", min_size=SIZE, max_size=SIZE, open=True)
        self.pool.wait()
        self.getconn = self.pool.getconn

    def putconn(self, connection):
        connection.rollback()  # or it logs a warning, each time
        self.pool.putconn(connection)


class Psycopg3Semaphore(Semaphore):
    connect = staticmethod(psycopg.connect)


class Alchemy:
    def __init__(self):
        pool = sqlalchemy.pool.QueuePool(lambda: psycopg2.connect(""), pool_size=SIZE, max_overflow=0)
        self.getconn, self.putconn = pool.connect, lambda connection: connection.close()


def work(pool, seconds, barrier, counts):
    barrier.wait()
    end, count = time.monotonic() + seconds, 0
    while time.monotonic() < end:
        connection = pool.getconn()
        try:
            cursor = connection.cursor()
            cursor.execute("SELECT 1")
            cursor.fetchone()
            cursor.close()
        finally:
            pool.putconn(connection)
        count += 1
    counts.append(count)


def under(pool, threads, seconds):
    """A function that measures once."""

    def measure():
        counts, barrier = [], threading.Barrier(threads + 1)
        workers = [threading.Thread(target=work, args=(pool, seconds, barrier, counts)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start = time.monotonic()
        for worker in workers:
            worker.join()
        if len(counts) != threads:
            raise SystemExit("contention: a thread has failed")
        return {"loans_per_s": sum(counts) / (time.monotonic() - start), "least": min(counts), "most": max(counts)}

    return measure


def main():
    rounds, seconds = int(sys.argv[1]), float(sys.argv[2])
    ours = dbpool.psycopg2_pool.ThreadedConnectionPool(SIZE, SIZE, "", timeout=30)
    pools = {
        "dbpool.psycopg2_pool": ours,
        "semaphore": Semaphore(),
        "first come, first served": Queue(),
        "SQLAlchemy QueuePool": Alchemy(),
        "psycopg_pool": Psycopg3(),
        "semaphore, psycopg 3": Psycopg3Semaphore(),
    }
    for threads in (8, 32):
        measures = {name: under(pool, threads, seconds) for name, pool in pools.items()}
        take_turns(measures, rounds, test="contention", threads=threads)
    ours.closeall()


if __name__ == "__main__":
    main()
