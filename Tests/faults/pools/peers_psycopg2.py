"""psycopg2.pool."""

from __future__ import annotations

from typing import Any, Callable

import psycopg2
from failures import GetFailed, QueryFailed
from psycopg2.pool import PoolError, ThreadedConnectionPool

from pools.base import BasePool
from pools.busy import busy_psycopg2


class Counted(ThreadedConnectionPool):
    made = 0

    def _connect(self, key: Any = None) -> Any:
        self.made += 1
        return super()._connect(key)


class Psycopg2PoolPeer(BasePool):
    refills = False

    def __init__(self, words: dict[str, Any], **options: Any) -> None:
        timeout = int(options["connect_timeout"])
        self.pool = Counted(options["min_size"], options["max_size"], **words, connect_timeout=timeout)

    def get(self, timeout: float) -> Any:  # it has no timeout
        try:
            connection = self.pool.getconn()
        except PoolError as error:
            raise GetFailed("timeout", str(error)) from None
        except psycopg2.Error as error:
            raise GetFailed("connect", str(error)) from None
        try:
            connection.autocommit = True
        except psycopg2.Error as error:
            self.pool.putconn(connection)
            raise QueryFailed(error.pgcode or "", str(error)) from None
        return connection

    def put(self, connection: Any) -> None:
        self.pool.putconn(connection)

    def discard(self, connection: Any) -> None:
        self.pool.putconn(connection, close=True)

    def begin(self, connection: Any) -> None:
        connection.autocommit = False  # in which the driver begins it, and knows of it

    def busy_states(self) -> list[Callable[[Any], None]]:
        return busy_psycopg2()

    def _close(self) -> None:
        self.pool.closeall()

    def attempts(self) -> int:
        return self.pool.made

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        try:
            with connection.cursor() as cursor:
                cursor.execute(sql)
                return [tuple(map(str, row)) for row in cursor.fetchall()] if cursor.description else []
        except psycopg2.Error as error:
            raise QueryFailed(error.pgcode or "", str(error)) from None


def make(_name: str, words: dict[str, Any], **options: Any) -> Psycopg2PoolPeer:
    return Psycopg2PoolPeer(words, **options)
