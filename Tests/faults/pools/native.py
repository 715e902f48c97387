"""dbpool.Pool: connections of libpq, lent as addresses."""

from __future__ import annotations

from typing import Any, Callable

import dbpool
import pq
from cluster import conninfo_text
from failures import GetFailed

from pools.base import BasePool
from pools.busy import LEFT_BEHIND

KINDS = {dbpool.PoolTimeout: "timeout", dbpool.ConnectError: "connect"}


class NativePool(BasePool):
    lends_pgconn = True

    def __init__(self, words: dict[str, object], *, checked: bool, reset: str, timeout: float, **options: Any) -> None:
        self.pool = dbpool.Pool(
            conninfo_text(words),
            acquire_timeout=timeout,
            check="ping" if checked else "watch",
            reset={"rollback": "rollback", "full": "discard_all"}[reset],
            **options,
        )

    def get(self, timeout: float) -> dbpool.Loan:
        try:
            return self.pool.get(timeout)
        except dbpool.Error as error:
            raise GetFailed(KINDS.get(type(error), "other"), str(error)) from None

    def put(self, connection: dbpool.Loan) -> None:
        self.pool.put(connection)

    def discard(self, connection: dbpool.Loan) -> None:
        self.pool.discard(connection)

    def drain(self) -> None:
        self.pool.drain(10)

    def resume(self) -> None:
        self.pool.resume()

    def _close(self) -> None:
        self.pool.close()

    def query(self, connection: dbpool.Loan, sql: str) -> list[tuple[str, ...]]:
        return pq.query(connection, sql)

    def stats(self) -> dbpool.PoolStats:
        return self.pool.stats()

    def busy_states(self) -> list[Callable[[Any], None]]:
        return list(LEFT_BEHIND)

    def socket(self, connection: dbpool.Loan) -> int:
        return int(pq.socket(connection))


def make(_name: str, words: dict[str, object], **options: Any) -> NativePool:
    return NativePool(words, **options)
