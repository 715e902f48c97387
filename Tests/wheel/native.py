"""A pool that connects by itself, first used by eight threads at once: each gets the answer to its own question."""

import threading

import dbpool
from dbpool._libpq import Libpq

THREADS = 8
together = threading.Barrier(THREADS)
failures = []


def work():
    try:
        together.wait(10)
        with dbpool.Pool("", max_size=2) as pool:
            for _ in range(20):
                with pool.connection() as loan:
                    Libpq().run(loan, "SELECT 1")
    except Exception as error:
        failures.append(error)


threads = [threading.Thread(target=work) for _ in range(THREADS)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join(60)
assert not failures, failures
print("native", dbpool.library_path)
