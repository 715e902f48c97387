"""Logins that will not succeed by being tried again: wrong password, no database, no entry in pg_hba.conf."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from datetime import datetime

from calls import Users
from cluster import PASSWORD
from table import OURS, fault
from trial import SIZE, Trial

EARLY = {"told_ms": 1000}
OBSERVED = 11.0


def refused_early(trial: Trial, words: dict[str, object], cause: str) -> None:
    """Who makes the pool and waits for it is told why at once; where nobody can wait, the first who asks is. A get ends
    in time with the cause."""
    pool = trial.pool(full=False, words=words)
    start = time.monotonic()
    if hasattr(pool.pool, "wait"):
        try:
            pool.pool.wait(10)
            trial.reasons.append("wait() succeeded")
        except Exception as error:
            trial.check(cause in str(error), f"wait() does not name the cause: {error}")
        told_ms = (time.monotonic() - start) * 1000
    call = trial.calls.use(pool, timeout=2)
    if not hasattr(pool.pool, "wait"):
        told_ms = call.total_ms
    trial.check(cause in str(call.error), f"the error does not name the cause: {call.error}")
    trial.notes.append(f"told after {told_ms:.0f} ms")
    trial.at_most("told", told_ms, trial.criteria["told_ms"], " ms")
    trial.errors = 0  # those were to be
    pool.close()  # it can never be full


@fault("F10", "wrong password (28P01)", quick=True, **EARLY)
def wrong_password(trial: Trial) -> None:
    refused_early(trial, {"password": "wrong"}, "password authentication failed")


@fault("F10d", "no such database (3D000)", **EARLY)
def no_database(trial: Trial) -> None:
    refused_early(trial, {"dbname": "nowhere"}, 'database "nowhere" does not exist')


@fault("F10r", "role that may not log in (28000)", **EARLY)
def no_login(trial: Trial) -> None:
    with role(trial, f"NOLOGIN PASSWORD '{PASSWORD}'") as name:
        refused_early(trial, {"user": name}, "is not permitted to log in")


@fault("F10p", "password needed, none given", **EARLY)
def no_password(trial: Trial) -> None:
    refused_early(trial, {"password": "", "passfile": "/nonexistent"}, "no password supplied")


@fault("F10s", "wrong password, 20 threads calling for 11 s", attempts=3, in_5_s=1, limit=60)
def hammered(trial: Trial) -> None:
    """Servers lock accounts: one failed login in five seconds, however many ask. The server's log has them all."""
    proxy = trial.proxy()
    before = len(refused_logins(trial))
    pool = trial.pool(proxy, full=False, words={"password": "wrong"})
    users = Users(20, lambda _number: trial.calls.use(pool) and None)
    time.sleep(OBSERVED)
    users.stop()
    attempts = refused_logins(trial)[before:]
    trial.notes.append(f"connections {len(proxy.attempts())}")
    # A tenth of a second of grace for the pauses, which are rounded to ticks of the clock.
    most = max((sum(first <= one < first + 4.9 for one in attempts) for first in attempts), default=0)
    trial.notes.append(f"attempts {len(attempts)}, in any 4.9 s {most}")
    trial.at_least("attempts", len(attempts), 2)
    trial.at_most("attempts in 11 s", len(attempts), trial.criteria["attempts"])
    trial.at_most("attempts in 5 s", most, trial.criteria["in_5_s"])
    silent = [str(call.error) for call in trial.calls.errors if "password authentication failed" not in str(call.error)]
    trial.check(not silent, f"{len(silent)} errors do not name the cause: {silent[:1]}")
    trial.errors = 0  # those were to be
    pool.close()  # it can never be full


def refused_logins(trial: Trial) -> list[float]:
    """When each was, in seconds."""
    lines = trial.cluster.log(last=1_000_000).splitlines()
    times = [" ".join(line.split()[:2]) for line in lines if "password authentication failed" in line]
    return [datetime.strptime(text, "%Y-%m-%d %H:%M:%S.%f").timestamp() for text in times]


@fault("L01", "pg_hba.conf rejects, then admits", own_server=True, told_ms=1000, first_success_ms=6000)
def hba_reject(trial: Trial) -> None:
    hba = trial.cluster.data / "pg_hba.conf"
    before = hba.read_text()
    pool = trial.pool()
    hba.write_text("local all all trust\nhost all app 127.0.0.1/32 reject\n")
    trial.cluster.admin("SELECT pg_reload_conf()")
    other = {"application_name": "other"}
    told = trial.until(lambda: refusal(trial, other) != "", 10)
    assert told is not None, "the server still admits"
    trial.check(trial.calls.use(pool).error is None, "the sessions that are open do not go on")
    refused_early(trial, other, "pg_hba.conf rejects connection")
    hba.write_text(before)
    trial.cluster.admin("SELECT pg_reload_conf()")
    assert trial.until(lambda: refusal(trial, other) == "", 10) is not None
    trial.settled(pool)


def refusal(trial: Trial, words: dict[str, object]) -> str:
    import pq
    from failures import QueryFailed

    try:
        pq.Connection(trial.cluster.conninfo(**words)).close()
    except QueryFailed as error:
        return str(error)
    return ""


@contextlib.contextmanager
def role(trial: Trial, attributes: str) -> Iterator[str]:
    """A role of the trial's own."""
    name = "role_" + "".join(letter if letter.isalnum() else "_" for letter in trial.application.lower())
    trial.cluster.admin(f"CREATE ROLE {name} {attributes}")
    try:
        yield name
    finally:
        trial.cluster.terminate(trial.application)
        trial.until(lambda: not trial.cluster.sessions(trial.application), 5)
        trial.cluster.admin(f"DROP ROLE {name}")


@fault("L02", "a corrected password is noticed", first_success_ms=6000, pools=OURS)
def corrected(trial: Trial) -> None:
    with role(trial, "LOGIN PASSWORD 'first'") as name:
        pool = trial.pool(full=False, words={"user": name, "password": "second"})
        trial.check(trial.calls.use(pool, timeout=1).error is not None, "the wrong password is taken")
        trial.cluster.admin(f"ALTER ROLE {name} PASSWORD 'second'")
        corrected_at = time.monotonic()
        trial.until(lambda: trial.calls.use(pool).error is None, 12)
        trial.recovery_ms = (time.monotonic() - corrected_at) * 1000
        trial.at_most("first success", trial.recovery_ms, trial.criteria["first_success_ms"], " ms")
        trial.errors = 0  # until the next attempt was due
        trial.settled(pool, SIZE, seconds=8)
        pool.close()
