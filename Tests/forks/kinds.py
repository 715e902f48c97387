"""The two kinds of pool in one shape: that of libpq's connections, and that of psycopg2's. Each query brings a tag of
its own and the backend's pid back, and both must be right."""

from __future__ import annotations

import os
import threading
import time
from typing import Any

import dbpool
from dbpool._psycopg2 import Psycopg2Pool
from support import backend_pid, eventually, query

SIZE = 3
SECONDS = 20.0


class NativeKind:
    name = "native"

    def make(self, **options: Any) -> Any:
        return dbpool.Pool("", max_size=SIZE, **options)

    def get(self, pool: Any) -> Any:
        return pool.get(SECONDS)

    def put(self, pool: Any, conn: Any) -> None:
        pool.put(conn)

    def pid(self, conn: Any) -> int:
        return int(backend_pid(conn))

    def value(self, conn: Any, sql: str) -> str:
        return str(query(conn, sql))


class HostedKind:
    name = "hosted"

    def make(self, **options: Any) -> Any:
        return Psycopg2Pool({}, max_size=SIZE, **options)

    def get(self, pool: Any) -> Any:
        return pool.getconn(SECONDS)

    def put(self, pool: Any, conn: Any) -> None:
        pool.putconn(conn)

    def pid(self, conn: Any) -> int:
        return int(conn.info.backend_pid)

    def value(self, conn: Any, sql: str) -> str:
        with conn.cursor() as cursor:
            cursor.execute(sql)
            return str(cursor.fetchone()[0])


KINDS = {kind.name: kind for kind in (NativeKind(), HostedKind())}


def ask(kind: Any, conn: Any, tag: str) -> int:
    """The backend's pid, which must be what the client side believes."""
    answer = kind.value(conn, f"select '{tag}' || ' ' || pg_backend_pid()")
    assert answer == f"{tag} {kind.pid(conn)}", f"asked {tag} of {kind.pid(conn)}, answered {answer}"
    return int(answer.split()[1])


def use(kind: Any, pool: Any, times: int = 3) -> set[int]:
    """Loans, one after the other: the pids of their backends."""
    pids = set()
    for i in range(times):
        conn = kind.get(pool)
        pids.add(ask(kind, conn, f"{os.getpid()}.{i}"))
        kind.put(pool, conn)
    return pids


def fill(kind: Any, pool: Any) -> set[int]:
    """The backends of a pool of which nothing is lent: as many as there may be."""
    conns = [kind.get(pool) for _ in range(SIZE)]
    pids = {ask(kind, conn, f"fill.{i}") for i, conn in enumerate(conns)}
    for conn in conns:
        kind.put(pool, conn)
    return pids


class Load:
    """Threads that ask all the time. `with` ends them; what failed in them fails there."""

    def __init__(self, kind: Any, pool: Any, threads: int = SIZE + 1) -> None:
        self._kind, self._pool = kind, pool
        self._stop = threading.Event()
        self._errors: list[BaseException] = []
        self.asked = 0
        self._threads = [threading.Thread(target=self._run, args=(i,)) for i in range(threads)]

    def _run(self, number: int) -> None:
        serial = 0
        try:
            while not self._stop.is_set():
                conn = self._kind.get(self._pool)
                serial += 1
                ask(self._kind, conn, f"thread.{number}.{serial}")
                self._kind.put(self._pool, conn)
                self.asked += 1
                time.sleep(0.001)
        except BaseException as error:
            self._errors.append(error)

    def __enter__(self) -> Load:
        for thread in self._threads:
            thread.start()
        assert eventually(lambda: self.asked > 20 or self._errors)
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join(SECONDS)
        assert not self._errors, self._errors
        assert not any(thread.is_alive() for thread in self._threads)


def loans_lost(pool: Any) -> int:
    found: int = pool.stats().lost
    return found
