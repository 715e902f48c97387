"""SQLAlchemy's QueuePool over psycopg2, as it is and with pre_ping."""

from __future__ import annotations

from functools import wraps
from typing import Any, Callable

import psycopg2
import sqlalchemy
from failures import GetFailed, QueryFailed
from sqlalchemy.exc import DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from pools.base import BasePool
from pools.busy import busy_psycopg2


class SQLAlchemyPeer(BasePool):
    refills = False

    def __init__(self, words: dict[str, Any], pre_ping: bool, **options: Any) -> None:
        self.made = 0

        def connect() -> Any:
            self.made += 1
            return psycopg2.connect(**words, connect_timeout=int(options["connect_timeout"]))

        self.engine = sqlalchemy.create_engine(
            "postgresql+psycopg2://",
            creator=connect,
            pool_size=options["max_size"],
            max_overflow=0,
            pool_timeout=options["timeout"],
            pool_pre_ping=pre_ping,
            isolation_level="AUTOCOMMIT",
        )

    def get(self, timeout: float) -> Any:
        self.engine.pool._timeout = timeout  # there is none for one get
        try:
            return self.engine.connect()
        except PoolTimeout as error:
            raise GetFailed("timeout", str(error)) from None
        except (DBAPIError, psycopg2.Error) as error:
            raise GetFailed("connect", str(error)) from None

    def put(self, connection: Any) -> None:
        connection.close()

    def discard(self, connection: Any) -> None:
        connection.invalidate()
        connection.close()

    def begin(self, connection: Any) -> None:
        connection.execution_options(isolation_level="READ COMMITTED")

    def busy_states(self) -> list[Callable[[Any], None]]:
        return [on_driver_connection(leave) for leave in busy_psycopg2()]

    def _close(self) -> None:
        self.engine.dispose()

    def attempts(self) -> int:
        return self.made

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        try:
            result = connection.exec_driver_sql(sql)
            return [tuple(map(str, row)) for row in result] if result.returns_rows else []
        except DBAPIError as error:
            raise QueryFailed(getattr(error.orig, "pgcode", None) or "", str(error.orig)) from None


def on_driver_connection(leave: Callable[[Any], None]) -> Callable[[Any], None]:
    @wraps(leave)
    def on(connection: Any) -> None:
        leave(connection.connection.driver_connection)

    return on


def make(name: str, words: dict[str, Any], **options: Any) -> SQLAlchemyPeer:
    return SQLAlchemyPeer(words, name.endswith("+pre_ping"), **options)
