"""Many threads on four connections, one `SELECT 1` for each loan: how many loans, and whether all get their turn."""

import collections
import threading
import time
from statistics import median

import dbpool.psycopg2_pool
import psycopg2
from turns import QUICK, print_table, ratio, take_turns

SIZE = 4
SECONDS, REPEATS = (0.3, 4) if QUICK else (0.5, 12)


class Semaphore:
    """What a program would do by itself: a semaphore over a list of psycopg2's connections."""

    def __init__(self):
        self.free = threading.Semaphore(SIZE)
        self.idle = [psycopg2.connect("") for _ in range(SIZE)]

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


def work(pool, barrier, counts):
    barrier.wait()
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        connection = pool.getconn()
        try:
            with connection.cursor() as cursor:
                cursor.execute("SELECT 1")
                cursor.fetchone()
        finally:
            pool.putconn(connection)
        count += 1
    counts.append(count)


def under(pool, threads, fairness):
    """A function that measures once: loans per second; how even they were goes to `fairness`."""

    def measure():
        counts, barrier = [], threading.Barrier(threads + 1)
        workers = [threading.Thread(target=work, args=(pool, barrier, counts)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start = time.monotonic()
        for worker in workers:
            worker.join()
        fairness.append(min(counts) / max(counts))
        return sum(counts) / (time.monotonic() - start)

    return measure


def main():
    ours = dbpool.psycopg2_pool.ThreadedConnectionPool(SIZE, SIZE, "", timeout=30)
    pools = {"a semaphore": Semaphore(), "a queue": Queue(), "**dbpool.psycopg2_pool**": ours}
    rows = []
    for threads in (8, 32):
        fairness = {name: [] for name in pools}
        figures = take_turns({name: under(pools[name], threads, fairness[name]) for name in pools}, REPEATS)
        for name in figures:
            ratios = [ratio(figures, name, rival) for rival in ("a semaphore", "a queue")]
            rows.append((threads, name, f"{median(figures[name]):,.0f}", *ratios, f"{median(fairness[name]):.2f}"))
    ours.closeall()
    compared = [f"compared with a {rival}: min / median / max" for rival in ("semaphore", "queue")]
    head = ("threads", "pool of 4", "loans/s (median)", *compared, "least / most served")
    print_table(f"Contention, {REPEATS} rounds of {SECONDS} s, psycopg2, `SELECT 1` for each loan", head, rows)


if __name__ == "__main__":
    main()
