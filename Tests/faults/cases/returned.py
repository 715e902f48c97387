"""In what state a connection is put back."""

from __future__ import annotations

import contextlib
import time
from typing import Any, Callable

import pq
from calls import together
from failures import QueryFailed
from table import OURS, fault
from trial import SIZE, TIMEOUT, Trial


@fault("F18", "put back inside a transaction, open or failed", quick=True, own_server=True, rollbacks=1)
def in_transaction(trial: Trial) -> None:
    trial.cluster.admin("ALTER SYSTEM SET log_statement = 'all'")
    trial.cluster.admin("ALTER SYSTEM SET log_line_prefix = '[%a]'")
    trial.cluster.admin("SELECT pg_reload_conf()")
    pool = trial.pool(min_size=1, max_size=1)
    trial.calls.use(pool, "CREATE TABLE kept (x int)")
    for last in ("INSERT INTO kept VALUES (1)", "SELECT 1 / 0"):
        rollbacks = count_rollbacks(trial)
        connection = pool.get(TIMEOUT)
        pool.begin(connection)
        pool.query(connection, "INSERT INTO kept VALUES (0)")
        with contextlib.suppress(QueryFailed):
            pool.query(connection, last)
        pid = trial.cluster.sessions(trial.application)
        pool.put(connection)
        call = trial.calls.use(pool, "SELECT count(*), now() = statement_timestamp(), pg_backend_pid() FROM kept")
        if call.rows is None:
            trial.reasons.append(f"the next user fails: {call.error}")
            continue
        rows, in_no_transaction, same = call.rows[0]
        trial.check(rows == "0", f"the next user sees {rows} rows of an open transaction")
        trial.check(in_no_transaction.lower() in ("t", "true"), "the next user is in a transaction")
        trial.check([int(same)] == pid, "the session was replaced, not rolled back")
        trial.at_most("rollbacks", count_rollbacks(trial) - rollbacks, trial.criteria["rollbacks"])
    trial.check(trial.cluster.conninfo() != "" and committed(trial) == 0, "rows were committed")
    trial.settled(pool, 1)


def count_rollbacks(trial: Trial) -> int:
    lines = trial.cluster.log(10_000).splitlines()
    return sum(line.startswith(f"[{trial.application}]") and "ROLLBACK" in line.upper() for line in lines)


def committed(trial: Trial) -> int:
    other = pq.Connection(trial.cluster.conninfo(application_name="other"))
    try:
        return int(other.query("SELECT count(*) FROM kept")[0][0])
    finally:
        other.close()


@fault("F18f", "put back inside a transaction, its backend frozen", limit=30, pools=OURS, put_ms=250, slot_ms=8000)
def in_transaction_frozen(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1)
    connection = pool.get(TIMEOUT)
    pool.query(connection, "BEGIN")
    with trial.cluster.frozen(*trial.cluster.sessions(trial.application)):
        start = time.monotonic()
        if not trial.bounded("put", lambda: pool.put(connection), TIMEOUT + 0.25):
            return
        trial.worst_ms = (time.monotonic() - start) * 1000
        # Where a driver rolls back, it does so in the borrower's thread: bounded by T alone.
        if pool.lends_pgconn:
            trial.at_most("put", trial.worst_ms, trial.criteria["put_ms"], " ms")
        served = trial.until(lambda: trial.calls.use(pool).error is None, 15)
        trial.recovery_ms = (time.monotonic() - start) * 1000
        trial.check(served is not None, "the slot of the frozen backend does not come back")
        trial.at_most("the slot is back", trial.recovery_ms, trial.criteria["slot_ms"], " ms")
    trial.settled(pool, 1)


@fault("F19", "put back mid-COPY, in a pipeline, half read, non-blocking", quick=True, next_ms=50)
def busy(trial: Trial) -> None:
    pool = trial.pool()
    for leave in pool.busy_states():
        connection = pool.get(TIMEOUT)
        leave(connection)
        start = time.monotonic()
        pool.put(connection)
        trial.at_most(f"put after {leave.__name__}", (time.monotonic() - start) * 1000, 50, " ms")
        next_user(trial, pool, leave)
    trial.settled(pool)


