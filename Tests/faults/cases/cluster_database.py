"""The database itself: dropped, or full."""

from __future__ import annotations

import time
from typing import Any

from calls import Users, together
from cluster import PASSWORD
from table import fault
from trial import SIZE, Trial


def roles_sessions(trial: Trial) -> int:
    return len(trial.cluster.sessions(trial.application))


def connect_failures(pool: Any) -> int:
    stats = pool.stats()
    return int(stats.connect_failures) if stats else 0


@fault("C20", "database dropped WITH (FORCE) under load, made again", first_success_ms=6000, at_once=SIZE, later=1)
def dropped(trial: Trial) -> None:
    name = f"dropped_{trial.application.lower().replace('-', '_').replace('+', '_').replace('.', '_')}"
    trial.cluster.admin(f"CREATE DATABASE {name} OWNER app")
    try:
        pool = trial.pool(words={"dbname": name})
        users = Users(8, lambda _number: trial.calls.use(pool))
        try:
            assert trial.until(lambda: len(trial.calls.list) > 50, 10) is not None
            trial.cluster.admin(f"DROP DATABASE {name} WITH (FORCE)")
            gone = time.monotonic()
            before = connect_failures(pool)
            # Replacements that were on their way when the first one was refused.
            time.sleep(0.5)
            at_once = connect_failures(pool) - before
            time.sleep(3.5)
            later = connect_failures(pool) - before - at_once
            trial.cluster.admin(f"CREATE DATABASE {name} OWNER app")
            back = time.monotonic()
            # No such database is a refusal that will not go away: five seconds between attempts.
            trial.until(lambda: trial.calls.first_success_after(back) is not None, 10)
        finally:
            users.stop()
        causes = [str(call.error) for call in trial.calls.errors if call.start > gone + 0.5]
        silent = [cause for cause in causes if "does not exist" not in cause]
        trial.check(bool(causes), "no errors while there was no database")
        trial.check(not silent, f"{len(silent)} errors do not name the cause: {silent[:1]}")
        trial.at_most("attempts at once", at_once, trial.criteria["at_once"])
        trial.at_most("attempts in the 3.5 s after that", later, trial.criteria["later"])
        trial.recovery_ms = trial.calls.first_success_after(back)
        if trial.check(trial.recovery_ms is not None, "no success afterwards"):
            trial.at_most("first success", trial.recovery_ms or 0, trial.criteria["first_success_ms"], " ms")
        trial.settled(pool)
        pool.close()
    finally:
        trial.cluster.admin(f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@fault("C21", "ALTER ROLE ... CONNECTION LIMIT 5, ten wanted (53300)", sessions=5, probes=5, growth_ms=2000)
def role_limit(trial: Trial) -> None:
    name = f"limited_{trial.application.lower().replace('-', '_').replace('+', '_').replace('.', '_')}"
    trial.cluster.admin(f"CREATE ROLE {name} LOGIN PASSWORD '{PASSWORD}' CONNECTION LIMIT 5")
    try:
        share_and_grow(trial, {"user": name}, f"ALTER ROLE {name} CONNECTION LIMIT 20", "too many connections for role")
    finally:
        end_sessions(trial)
        trial.cluster.admin(f"DROP ROLE {name}")


@fault("C22", "ALTER DATABASE ... CONNECTION LIMIT 5, ten wanted (53300)", sessions=5, probes=5, growth_ms=2000)
def database_limit(trial: Trial) -> None:
    name = f"limited_{trial.application.lower().replace('-', '_').replace('+', '_').replace('.', '_')}"
    trial.cluster.admin(f"CREATE DATABASE {name} OWNER app")
    trial.cluster.admin(f"ALTER DATABASE {name} CONNECTION LIMIT 5")
    try:
        words = {"dbname": name}
        lift = f"ALTER DATABASE {name} CONNECTION LIMIT 20"
        share_and_grow(trial, words, lift, "too many connections for database")
    finally:
        end_sessions(trial)
        trial.cluster.admin(f"DROP DATABASE {name} WITH (FORCE)")


def end_sessions(trial: Trial) -> None:
    trial.cluster.terminate(trial.application)
    assert trial.until(lambda: not trial.cluster.sessions(trial.application), 10) is not None


def share_and_grow(trial: Trial, words: dict[str, object], lift: str, cause: str) -> None:
    """Ten want ten sessions of which the server gives five: these are shared, more are not asked for all the time, an
    error names the cause, and when there is room the pool grows."""
    pool = trial.pool(min_size=0, full=False, words=words)
    together(SIZE, lambda _number: trial.calls.use(pool, hold=0.2))
    trial.at_most("errors of those who share", len(trial.calls.errors), 0)
    trial.at_most("sessions", roles_sessions(trial), trial.criteria["sessions"])
    held = [pool.get(5) for _ in range(5)]
    before = connect_failures(pool)
    end = time.monotonic() + 4
    while time.monotonic() < end:
        call = trial.calls.use(pool, timeout=1)
        if trial.check(call.error is not None, "a sixth session"):
            trial.check(cause in str(call.error), f"the error does not name the cause: {call.error}")
    trial.at_most("probes in 4 s", connect_failures(pool) - before, trial.criteria["probes"])
    trial.errors = 0  # those were to be
    trial.cluster.admin(lift)
    lifted = time.monotonic()
    more = pool.get(5)
    trial.recovery_ms = (time.monotonic() - lifted) * 1000
    trial.at_most("growth", trial.recovery_ms, trial.criteria["growth_ms"], " ms")
    for connection in [*held, more]:
        pool.query(connection, "SELECT 1")
        pool.put(connection)
    trial.settled(pool, 6)
    pool.close()
