"""psycopg_pool: milliseconds until so many connections are open, and what a get of an idle one takes meanwhile. Prints
a line of JSON; with the argument `meanwhile` it says when one is open, and waits for a line before the others."""

import json
import sys
import threading
import time

import psycopg_pool


def fill(count):
    start = time.monotonic()
    with psycopg_pool.ConnectionPool("", min_size=count, max_size=count, open=True) as pool:
        pool.wait(60)
        return {"ms": (time.monotonic() - start) * 1000}


def get_meanwhile(pool, is_full, waits):
    while not is_full.is_set():
        start = time.monotonic()
        connection = pool.getconn()
        waits.append((time.monotonic() - start) * 1e6)
        pool.putconn(connection)
        time.sleep(0.0001)


def watch_fill(count):
    with psycopg_pool.ConnectionPool("", min_size=1, max_size=count + 1, open=True) as pool:
        pool.wait(10)
        print('{"ready": true}', flush=True)
        sys.stdin.readline()
        is_full, waits = threading.Event(), []
        thread = threading.Thread(target=get_meanwhile, args=(pool, is_full, waits))
        thread.start()
        start = time.monotonic()
        pool.resize(count + 1, count + 1)
        while pool.get_stats()["pool_size"] < count + 1 or pool.get_stats()["pool_available"] < count:
            time.sleep(0.001)
        took = time.monotonic() - start
        is_full.set()
        thread.join()
    waits.sort()
    found = {f"p{part}_us": waits[int(len(waits) * part / 100)] for part in (50, 99)}
    return {"ms": took * 1000, "gets": len(waits), **found, "worst_us": waits[-1]}


if __name__ == "__main__":
    figures = (watch_fill if sys.argv[1] == "meanwhile" else fill)(int(sys.argv[-1]))
    print(json.dumps({"pool": "psycopg_pool", **figures}))
