"""Uses of a pool, timed: get, one query, put."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass
from typing import Any, Callable

from failures import GetFailed, QueryFailed


@dataclass
class Call:
    start: float
    get_ms: float
    total_ms: float
    error: Exception | None
    # The most that the get was allowed to take, without the tolerance.
    timeout_ms: float
    rows: list[tuple[str, ...]] | None = None

    @property
    def end(self) -> float:
        return self.start + self.total_ms / 1000


class Calls:
    """All that were made in a case, by any thread."""

    def __init__(self, timeout: float) -> None:
        self.timeout = timeout
        self.list: list[Call] = []

    def use(self, pool: Any, sql: str = "SELECT 1", timeout: float | None = None, hold: float = 0) -> Call:
        """Never raises for what the pool or the server says: that stands in the call."""
        timeout = self.timeout if timeout is None else timeout
        start = time.monotonic()
        error: Exception | None = None
        rows = None
        got = None
        try:
            connection = pool.get(timeout)
            got = time.monotonic()
            try:
                rows = pool.query(connection, sql)
                if hold:
                    time.sleep(hold)
            finally:
                pool.put(connection)
        except (GetFailed, QueryFailed) as failed:
            error = failed
        end = time.monotonic()
        call = Call(start, ((got or end) - start) * 1000, (end - start) * 1000, error, timeout * 1000, rows)
        self.list.append(call)
        return call

    def get(self, pool: Any, timeout: float | None = None) -> Any:
        """A timed get without a query. Raises GetFailed."""
        timeout = self.timeout if timeout is None else timeout
        start = time.monotonic()
        error: Exception | None = None
        try:
            return pool.get(timeout)
        except GetFailed as failed:
            error = failed
            raise
        finally:
            ms = (time.monotonic() - start) * 1000
            self.list.append(Call(start, ms, ms, error, timeout * 1000))

    @property
    def errors(self) -> list[Call]:
        return [call for call in self.list if call.error is not None]

    def worst_ms(self) -> float:
        return max((call.total_ms for call in self.list), default=0.0)

    def overdue(self) -> list[Call]:
        """Whose get took longer than its timeout and a quarter of a second."""
        return [call for call in self.list if call.get_ms > call.timeout_ms + 250]

    def first_success_after(self, instant: float) -> float | None:
        """In ms after it, of a call that ended after it."""
        ends = [call.end for call in list(self.list) if call.error is None and call.end >= instant]
        return (min(ends) - instant) * 1000 if ends else None


class Users:
    """Threads that call until they are told to stop."""

    def __init__(self, count: int, work: Callable[[int], object]) -> None:
        self._stop = threading.Event()
        self._work = work
        self.failures: list[BaseException] = []
        self.threads = [threading.Thread(target=self._run, args=(i,), daemon=True) for i in range(count)]
        for thread in self.threads:
            thread.start()

    def _run(self, number: int) -> None:
        try:
            while not self._stop.is_set():
                self._work(number)
        except BaseException as failure:
            self.failures.append(failure)

    def stop(self, patience: float = 20) -> None:
        """Raises what a thread raised, and when one does not end."""
        self._stop.set()
        end = time.monotonic() + patience
        for thread in self.threads:
            thread.join(max(0, end - time.monotonic()))
        hanging = sum(thread.is_alive() for thread in self.threads)
        assert not hanging, f"{hanging} threads hang"
        if self.failures:
            raise self.failures[0]


def together(count: int, work: Callable[[int], object], patience: float = 20) -> None:
    """`work(number)` once in each of so many threads, which start at the same moment."""
    barrier = threading.Barrier(count)
    failures: list[BaseException] = []

    def run(number: int) -> None:
        try:
            barrier.wait(patience)
            work(number)
        except BaseException as failure:
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(i,), daemon=True) for i in range(count)]
    for thread in threads:
        thread.start()
    end = time.monotonic() + patience
    for thread in threads:
        thread.join(max(0, end - time.monotonic()))
    hanging = sum(thread.is_alive() for thread in threads)
    assert not hanging, f"{hanging} of {count} threads hang"
    if failures:
        raise failures[0]
