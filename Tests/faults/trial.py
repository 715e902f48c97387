"""One case on one pool: what it works with, and what it found."""

from __future__ import annotations

import contextlib
import os
import threading
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Callable

import pools
from calls import Calls
from cluster import PASSWORD, Cluster
from proxy import Proxy
from table import Fault

SIZE = 10
TIMEOUT = 2.0
CONNECT_TIMEOUT = 2.0


@dataclass
class Opened:
    """A pool, and how many sessions it may have at rest."""

    pool: Any
    application: str
    min_size: int
    max_size: int

    def sessions(self) -> tuple[int, int]:
        """How many it has: at least, and at most."""
        now = self.pool.stats()
        return (0, self.max_size) if now is None else (now.total, now.total)

    def unrest(self) -> str:
        """Why it is not at rest; empty when it is, or does not say."""
        now = self.pool.stats()
        if now is None:
            return ""
        is_fine = now.idle == now.total and self.min_size <= now.total <= self.max_size
        is_fine = is_fine and now.in_use == now.waiting == now.connecting == 0
        counts = f"idle {now.idle}, in use {now.in_use}, waiting {now.waiting}, connecting {now.connecting}"
        return "" if is_fine else f"{counts}, total {now.total} of {self.min_size} to {self.max_size}"


class Trial:
    """Passed to the function of a case.

    `cluster` is the server, `calls` the timed uses, `criteria` the bounds of the table. `errors`, `recovery_ms` and
    `worst_ms` are printed; a check that does not hold is noted, and the case goes on.
    """

    def __init__(self, fault: Fault, pool_name: str, folder: Path, template: Path, shared: tuple[Path, int]) -> None:
        self.fault, self.pool_name, self.folder, self.template = fault, pool_name, folder, template
        self.criteria = fault.criteria
        self.application = f"{fault.id}-{pool_name}-{os.getpid()}"
        self.calls = Calls(TIMEOUT)
        self.errors: int | None = None
        self.worst_ms: float | None = None
        self.recovery_ms: float | None = None
        self.reasons: list[str] = []
        self.notes: list[str] = []
        self._opened: list[Opened] = []
        self._settled: list[Any] = []
        self._cleanup = contextlib.ExitStack()
        self.cluster = self.own_cluster() if fault.own_server else Cluster(*shared)
        self._cleanup.callback(self.cluster.forget_admin)

    # ------------------------------------------------------------------------------------------------ equipment

    def own_cluster(self, **settings: str) -> Cluster:
        """A fresh server with these settings, which is gone in the end."""
        cluster = Cluster.copy_of(self.template, self.folder / f"cluster{len(list(self.folder.iterdir()))}")
        self._cleanup.callback(cluster.remove)
        cluster.settings.update(settings)
        cluster.start()
        return cluster

    def proxy(self, cluster: Cluster | None = None) -> Proxy:
        """In front of the server."""
        proxy = Proxy((cluster or self.cluster).port)
        self._cleanup.callback(proxy.close)
        return proxy

    def words(self, proxy: Proxy | None = None, **more: object) -> dict[str, object]:
        """Of a conninfo."""
        return {
            "host": "127.0.0.1",
            "port": (proxy or self.cluster).port,
            "user": "app",
            "dbname": "app",
            "password": PASSWORD,
            "application_name": self.application,
            **more,
        }

    def pool(
        self,
        proxy: Proxy | None = None,
        *,
        min_size: int = SIZE,
        max_size: int = SIZE,
        timeout: float = TIMEOUT,
        connect_timeout: float = CONNECT_TIMEOUT,
        checked: bool = False,
        reset: str = "rollback",
        full: bool = True,
        words: dict[str, object] | None = None,
        **more: Any,
    ) -> Any:
        """A pool, which is closed in the end. `full`: min_size connections are open when this returns. `more`: what
        only this kind of pool knows."""
        pool = pools.make(
            self.pool_name,
            {**self.words(proxy), **(words or {})},
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            connect_timeout=connect_timeout,
            checked=checked,
            reset=reset,
            **more,
        )
        application = str((words or {}).get("application_name", self.application))
        self._opened.append(Opened(pool, application, min_size, max_size))
        self._cleanup.callback(pool.close)
        if full and min_size:
            self.fill(pool, min_size)
        return pool

    def fill(self, pool: Any, count: int, patience: float = 10) -> list[Any]:
        """Borrows `count` at once, uses each and puts them back: all are open and work then."""
        connections = []
        try:
            for _ in range(count):
                connections.append(pool.get(patience))
            for connection in connections:
                pool.query(connection, "SELECT 1")
        finally:
            for connection in connections:
                pool.put(connection)
        return connections

    # ------------------------------------------------------------------------------------------------- findings

    def bounded(self, what: str, work: Callable[[], Any], seconds: float) -> bool:
        """Does it in a thread, and waits for no longer than so many seconds. Whether it has ended in time; what it
        raises is raised. One that hangs goes on in the background."""
        failures: list[BaseException] = []

        def run() -> None:
            try:
                work()
            except BaseException as failure:
                failures.append(failure)

        thread = threading.Thread(target=run, daemon=True)
        thread.start()
        thread.join(seconds)
        if failures:
            raise failures[0]
        return self.check(not thread.is_alive(), f"{what}: still hanging after {seconds:g} s")

    def check(self, holds: bool, otherwise: str) -> bool:
        if not holds:
            self.reasons.append(otherwise)
        return holds

    def at_most(self, what: str, measured: float, limit: float, unit: str = "") -> bool:
        return self.check(measured <= limit, f"{what}: {measured:.6g}{unit} > {limit:g}{unit}")

    def at_least(self, what: str, measured: float, limit: float, unit: str = "") -> bool:
        return self.check(measured >= limit, f"{what}: {measured:.6g}{unit} < {limit:g}{unit}")

    def until(self, condition: Callable[[], bool], seconds: float, interval: float = 0.002) -> float | None:
        """Waits for it; the ms that it took, None when it did not come true."""
        start = time.monotonic()
        while True:
            if condition():
                return (time.monotonic() - start) * 1000
            if time.monotonic() > start + seconds:
                return None
            time.sleep(interval)

    def recovers(self, what: str, condition: Callable[[], bool], since: float, limit_ms: float) -> None:
        """It comes true within `limit_ms` of the instant `since`; printed as the recovery."""
        left = since + limit_ms / 1000 - time.monotonic()
        # Beyond the limit only to measure by how much it is missed.
        if self.until(condition, max(0, left) + 5) is None:
            self.reasons.append(f"{what}: not within {limit_ms + 5000:g} ms")
            return
        self.recovery_ms = (time.monotonic() - since) * 1000
        self.at_most(what, self.recovery_ms, limit_ms, " ms")

    def replaced(self, pool: Any, since: float, limit_ms: float, size: int = SIZE) -> None:
        """`size` connections work again: opened by the pool itself, or by as many borrowers at once where a pool opens
        on demand."""
        if pool.refills and pool.stats() is not None:
            self.recovers("all replaced", lambda: pool.stats().idle == size, since, limit_ms)
        else:
            self.fill(pool, size)
            self.recovery_ms = (time.monotonic() - since) * 1000
            self.at_most("all replaced", self.recovery_ms, limit_ms, " ms")

    def settled(
        self,
        pool: Any,
        size: int = SIZE,
        seconds: float = 3,
        cluster: Cluster | None = None,
        sessions: Callable[[], int] | None = None,
    ) -> None:
        """The end state: idle = min, no waiter, and the server sees exactly the pool's sessions. `sessions` counts
        them where the pool's server is no cluster."""
        self._settled.append(pool)
        self._comes_to_rest([Opened(pool, self.application, size, size)], sessions or self._seen_by(cluster), seconds)

    def _seen_by(self, cluster: Cluster | None, application: str | None = None) -> Callable[[], int]:
        return lambda: len((cluster or self.cluster).sessions(application or self.application))

    def _comes_to_rest(self, opened: list[Opened], sessions: Callable[[], int], seconds: float) -> None:
        """These and no others have sessions."""
        for one in opened:
            if not one.pool.refills:
                self.fill(one.pool, one.min_size)

        def state() -> str:
            count = sessions()
            complaints = [words for words in (one.unrest() for one in opened) if words]
            least, most = (sum(bounds) for bounds in zip((0, 0), *(one.sessions() for one in opened)))
            if not least <= count <= most:
                complaints.append(f"sessions at the server {count}, of the pools {least} to {most}")
            return ", ".join(complaints)

        if self.until(lambda: not state(), seconds, 0.01) is None:
            self.reasons.append(f"end state: {state()}")

    def _end_state(self) -> None:
        """Of what the case has not looked at itself. A pool that is closed has no sessions left."""
        for application in {self.application, *(one.application for one in self._opened)}:
            opened = [one for one in self._opened if one.application == application and one.pool.is_open]
            if not any(one.pool in self._settled for one in opened):
                self._comes_to_rest(opened, self._seen_by(None, application), 3)

    def conclude(self, has_ended: bool) -> None:
        """What holds for all cases. `has_ended`: not skipped, nothing raised."""
        if self.errors is None:
            self.errors = len(self.calls.errors)
        if self.worst_ms is None and self.calls.list:
            self.worst_ms = self.calls.worst_ms()
        overdue = self.calls.overdue()
        if overdue:
            worst = max(overdue, key=lambda call: call.get_ms - call.timeout_ms)
            self.reasons.append(
                f"{len(overdue)} gets outlast their timeout, worst {worst.get_ms:.0f} ms of {worst.timeout_ms:.0f} ms"
            )
        # Of a pool that fails already a get may hang.
        if has_ended and not self.reasons and not self.fault.unsettled:
            self._end_state()

    def clean_up(self) -> None:
        self._cleanup.close()