def next_user(trial: Trial, pool: Any, leave: Callable[[Any], None]) -> None:
    """The next one, and then as many at once as there are connections."""
    call = trial.calls.use(pool, "SELECT 'mine'")
    trial.check(call.rows == [("mine",)], f"after {leave.__name__} the next user gets {call.rows or call.error}")
    trial.at_most(f"the next user after {leave.__name__}", call.total_ms, trial.criteria["next_ms"], " ms")

    def use(number: int) -> None:
        call = trial.calls.use(pool, f"SELECT {number}, pg_sleep(0.01)")
        is_right = call.rows is not None and call.rows[0][0] == str(number)
        trial.check(is_right, f"after {leave.__name__} one of ten gets {call.rows or call.error}")

    together(SIZE, use)


STATE = {
    "search_path": ("SET search_path = pg_catalog", "SHOW search_path"),
    "temporary table": ("CREATE TEMP TABLE left_behind (x int)", "SELECT to_regclass('pg_temp.left_behind')::text"),
    "advisory lock": (
        "SELECT pg_advisory_lock(4711)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "LISTEN": ("LISTEN left_behind", "SELECT count(*) FROM pg_listening_channels()"),
    "prepared statement": (
        "PREPARE left_behind AS SELECT 1",
        "SELECT count(*) FROM pg_prepared_statements WHERE name = 'left_behind'",
    ),
    "application_name": ("SET application_name = 'left behind'", "SHOW application_name"),
    "SET ROLE": ("SET ROLE other", "SELECT current_user"),
}


def leaks(trial: Trial, reset: str) -> list[str]:
    pool = trial.pool(min_size=1, max_size=1, reset=reset)
    connection = pool.get(TIMEOUT)
    before = {name: pool.query(connection, look) for name, (_, look) in STATE.items()}
    pid = pool.backend_pid(connection)
    for change, _look in STATE.values():
        pool.query(connection, change)
    dirty = {name: pool.query(connection, look) for name, (_, look) in STATE.items()}
    assert all(dirty[name] != before[name] for name in STATE), "a change has changed nothing"
    pool.put(connection)
    connection = pool.get(TIMEOUT)
    trial.check(pool.backend_pid(connection) == pid, "the session was replaced instead of reset")
    after = {name: pool.query(connection, look) for name, (_, look) in STATE.items()}
    pool.discard(connection)
    pool.close()
    return [name for name in STATE if after[name] != before[name]]


@fault("F20", "session state left behind, reset = full where there is one", quick=True, leaks=0)
def session_state(trial: Trial) -> None:
    trial.errors = 0
    left = leaks(trial, "full")
    trial.check(len(left) <= trial.criteria["leaks"], f"{len(left)} of {len(STATE)} leak: {', '.join(left)}")
    trial.notes.append(f"with reset = rollback {len(leaks(trial, 'rollback'))} of {len(STATE)} stay, as documented")


@fault("X02", "TCP reset while the reset query runs", quick=True, pools=OURS, replaced_ms=1000)
def reset_during_reset(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, reset="full")
    connections = [pool.get(TIMEOUT) for _ in range(SIZE)]
    with trial.cluster.frozen(*trial.cluster.sessions(trial.application)):

        def put(number: int) -> None:
            start = time.monotonic()
            pool.put(connections[number])
            trial.worst_ms = max(trial.worst_ms or 0, (time.monotonic() - start) * 1000)

        def put_all() -> None:
            together(SIZE, put)

        def reset_soon() -> None:
            time.sleep(0.3)  # the reset queries have been sent, and nobody answers
            proxy.mode("rst", scope="existing")

        together(2, lambda number: (put_all, reset_soon)[number]())
    start = time.monotonic()
    trial.replaced(pool, start, trial.criteria["replaced_ms"])
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool)
