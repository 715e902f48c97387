"""The server crashes or is restarted under load."""

from __future__ import annotations

import math
import os
import signal
import time
from typing import Any, Callable

from calls import Users
from table import OURS, fault
from trial import Trial

# As many connections as threads: each session has a query in flight when it ends, and none has two.
THREADS = 8
UNDER_LOAD = {"own_server": True, "full_ms": 1000, "in_flight": THREADS}


def a_pool(trial: Trial) -> Any:
    return trial.pool(min_size=THREADS, max_size=THREADS)


def is_full(pool: Any) -> bool:
    now = pool.stats()
    return int(now.idle + now.in_use) == THREADS


def under_load(trial: Trial, pool: Any, incident: Callable[[], None]) -> None:
    """`incident` returns when the server accepts sessions again. Within a second of that each of the threads is served,
    and a pool that connects by itself is full."""
    up = math.inf
    served: dict[int, float] = {}

    def work(number: int) -> None:
        call = trial.calls.use(pool)
        if call.error is None and call.end >= up:
            served.setdefault(number, call.end)

    users = Users(THREADS, work)
    try:
        assert trial.until(lambda: len(trial.calls.list) > 100, 10) is not None, "the threads do not get going"
        incident()
        up = time.monotonic()
        if pool.refills and pool.stats() is not None:
            trial.recovers("full again", lambda: is_full(pool), up, trial.criteria["full_ms"])
        assert trial.until(lambda: len(served) == THREADS, 10) is not None, f"{len(served)} of {THREADS} are served"
    finally:
        users.stop()
    first, last = ((end - up) * 1000 for end in (min(served.values()), max(served.values())))
    trial.notes.append(f"first success {first:.0f} ms, of the last thread {last:.0f} ms")
    trial.at_most("all threads served", last, trial.criteria["full_ms"], " ms")
    if trial.recovery_ms is None:
        trial.recovery_ms = last
    errors = trial.calls.errors
    trial.check(
        len(errors) <= trial.criteria["in_flight"],
        f"errors: {len(errors)} > {THREADS} in flight, the last: {errors[-1].error if errors else None}",
    )
    late = [call for call in errors if call.end > up + 1]
    trial.at_most("errors later than 1 s after the server accepts", len(late), 0)
    trial.settled(pool, THREADS)


@fault("F06", "a backend crashes (kill -9): 57P02 on all, 57P03 during recovery, 8 threads", quick=True, **UNDER_LOAD)
def crash(trial: Trial) -> None:
    pool = a_pool(trial)

    def incident() -> None:
        sessions = trial.cluster.sessions(trial.application)
        trial.cluster.forget_admin()
        os.kill(sessions[0], signal.SIGKILL)
        assert trial.until(lambda: not any(os.path.exists(f"/proc/{pid}") for pid in sessions), 10) is not None
        trial.cluster.wait_until_up()

    under_load(trial, pool, incident)


@fault("F07f", "restart fast, 8 threads", **UNDER_LOAD)
def restart_fast(trial: Trial) -> None:
    under_load(trial, a_pool(trial), lambda: trial.cluster.restart("fast"))


@fault("F07i", "restart immediate, 8 threads", **UNDER_LOAD)
def restart_immediate(trial: Trial) -> None:
    under_load(trial, a_pool(trial), lambda: trial.cluster.restart("immediate"))


@fault("F07s", "restart smart, 8 threads, the pool drained for it", pools=OURS, **UNDER_LOAD)
def restart_smart(trial: Trial) -> None:
    pool = a_pool(trial)

    def incident() -> None:
        trial.cluster.stop_soon("smart")
        start = time.monotonic()
        pool.drain()
        ended = trial.until(lambda: trial.cluster.process.poll() is not None, 5)
        trial.check(ended is not None, "the server still has sessions 5 s after the drain")
        trial.notes.append(f"stopped {(time.monotonic() - start) * 1000:.0f} ms after the drain")
        trial.cluster.start()
        pool.resume()

    under_load(trial, pool, incident)
