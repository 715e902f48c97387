"""The package's pools of connections that a driver makes."""

from __future__ import annotations

import math
import time
from typing import Any, Callable

import dbpool
from failures import GetFailed, QueryFailed

from pools.base import BasePool
from pools.busy import busy_psycopg, busy_psycopg2

TEST_QUERY = "SELECT 1"


class HostedPool(BasePool):
    refills = False
    busy: list[Callable[[Any], None]]

    def __init__(
        self,
        driver: Any,
        kind: Any,
        words: dict[str, object],
        *,
        checked: bool,
        reset: str,
        connect_timeout: float,
        **options: Any,
    ) -> None:
        self.error = driver.Error
        self.pool = kind(
            {**words, "connect_timeout": math.ceil(connect_timeout)},
            test_query=TEST_QUERY if checked else None,
            reset={"rollback": "rollback", "full": "discard_all"}[reset],
            **options,
        )

    def get(self, timeout: float) -> Any:
        try:
            connection = self.pool.getconn(timeout)
        except self.error as error:
            raise GetFailed(kind_of(error), str(error)) from None
        connection.autocommit = True
        return connection

    def put(self, connection: Any) -> None:
        self.pool.putconn(connection)

    def discard(self, connection: Any) -> None:
        self.pool.discard(connection)

    def drain(self) -> None:
        """It has no call for that; paused, it opens nothing, and renewing closes what is idle or comes back."""
        self.pool.pause()
        self.pool.reconnect()
        end = time.monotonic() + 10
        while self.pool.stats().total > 0 and time.monotonic() < end:
            time.sleep(0.005)

    def resume(self) -> None:
        self.pool.resume()

    def _close(self) -> None:
        self.pool.close()

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                if cursor.description is None:
                    return []
                return [tuple(str(value) for value in row) for row in cursor.fetchall()]
        except self.error as error:
            raise QueryFailed(sqlstate(error), str(error).strip()) from None

    def stats(self) -> dbpool.PoolStats:
        found: dbpool.PoolStats = self.pool.stats()
        return found

    def busy_states(self) -> list[Callable[[Any], None]]:
        return self.busy

    def socket(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number


def kind_of(error: Exception) -> str:
    """A connect that failed is the driver's own error, or the pool's."""
    if isinstance(error, dbpool.PoolTimeout):
        return "timeout"
    return "connect" if isinstance(error, dbpool.ConnectError) or not isinstance(error, dbpool.Error) else "other"


def sqlstate(error: Any) -> str:
    return getattr(error, "pgcode", None) or getattr(error, "sqlstate", None) or ""


def make(name: str, words: dict[str, object], **options: Any) -> HostedPool:
    if name == "psycopg2":
        import psycopg2
        from dbpool._psycopg2 import Psycopg2Pool

        pool = HostedPool(psycopg2, Psycopg2Pool, words, **options)
        pool.busy = busy_psycopg2()
        return pool
    import psycopg
    from dbpool._psycopg import PsycopgPool

    pool = HostedPool(psycopg, PsycopgPool, words, **options)
    pool.busy = busy_psycopg()
    return pool
