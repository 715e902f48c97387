"""Calls of the system that hang or fail."""

from __future__ import annotations

import os
import resource
import sys
import threading
import time
import traceback
from typing import Any

import dbpool
import pq
import preload
from calls import together
from failures import GetFailed
from table import OURS, fault
from trial import CONNECT_TIMEOUT, SIZE, TIMEOUT, Trial


def threads() -> int:
    return len(os.listdir("/proc/self/task"))


# An attempt in the resolver is given up, and another may begin, this long after its start.
GIVEN_UP = CONNECT_TIMEOUT + 0.25


@fault("F12", "the resolver hangs (30 s)", close_ms=250)
def resolver_hangs(trial: Trial) -> None:
    """A thread in the resolver cannot be called back. A native pool gives the attempt up and makes another, one at a
    time, so that a thread more hangs for each GIVEN_UP; 16 at most, which the topic `resolver` of Tests/abi shows. In
    a hosted pool the attempt keeps its place, and is the only one."""
    shim = preload.require("slow_resolver", trial.folder)
    pool = trial.pool(full=False, min_size=0, words={"host": "db.hang"})
    other = trial.pool(min_size=1, max_size=2)
    first = trial.calls.use(pool)
    trial.check(first.error is not None, "somebody was served")
    if trial.calls.overdue():
        trial.errors = 0  # that was to be; the others would take as long
        return
    start = first.start
    before = threads()
    for _ in range(3):
        call = trial.calls.use(pool, timeout=1)
        trial.check("resolv" in str(call.error), f"the error does not name the cause: {call.error}")
    together(20, lambda _number: trial.calls.use(pool, timeout=1))
    trial.errors = 0  # those were to be
    inside = shim.faults_resolver_inside()
    keeps_its_place = pool.stats() is not None and not pool.lends_pgconn
    tries = 1 if keeps_its_place else 1 + (time.monotonic() - start) // GIVEN_UP
    trial.until(lambda: threads() - before <= tries - 1, 1)  # a thread that has been joined may be there for a moment
    more = threads() - before
    trial.notes.append(f"threads in the resolver {inside}, more than after the first {more}")
    trial.at_most("calls of the resolver", shim.faults_resolver_calls(), tries)
    trial.at_most("threads in the resolver", inside, tries)
    trial.at_most("threads more than after the first", more, tries - 1)
    if hasattr(pool.stats(), "stuck_connectors"):
        counted = pool.stats().stuck_connectors + pool.stats().connecting
        trial.check(inside - 1 <= counted <= inside + 1, f"{inside} threads in the resolver, {counted} are counted")
    start = time.monotonic()
    trial.check(trial.calls.use(other).error is None, "the pool of another server is held up")
    trial.at_most("use of another pool", (time.monotonic() - start) * 1000, 250, " ms")
    start = time.monotonic()
    pool.close()
    trial.at_most("close", (time.monotonic() - start) * 1000, trial.criteria["close_ms"], " ms")


@fault(
    "F12h",
    "the resolver hangs (30 s): other pools, and others who wait",
    pools=("psycopg2", "psycopg"),
    unsettled="the one that opens is in the resolver for longer than the case lasts",
)
def resolver_hangs_hosted(trial: Trial) -> None:
    """The thread that opens is a borrower's, and libpq's resolver cannot be interrupted. All others end in time."""
    shim = preload.require("slow_resolver", trial.folder)
    pool = trial.pool(full=False, min_size=0, max_size=1, words={"host": "db.hang"})
    other = trial.pool(min_size=1, max_size=2)
    opener = threading.Thread(target=lambda: pool_uses(pool), daemon=True)
    opener.start()
    assert trial.until(lambda: shim.faults_resolver_inside() == 1, 10) is not None
    together(5, lambda _number: trial.calls.use(pool, timeout=1))
    trial.at_least("errors of those who wait", len(trial.calls.errors), 5)
    trial.errors = 0  # those were to be
    trial.check(trial.calls.use(other).error is None, "the pool of another server is held up")
    trial.at_most("threads in the resolver", shim.faults_resolver_inside(), 1)


def pool_uses(pool: Any) -> None:
    try:
        pool.put(pool.get(TIMEOUT))
    except GetFailed:
        pass


# ------------------------------------------------------------------------------------------------ no threads


def descriptors() -> int:
    return len(os.listdir("/proc/self/fd"))


def refused_for_want_of_a_thread(trial: Trial) -> None:
    try:
        trial.pool(full=False)
        trial.reasons.append("a pool was made without threads")
    except Exception as error:
        trial.check("thread" in str(error), f"the error does not name the cause: {error}")


