"""Somebody changes roles, passwords and databases while the pool is in use."""

from __future__ import annotations

import time
from typing import Any

import pq
from failures import GetFailed
from table import OURS, fault
from trial import TIMEOUT, Trial

# A refused login is not tried again for five seconds.
REFUSED_PAUSE_MS = 5000


def own_role(trial: Trial, password: str) -> str:
    """Of this case alone: others use the same server."""
    role = trial.application.lower()
    trial.cluster.admin(f"CREATE ROLE \"{role}\" LOGIN PASSWORD '{password}'")
    return role


def refused_for_good(trial: Trial, pool: Any, code: str, seconds: float) -> None:
    """All gets fail in time with the server's words, and the server is asked once in five seconds at most: not counting
    replacements that were on their way when the first one was refused."""
    time.sleep(0.5)
    before = pool.stats()
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        call = trial.calls.use(pool)
        error = call.error
        if not isinstance(error, GetFailed):
            trial.reasons.append(f"not refused: {error or call.rows}")
            return
        if error.kind != "connect":
            trial.reasons.append(f"not told as a refused login: {error.kind}: {error}")
            return
        time.sleep(0.02)
    after = pool.stats()
    tries = after.connect_failures - before.connect_failures
    trial.notes.append(f"{tries} tries in {seconds:g} s, {code}")
    trial.at_most("tries", tries, 1 + seconds // 5)


def back_again(trial: Trial, pool: Any) -> None:
    start = time.monotonic()
    if trial.until(lambda: trial.calls.use(pool).error is None, 15) is None:
        trial.reasons.append("nobody is served 15 s after it is allowed again")
        return
    trial.recovery_ms = (time.monotonic() - start) * 1000
    trial.at_most("first success", trial.recovery_ms, REFUSED_PAUSE_MS + 1000, " ms")
    trial.errors = 0  # those were asked for
    trial.settled(pool, seconds=10)


@fault("X05", "database renamed and named back (3D000)", limit=60, own_server=True, pools=OURS)
def renamed(trial: Trial) -> None:
    pool = trial.pool(checked=True)
    trial.cluster.admin("ALTER DATABASE app ALLOW_CONNECTIONS false")
    trial.cluster.terminate(trial.application)
    trial.cluster.admin("ALTER DATABASE app RENAME TO elsewhere")
    refused_for_good(trial, pool, "3D000", 6)
    trial.cluster.admin("ALTER DATABASE elsewhere RENAME TO app")
    trial.cluster.admin("ALTER DATABASE app ALLOW_CONNECTIONS true")
    back_again(trial, pool)


@fault("X06", "role locked (NOLOGIN) while its sessions are in use, then unlocked", limit=60, pools=OURS)
def locked(trial: Trial) -> None:
    role = own_role(trial, "its own")
    pool = trial.pool(words={"user": role, "password": "its own"}, checked=True)
    trial.cluster.admin(f'ALTER ROLE "{role}" NOLOGIN')
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors while the sessions live", len(trial.calls.errors), 0)
    trial.cluster.terminate(trial.application)
    refused_for_good(trial, pool, "28000", 6)
    trial.cluster.admin(f'ALTER ROLE "{role}" LOGIN')
    back_again(trial, pool)


@fault(
    "X11",
    "DISCARD ALL waits for a lock of another session",
    pools=("native",),
)
def reset_waits(trial: Trial) -> None:
    """The slot is bounded, nobody is lent it before."""
    pool = trial.pool(min_size=1, max_size=1, reset="full", check_timeout=0.5)
    connection = pool.get(TIMEOUT)
    pool.query(connection, "CREATE TEMP TABLE held (x int)")
    pid = pool.backend_pid(connection)
    name = pool.query(connection, "SELECT nspname || '.held' FROM pg_namespace WHERE oid = pg_my_temp_schema()")[0][0]
    other = pq.Connection(trial.cluster.conninfo(user="super", dbname="app", over_tcp=False))
    other.query(f"BEGIN; LOCK TABLE {name}")
    try:
        start = time.monotonic()
        pool.put(connection)
        call = trial.calls.use(pool, "SELECT pg_backend_pid()")
        trial.recovery_ms = (time.monotonic() - start) * 1000
        trial.check(call.error is None, f"the next user fails: {call.error}")
        trial.check(call.rows != [(str(pid),)], "a session that was never reset is lent")
    finally:
        other.close()
    trial.settled(pool, 1)
