"""Another server becomes the one that takes writes."""

from __future__ import annotations

import time

from calls import Users, together
from cluster import Cluster
from standby import Standby, in_database, pair
from table import fault
from trial import SIZE, Trial

WRITE = "INSERT INTO written VALUES (1)"
WRITERS = 10


def write_until(trial: Trial, pool: object, seconds: float, since: float) -> None:
    """Writers that go on until some time after the first success."""

    def work(_number: int) -> None:
        trial.calls.use(pool, WRITE)
        time.sleep(0.001)

    writers = Users(WRITERS, work)
    try:
        trial.until(lambda: trial.calls.first_success_after(since) is not None, seconds, 0.01)
        time.sleep(1)  # in which there must be no more errors
    finally:
        writers.stop()


def refused_writes(trial: Trial) -> int:
    return sum(getattr(call.error, "sqlstate", "") == "25006" for call in trial.calls.errors)


def check_evicted(trial: Trial, since: float) -> None:
    trial.at_most("errors 25006", refused_writes(trial), trial.criteria["errors"])
    others = [str(call.error) for call in trial.calls.errors if getattr(call.error, "sqlstate", "") != "25006"]
    trial.check(not others, f"{len(others)} other errors: {others[:1]}")
    check_first_write(trial, since)


def check_first_write(trial: Trial, since: float) -> None:
    trial.recovery_ms = trial.calls.first_success_after(since)
    if trial.check(trial.recovery_ms is not None, "no write succeeded"):
        trial.at_most("first write", trial.recovery_ms or 0, trial.criteria["first_write_ms"], " ms")
    limit = since + trial.criteria["first_write_ms"] / 1000
    late = [call for call in trial.calls.errors if call.end > limit]
    trial.check(not late, f"{len(late)} errors later than that: {late and late[0].error}")


@fault("F24", "address moves from standby to primary, sessions stay", errors=SIZE, first_write_ms=1000, limit=90)
def address_moves(trial: Trial) -> None:
    with pair(trial) as (primary, standby):
        proxy = trial.proxy(standby)
        pool = trial.pool(proxy)
        trial.at_least("sessions to the standby", len(standby.sessions(trial.application)), SIZE)
        proxy.target(primary.port)
        since = time.monotonic()
        write_until(trial, pool, 5, since)
        check_evicted(trial, since)
        written = int(in_database(primary, "SELECT count(*) FROM written")[0][0])
        succeeded = len(trial.calls.list) - len(trial.calls.errors)
        trial.check(written == succeeded, f"{written} rows of {succeeded} writes that succeeded")
        end_on(trial, pool, primary, standby)


@fault("F24b", "old primary is fenced read-only, address moves", errors=SIZE, first_write_ms=1000, limit=90)
def primary_is_fenced(trial: Trial) -> None:
    with pair(trial) as (primary, standby):
        proxy = trial.proxy(primary)
        pool = trial.pool(proxy)
        primary.admin("ALTER SYSTEM SET default_transaction_read_only = on")
        primary.admin("SELECT pg_reload_conf()")
        assert trial.until(lambda: "on" in primary.admin("SHOW default_transaction_read_only")[0], 10) is not None
        standby.promote()
        proxy.target(standby.port)
        since = time.monotonic()
        write_until(trial, pool, 5, since)
        check_evicted(trial, since)
        end_on(trial, pool, standby, primary)


def end_on(trial: Trial, pool: object, new: Cluster, old: Cluster) -> None:
    """Those that nobody has used for a write yet are found by ten at once, twice; then all are at the new server."""
    for _ in range(2):
        together(SIZE, lambda _number: trial.calls.use(pool, WRITE, hold=0.1))
    trial.at_most("errors 25006 at the end", refused_writes(trial), trial.criteria["errors"])
    gone = trial.until(lambda: not old.sessions(trial.application), 3, 0.01)
    trial.check(gone is not None, f"{len(old.sessions(trial.application))} sessions stay on the old server")
    trial.settled(pool, SIZE, cluster=new)


@fault("F25", "primary dies, standby promoted, both in the conninfo", first_write_ms=1000, limit=90)
def standby_takes_over(trial: Trial) -> None:
    with pair(trial) as (primary, standby):
        words: dict[str, object] = {
            "host": "127.0.0.1,127.0.0.1",
            "port": f"{primary.port},{standby.port}",
            "target_session_attrs": "read-write",
        }
        pool = trial.pool(words=words)
        take_over(trial, pool, primary, standby)
        trial.settled(pool, SIZE, cluster=standby)


def take_over(trial: Trial, pool: object, primary: Cluster, standby: Standby) -> None:
    def work(_number: int) -> None:
        trial.calls.use(pool, WRITE)
        time.sleep(0.001)

    writers = Users(WRITERS, work)
    try:
        assert trial.until(lambda: len(trial.calls.list) > 50, 10) is not None, "the writers do not write"
        primary.stop("immediate")
        since = standby.promote()
        trial.until(lambda: trial.calls.first_success_after(since) is not None, 5, 0.005)
        time.sleep(1)  # in which there must be no more errors
    finally:
        writers.stop()
    check_first_write(trial, since)
