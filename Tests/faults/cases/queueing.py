"""Who waits, how long, and in what order."""

from __future__ import annotations

import random
import sys
import threading
import time
from typing import Callable

from calls import Users, together
from failures import GetFailed
from table import fault
from trial import SIZE, TIMEOUT, Trial


@fault("F13", "pool exhausted, T = 1 s", quick=True, from_ms=1000, to_ms=1050)
def exhausted(trial: Trial) -> None:
    pool = trial.pool()
    held = [pool.get(TIMEOUT) for _ in range(SIZE)]
    for _ in range(2):
        call = trial.calls.use(pool, timeout=1)
        if trial.check(call.error is not None, "an eleventh is lent"):
            trial.check(getattr(call.error, "kind", "") == "timeout", f"not the code of a pool in use: {call.error}")
        trial.at_least("the error comes after", call.get_ms, trial.criteria["from_ms"], " ms")
        trial.at_most("the error comes after", call.get_ms, trial.criteria["to_ms"], " ms")
    trial.errors = 0  # those were asked for
    for connection in held:
        pool.put(connection)
    trial.settled(pool)


@fault("F15", "200 threads on 1 connection, 1 ms hold, 4 s", ratio=2, wait_ms=600)
def fairness(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1)
    counts = [0] * 200
    waits = [0.0] * 200
    start = threading.Barrier(200)
    over = threading.Event()

    def work(number: int) -> None:
        start.wait(30)
        while not over.is_set():
            asked = time.monotonic()
            connection = pool.get(30)
            waits[number] = max(waits[number], time.monotonic() - asked)
            time.sleep(0.001)
            pool.put(connection)
            if not over.is_set():
                counts[number] += 1

    timer = threading.Timer(5, over.set)  # a second until all have started
    timer.start()
    together(200, work, patience=50)
    trial.notes.append(f"gets per thread {min(counts)} to {max(counts)}")
    trial.worst_ms = max(waits) * 1000
    trial.at_least("least gets of a thread", min(counts), 1)
    trial.at_most("most against least gets", max(counts) / max(1, min(counts)), trial.criteria["ratio"])
    trial.at_most("longest wait", trial.worst_ms, trial.criteria["wait_ms"], " ms")
    trial.settled(pool, 1)


@fault("F16", "waiters give up at the instant of hand-over (stress)", quick=True, seconds=1.5)
def give_up(trial: Trial) -> None:
    pool = trial.pool(min_size=2, max_size=2)
    sys.setswitchinterval(0.0002)

    def work(number: int) -> None:
        random_number = random.Random(number)
        while True:
            try:
                connection = pool.get(random_number.choice((0, 0.001, 0.001, 0.002)))
            except GetFailed:
                pass
            else:
                time.sleep(random_number.random() * 0.002)
                pool.put(connection)
            if time.monotonic() > end:
                return

    end = time.monotonic() + trial.criteria["seconds"]
    together(16, work)
    sys.setswitchinterval(0.005)
    held = [trial.calls.get(pool) for _ in range(2)]
    for connection in held:
        pool.put(connection)
    trial.settled(pool, 2)


@fault("F11", "slow connect (5 s) for one borrower: get and put of the others", limit=40, ms=10)
def slow_connect(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy, min_size=0, max_size=3, connect_timeout=10)
    held = [pool.get(5) for _ in range(2)]
    served = []

    def slow_call() -> None:
        served.append(trial.calls.use(pool, timeout=9))

    proxy.mode("delay", scope="new", seconds=5)
    before = len(proxy.attempts())
    slow = threading.Thread(target=slow_call, daemon=True)
    slow.start()
    assert trial.until(lambda: len(proxy.attempts()) > before, 5) is not None, "nobody connects"
    gets, puts = [], []
    end = time.monotonic() + 3
    while time.monotonic() < end:
        connection = held.pop(0)
        start = time.perf_counter()
        pool.put(connection)
        puts.append(time.perf_counter() - start)
        start = time.perf_counter()
        held.append(pool.get(8))
        gets.append(time.perf_counter() - start)
        time.sleep(0.01)
    for connection in held:
        pool.put(connection)
    slow.join(15)
    trial.check(bool(served), "the slow borrower hangs")
    trial.check(not served or served[0].error is None, f"the slow borrower is not served: {served and served[0].error}")
    trial.worst_ms = max(*gets, *puts) * 1000
    trial.notes.append(f"worst get {max(gets) * 1000:.1f} ms, put {max(puts) * 1000:.1f} ms of {len(gets)}")
    trial.at_most("worst get or put", trial.worst_ms, trial.criteria["ms"], " ms")


