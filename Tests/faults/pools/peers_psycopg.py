"""psycopg_pool, as it is and with its check."""

from __future__ import annotations

import itertools
from typing import Any, Callable

import psycopg
from failures import GetFailed, QueryFailed
from psycopg_pool import ConnectionPool, PoolTimeout, TooManyRequests

from pools.base import BasePool
from pools.busy import busy_psycopg


class PsycopgPoolPeer(BasePool):
    def __init__(self, words: dict[str, Any], is_checking: bool, **options: Any) -> None:
        self._attempts = attempts = itertools.count()

        class Counted(psycopg.Connection[Any]):
            @classmethod
            def connect(cls, *args: Any, **kwargs: Any) -> Any:
                next(attempts)
                return super().connect(*args, **kwargs)

        self.pool = ConnectionPool(
            kwargs={**words, "autocommit": True, "connect_timeout": int(options["connect_timeout"])},
            connection_class=Counted,
            min_size=options["min_size"],
            max_size=options["max_size"],
            timeout=options["timeout"],
            check=ConnectionPool.check_connection if is_checking else None,
            open=True,
        )

    def get(self, timeout: float) -> Any:
        try:
            return self.pool.getconn(timeout)
        except (PoolTimeout, TooManyRequests) as error:
            raise GetFailed("timeout", str(error)) from None
        except psycopg.Error as error:
            raise GetFailed("connect", str(error)) from None

    def put(self, connection: Any) -> None:
        self.pool.putconn(connection)

    def discard(self, connection: Any) -> None:
        connection.close()
        self.pool.putconn(connection)

    def busy_states(self) -> list[Callable[[Any], None]]:
        return busy_psycopg()

    def _close(self) -> None:
        self.pool.close(2)

    def attempts(self) -> int:
        return int(repr(self._attempts)[len("count(") : -1])

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        try:
            cursor = connection.execute(sql)
            return [tuple(map(str, row)) for row in cursor.fetchall()] if cursor.description else []
        except psycopg.Error as error:
            raise QueryFailed(error.sqlstate or "", str(error)) from None


def make(name: str, words: dict[str, Any], **options: Any) -> PsycopgPoolPeer:
    return PsycopgPoolPeer(words, name.endswith("+check"), **options)
