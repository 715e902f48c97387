"""A server, or something in between, that does not speak the protocol."""

from __future__ import annotations

import time

from failures import GetFailed, QueryFailed
from table import OURS, fault
from trial import SIZE, TIMEOUT, Trial

NOT_THE_PROTOCOL = "ff" * 64
# Bytes of the server's part of a login after which it ends: nothing, in the authentication, behind it.
CUTS = (0, 1, 5, 9, 40, 100, 200, 350)


@fault("X01", "the server answers a query with garbage", quick=True)
def garbage_as_answer(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    connections = [pool.get(TIMEOUT) for _ in range(SIZE)]
    proxy.mode("garbage", scope="existing", data=NOT_THE_PROTOCOL)

    def ask() -> None:
        for connection in connections:
            try:
                trial.reasons.append(f"garbage is read as {pool.query(connection, 'SELECT 1')}")
            except QueryFailed:
                pass

    trial.bounded("queries that are answered with garbage", ask, 5)
    start = time.monotonic()
    for connection in connections:
        pool.put(connection)
    trial.replaced(pool, start, 1000)
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool)


@fault("X01i", "garbage arrives on idle sessions, checked at each get")
def garbage_while_idle(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, checked=True)
    proxy.mode("inject", scope="existing", data=NOT_THE_PROTOCOL)
    start = time.monotonic()
    for _ in range(40):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.at_most("worst call", trial.calls.worst_ms(), 250, " ms")
    trial.recovery_ms = (time.monotonic() - start) * 1000
    trial.settled(pool)


@fault("X12", "logins end after k bytes, for eight k", limit=90, each_ms=2250, pools=OURS)
def cut_logins(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, min_size=0, full=False)
    for bytes_let_through in CUTS:
        proxy.mode("cut", scope="new", bytes=bytes_let_through)
        try:
            pool.discard(trial.calls.get(pool, 0.3))
            trial.reasons.append(f"a login that is cut after {bytes_let_through} bytes succeeds")
        except GetFailed as error:
            trial.check(error.kind == "connect", f"after {bytes_let_through} bytes: {error.kind}: {error}")
    trial.errors = 0  # those were asked for
    proxy.mode("pass")
    start = time.monotonic()
    trial.check(trial.calls.use(pool).error is None, "the next get fails")
    trial.recovery_ms = (time.monotonic() - start) * 1000
    trial.fill(pool, SIZE)