@fault("F27", "no thread can be made (EAGAIN)", quick=True, pools=OURS)
def no_threads(trial: Trial) -> None:
    shim = preload.require("no_threads", trial.folder)
    shim.faults_refuse_threads(1)
    refused_for_want_of_a_thread(trial)  # what the process has but once is made here
    before = descriptors()
    for _ in range(20):
        refused_for_want_of_a_thread(trial)
    trial.at_least("threads refused", shim.faults_refused_threads(), 21)
    trial.at_most("descriptors more", descriptors() - before, 0)
    shim.faults_refuse_threads(0)
    pool = trial.pool()
    trial.settled(pool)


@fault("F27g", "no thread can be made for a pool that has to grow", pools=OURS)
def no_growth(trial: Trial) -> None:
    shim = preload.require("no_threads", trial.folder)
    pool = trial.pool(min_size=0, full=False)
    first = pool.get(TIMEOUT)
    trial.until(lambda: False, 1.5)  # the thread that opened it goes a second after its work
    shim.faults_refuse_threads(1)
    call = trial.calls.use(pool)
    if call.error is not None:  # a driver's own opens in the borrower's thread
        trial.check("thread" in str(call.error), f"the error does not name the cause: {call.error}")
    trial.errors = 0
    pool.put(first)
    trial.check(trial.calls.use(pool).error is None, "what is there is not lent")
    shim.faults_refuse_threads(0)
    start = time.monotonic()
    trial.fill(pool, SIZE)
    trial.recovery_ms = (time.monotonic() - start) * 1000


# ----------------------------------------------------------------------------------------------- no memory


def limited_to(bytes_more: int) -> tuple[int, int]:
    """The address space may grow by so much; the limits before."""
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[0])
    before = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + bytes_more, before[1]))
    return before


SERVED, REFUSED, NOT_MADE, NO_PYTHON, BROKEN = range(5)
TOLD = ("served", "refused", "not made", "Python has none", "broken")


@fault("F28", "the address space is full (RLIMIT_AS)", quick=True, pools=("native",))
def no_memory(trial: Trial) -> None:
    """For a little more room each time, in a process that has made no thread yet: the pool is made or refused, serves
    or says why, and is whole later. The topics `memory` and `hosted_memory` of Tests/abi fail each allocation in turn.
    """
    # OpenSSL's random numbers never work again when they fail at their first use.
    pq.Connection(trial.cluster.conninfo()).close()
    outcomes = []
    for kib in (0, 64, 256, 1024, 4096, 9000, 17_000, 34_000, 80_000, 160_000, 320_000):
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            os._exit(live_with(trial, kib))
        status = os.waitpid(child, 0)[1]
        if not trial.check(os.WIFEXITED(status) and os.WEXITSTATUS(status) < BROKEN, f"{kib} KiB: status {status}"):
            continue
        outcomes.append(os.WEXITSTATUS(status))
    trial.notes.append(", ".join(TOLD[one] for one in outcomes))
    trial.check(NOT_MADE in outcomes and outcomes[-1] == SERVED, "the limit makes no difference")


def live_with(trial: Trial, kib: int) -> int:
    before = limited_to(kib * 1024)
    pool = None
    try:
        pool = trial.pool(full=False, min_size=0)
        outcome = SERVED if trial.calls.use(pool, timeout=0.5).error is None else REFUSED
    except (dbpool.OutOfMemory, dbpool.SystemFailure):
        outcome = NOT_MADE
    except MemoryError:
        outcome = NO_PYTHON
    except BaseException:
        resource.setrlimit(resource.RLIMIT_AS, before)
        traceback.print_exc()
        return BROKEN
    resource.setrlimit(resource.RLIMIT_AS, before)
    pool = pool or trial.pool(full=False, min_size=0)
    error = trial.calls.use(pool, timeout=5).error
    if error is not None:
        print(f"not whole after {kib} KiB: {error}", flush=True)
        return BROKEN
    pool.close()
    return outcome


@fault("F28g", "the address space is full while the pool is in use", pools=OURS)
def no_memory_in_use(trial: Trial) -> None:
    pool = trial.pool(min_size=2, max_size=SIZE)
    before = limited_to(64 * 1024)
    try:
        for _ in range(50):
            trial.calls.use(pool)
    finally:
        resource.setrlimit(resource.RLIMIT_AS, before)
    trial.at_most("errors of what is open", len(trial.calls.errors), 0)
    trial.fill(pool, SIZE)