@fault("F39", "growth burst: 100 gets at once, min 0, max 100, connect 20 ms", all_ms=2000)
def burst(trial: Trial) -> None:
    grow(trial)
    trial.at_most("all served", trial.worst_ms or 0, trial.criteria["all_ms"], " ms")


@fault("F39c", "growth burst as F39, connect_concurrency = 3", at_once=3, pools=("native",))
def narrow_burst(trial: Trial) -> None:
    connecting, logging_in = grow(trial, connect_concurrency=3)
    trial.at_most("attempts under way at once", connecting, trial.criteria["at_once"])
    trial.at_most("logins at the server at once", logging_in, trial.criteria["at_once"])
    trial.at_least("attempts under way at once", connecting, trial.criteria["at_once"])


class Most:
    """The most of several counts, seen by a thread that looks all the time."""

    def __init__(self, look: Callable[[], tuple[int, ...]]) -> None:
        self.counts = look()
        self._look = look
        self._looking = Users(1, self._see)

    def _see(self, _number: int) -> None:
        self.counts = tuple(map(max, self.counts, self._look()))
        time.sleep(0.002)

    def stop(self) -> tuple[int, ...]:
        self._looking.stop()
        return self.counts


def grow(trial: Trial, **options: int) -> tuple[int, int]:
    """The most attempts under way at once: as the pool tells, and as the proxy sees them beside the sessions."""
    proxy = trial.proxy()
    proxy.mode("delay", scope="new", seconds=0.02)
    pool = trial.pool(proxy, min_size=0, max_size=100, **options)
    all_served = threading.Barrier(100)

    def work(_number: int) -> None:
        connection = trial.calls.get(pool, 10)
        all_served.wait(20)  # until then all are lent
        pool.put(connection)

    def look() -> tuple[int, ...]:
        passing = proxy.open_sessions()  # before the pool is asked: what is open by then is no login any more
        now = pool.stats()
        connecting, are_open = (now.connecting, now.in_use + now.idle) if now else (0, passing)
        return len(trial.cluster.sessions(trial.application)), connecting, passing - are_open

    most = Most(look)
    try:
        together(100, work, patience=30)
    finally:
        sessions, connecting, logging_in = most.stop()
    trial.worst_ms = trial.calls.worst_ms()
    trial.notes.append(f"attempts {len(proxy.attempts())}, at once {connecting}, most sessions {sessions}")
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.at_most("attempts", len(proxy.attempts()), 100)
    trial.at_most("sessions at the server", sessions, 100)
    return connecting, logging_in


@fault("F41", "one pool's server is silent, another pool in the process is fine", worst_ms=250, replaced_ms=1000)
def neighbour(trial: Trial) -> None:
    proxy = trial.proxy()
    dark = trial.pool(proxy, checked=True, words={"application_name": f"dark-{trial.application}"})
    pool = trial.pool(checked=True)
    proxy.mode("dark")
    time.sleep(0.6)  # long enough for a check

    def ask_the_dark(_number: int) -> None:
        try:
            dark.discard(dark.get(0.5))
        except GetFailed:
            pass

    users = Users(10, ask_the_dark)
    try:
        end = time.monotonic() + 3
        while time.monotonic() < end:
            trial.calls.use(pool)
            time.sleep(0.005)
        start = time.monotonic()
        trial.cluster.terminate(trial.application)
        trial.replaced(pool, start, trial.criteria["replaced_ms"])
    finally:
        proxy.mode("rst")
        users.stop(30)
    proxy.mode("pass")
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.at_most("worst call", trial.calls.worst_ms(), trial.criteria["worst_ms"], " ms")
    trial.settled(pool)
