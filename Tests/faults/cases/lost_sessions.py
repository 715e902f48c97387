"""Sessions that end, or fall silent, while they lie in the pool."""

from __future__ import annotations

import time
from typing import Any

from calls import together
from failures import GetFailed, QueryFailed
from table import OURS, fault
from trial import SIZE, TIMEOUT, Trial

# "ping" pings what was idle for longer than half a second.
LONG_IDLE = 0.6
KILLED = {"worst_ms": 250, "replaced_ms": 1000}


def use_after_end(trial: Trial, pool: Any, since: float, most: int = 0) -> None:
    """The pass criterion of F01."""
    for _ in range(40):
        trial.calls.use(pool)
    errors = trial.calls.errors
    first = errors[0].error if errors else None
    trial.check(len(errors) <= most, f"errors: {len(errors)} > {most}, the first: {first}")
    trial.at_most("worst call", trial.calls.worst_ms(), trial.criteria["worst_ms"], " ms")
    trial.replaced(pool, since, trial.criteria["replaced_ms"])
    trial.settled(pool)


@fault("F01", "all 10 idle sessions killed (57P01), checked at each get", quick=True, **KILLED)
def killed(trial: Trial) -> None:
    pool = trial.pool(checked=True)
    start = time.monotonic()
    trial.cluster.terminate(trial.application)
    use_after_end(trial, pool, start)


@fault("F01w", "all 10 idle sessions killed (57P01), default check", errors=SIZE, **KILLED, pools=OURS)
def killed_watched(trial: Trial) -> None:
    """The upkeep thread needs a moment to see them all: each may fail once, no more."""
    pool = trial.pool()
    start = time.monotonic()
    trial.cluster.terminate(trial.application)
    use_after_end(trial, pool, start, trial.criteria["errors"])


@fault("F02", "idle session half-open, the peer is silent", quick=True, limit=30)
def silent(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, min_size=1, max_size=1, checked=True)
    proxy.mode("dark")
    time.sleep(LONG_IDLE)
    if not get_of_silent(trial, pool):
        return
    start = time.monotonic()
    proxy.mode("pass")
    works_again(trial, pool, start)
    trial.settled(pool, 1)


def get_of_silent(trial: Trial, pool: Any) -> bool:
    """Whether the get has ended."""

    def get() -> None:
        try:
            connection = trial.calls.get(pool)
        except GetFailed:
            return
        # What it lends must answer: another session, or a new one.
        if trial.bounded("first query of what was lent", lambda: pool.query(connection, "SELECT 1"), TIMEOUT):
            pool.put(connection)

    is_over = trial.bounded("get and first query", get, 2 * TIMEOUT + 0.25)
    return is_over and not trial.reasons


def works_again(trial: Trial, pool: Any, since: float, patience: float = 10) -> None:
    """Calls until one succeeds: within the pool's own pause of a second, and T."""

    def is_served() -> bool:
        return trial.calls.use(pool).error is None

    if trial.until(is_served, patience) is None:
        trial.reasons.append(f"no call succeeds within {patience:g} s after the fault")
    trial.recovery_ms = (time.monotonic() - since) * 1000


@fault("F04", "backend of an idle session frozen (SIGSTOP)", quick=True, limit=30)
def frozen(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1, checked=True)
    with trial.cluster.frozen(*trial.cluster.sessions(trial.application)):
        time.sleep(LONG_IDLE)
        if not get_of_silent(trial, pool):
            return
        # The slot is free: a further get opens another session, or at least ends in time.
        trial.bounded("a second get", lambda: trial.calls.use(pool), TIMEOUT + 0.25)
    works_again(trial, pool, time.monotonic())
    trial.settled(pool, 1)


@fault("F33", "idle sessions ended by idle_session_timeout (57P05)", **KILLED)
def idle_too_long(trial: Trial) -> None:
    pool = trial.pool(full=False, checked=True)
    connections = [pool.get(10) for _ in range(SIZE)]
    for connection in connections:
        pool.query(connection, "SET idle_session_timeout = '300ms'")
    before = set(trial.cluster.sessions(trial.application))
    for connection in connections:
        pool.put(connection)
    gone = trial.until(lambda: not before & set(trial.cluster.sessions(trial.application)), 5)
    assert gone is not None, "the server does not end the sessions"
    use_after_end(trial, pool, time.monotonic())


@fault("F33n", "all idle sessions forgotten by a NAT, new connections pass", limit=40)
def forgotten(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, checked=True)
    proxy.mode("dark", scope="existing")
    time.sleep(LONG_IDLE)

    def one_get(_number: int) -> None:
        try:
            connection = trial.calls.get(pool)
        except GetFailed:
            return
        # What it lends must answer.
        if not trial.bounded("first query", lambda: pool.query(connection, "SELECT 1"), TIMEOUT):
            return
        pool.put(connection)

    if not trial.bounded("gets by 10 threads", lambda: together(SIZE, one_get), TIMEOUT + 0.5):
        return
    start = time.monotonic()
    works_again(trial, pool, start)
    proxy.mode("pass", scope="existing")  # the server is told of what was closed
    trial.settled(pool, seconds=8)


@fault("X03", "backend killed between get and first query", quick=True)
def killed_in_use(trial: Trial) -> None:
    pool = trial.pool(checked=True)
    connection = pool.get(TIMEOUT)
    trial.cluster.terminate(trial.application)
    try:
        pool.query(connection, "SELECT 1")
        trial.reasons.append("a query on a killed session succeeds")
    except QueryFailed as error:
        trial.check(error.sqlstate in ("57P01", ""), f"the query fails with {error}")
    start = time.monotonic()
    pool.put(connection)
    trial.check(time.monotonic() - start < 0.25, "put takes longer than 250 ms")
    trial.replaced(pool, start, 1000)
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool)
