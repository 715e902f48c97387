"""Forks while the parent connects without end, by a driver whose TLS library has locks of its own."""

from __future__ import annotations

import faulthandler
import importlib
import os
import signal
import sys
import threading
from typing import Any

import pytest

# A tenth of those of the native pools: each waits for the connects under way.
FORKS = int(os.environ.get("FORKS", "1000")) // 10 + 100
AT_ONCE = 3
THREADS = 4
CHILD_SECONDS = 60


def make_pool(driver: str) -> Any:
    name, words = {"psycopg2": ("Psycopg2Pool", {"dsn": ""}), "psycopg": ("PsycopgPool", {"conninfo": ""})}[driver]
    kind = getattr(importlib.import_module(f"dbpool._{driver}"), name)
    return kind(words, name="forks", max_size=6, timeout=30)


def ask(conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute("select 4711")
        assert cursor.fetchone() == (4711,)


def live(pool: Any) -> None:
    code = 1
    try:
        faulthandler.register(signal.SIGALRM, file=sys.__stderr__, chain=True)  # one that hangs says where, and ends
        signal.alarm(CHILD_SECONDS)
        conn = pool.getconn()
        ask(conn)
        pool.putconn(conn)
        code = 0
    except BaseException as error:
        print(f"child {os.getpid()}: {error!r}", file=sys.stderr)
    finally:
        os._exit(code)


@pytest.mark.parametrize("driver", ["psycopg2", "psycopg"])
def test_children_of_a_parent_that_connects_all_the_time(driver: str) -> None:
    pool = make_pool(driver)
    over = threading.Event()
    failures: list[BaseException] = []

    def connect_on() -> None:
        try:
            while not over.is_set():
                conn = pool.getconn()
                ask(conn)
                pool.discard(conn)
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=connect_on) for _ in range(THREADS)]
    for thread in threads:
        thread.start()
    ends: list[int] = []
    for number in range(FORKS):
        if number >= AT_ONCE:
            ends.append(os.wait()[1])
        if os.fork() == 0:
            live(pool)
    while len(ends) < FORKS:
        ends.append(os.wait()[1])
    over.set()
    for thread in threads:
        thread.join()
    assert not failures
    assert ends == [0] * FORKS
    pool.close()
