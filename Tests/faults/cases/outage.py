"""The server is away for a while, or has no room."""

from __future__ import annotations

import threading
import time
from typing import Any

import pq
from calls import Users, together
from failures import GetFailed
from proxy import Proxy
from table import fault
from trial import SIZE, TIMEOUT, Trial

REFUSED_SECONDS = 10
MANNERS = {"in_flight": 1, "attempts": 20, "first_success_ms": 1000, "all_served_ms": 250}


class Watcher:
    """The most attempts under way at once, and how many there were, as the pool's statistics tell."""

    def __init__(self, pool: Any) -> None:
        self.pool = pool
        self.most = 0
        self.before = pool.attempts()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        while not self._stop.wait(0.002):
            now = self.pool.stats()
            if now is not None:
                self.most = max(self.most, now.connecting)

    def stop(self) -> int:
        """Attempts since the start, that have ended."""
        self._stop.set()
        self._thread.join()
        return int(self.pool.attempts()) - self.before


def outage(trial: Trial, pool: Any, proxy: Proxy, mode: str) -> None:
    """F05: 20 threads that call all the time while the server is away for 10 s."""
    last_success = [0.0] * 20

    def work(number: int) -> None:
        call = trial.calls.use(pool)
        if call.error is None:
            last_success[number] = call.end
        time.sleep(0.001)

    users = Users(20, work)
    try:
        assert trial.until(lambda: all(last_success), 10) is not None, "the threads do not get going"
        before = len(proxy.attempts())
        down = time.monotonic()
        proxy.mode(mode)
        watcher = Watcher(pool)
        time.sleep(REFUSED_SECONDS)
        counted = watcher.stop()
        attempts = max(counted, len(proxy.attempts()) - before)
        up = time.monotonic()
        proxy.mode("pass")
        trial.until(lambda: min(last_success) > up, 10)
        time.sleep(0.5)
    finally:
        users.stop()
    trial.notes.append(f"attempts {attempts}, at once {watcher.most}")
    if pool.stats() is not None:
        trial.at_most("attempts in flight", watcher.most, trial.criteria["in_flight"])
    trial.at_most("attempts in 10 s", attempts, trial.criteria["attempts"])
    judge_return(trial, down, up)
    trial.settled(pool)


def judge_return(trial: Trial, down: float, up: float) -> None:
    first = trial.calls.first_success_after(up)
    if first is None:
        trial.reasons.append("no call succeeds after the outage")
        return
    trial.recovery_ms = first
    trial.at_most("first success", first, trial.criteria["first_success_ms"], " ms")
    late = [call for call in trial.calls.errors if call.end > up + 1]
    trial.check(not late, f"{len(late)} errors later than 1 s after the return")
    # Those that waited when the first was served.
    served = up + first / 1000
    waiting = [call for call in trial.calls.list if call.start < served <= call.end and call.error is None]
    worst = max(((call.end - served) * 1000 for call in waiting), default=0)
    trial.notes.append(f"all waiting served {worst:.0f} ms later")
    trial.at_most("all who waited served after the first", worst, trial.criteria["all_served_ms"], " ms")
    failed = [call.error for call in trial.calls.errors if isinstance(call.error, GetFailed) and call.end > down + 3]
    silent = [error for error in failed if not any(word in str(error) for word in ("refused", "closed", "reset"))]
    trial.check(not silent, f"{len(silent)} errors do not tell the cause: {silent[0] if silent else None}")


@fault("F05", "server refuses for 10 s, 20 threads calling (ECONNREFUSED)", limit=50, **MANNERS)
def refused(trial: Trial) -> None:
    proxy = trial.proxy()
    outage(trial, trial.pool(proxy), proxy, "refuse")


@fault("F05r", "server resets for 10 s, 20 threads calling (RST)", limit=50, **MANNERS)
def reset(trial: Trial) -> None:
    proxy = trial.proxy()
    outage(trial, trial.pool(proxy), proxy, "rst")


@fault("F17", "every connect fails while 30 wait", quick=True)
def all_fail(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    proxy.mode("refuse")
    together(30, lambda _number: trial.calls.use(pool))
    trial.at_least("errors", len(trial.calls.errors), 30)
    trial.errors = 0  # those were asked for
    kinds = {call.error.kind for call in trial.calls.errors if isinstance(call.error, GetFailed)}
    trial.check("timeout" not in kinds, "an outage is told as 'all in use'")
    start = time.monotonic()
    proxy.mode("pass")
    trial.replaced(pool, start, TIMEOUT * 1000)
    trial.settled(pool)


def fill_server(trial: Trial, count: int) -> list[pq.Connection]:
    return [pq.Connection(trial.cluster.conninfo(application_name="other")) for _ in range(count)]


def is_named(pool: Any, error: GetFailed) -> bool:
    """Of a connect that failed drivers know no SQLSTATE, only the server's words."""
    words = ("too many clients already", "remaining connection slots are reserved")
    return any(text in str(error) for text in (("53300",) if pool.lends_pgconn else words))


@fault("F08", "too many clients (53300): 5 of 10 fit", limit=50, probes_per_s=1, grows_ms=1000)
def too_many(trial: Trial) -> None:
    trial.cluster = trial.own_cluster(max_connections="65", superuser_reserved_connections="5")
    others = fill_server(trial, 55)
    proxy = trial.proxy()
    pool = trial.pool(proxy, full=False)
    held = [pool.get(TIMEOUT) for _ in range(5)]
    try:
        trial.calls.get(pool)
        trial.reasons.append("a sixth is lent")
    except GetFailed as error:
        trial.check(is_named(pool, error), f"the error does not name 53300: {error}")
    for connection in held:
        pool.put(connection)
    trial.calls.list.clear()
    together(10, lambda _number: trial.calls.use(pool))
    users = Users(10, lambda _number: trial.calls.use(pool, hold=0.005))
    seconds = 5
    before = len(proxy.attempts())
    time.sleep(seconds)
    probes = len(proxy.attempts()) - before
    users.stop()
    trial.at_most("errors of 10 that share 5", len(trial.calls.errors), 0)
    trial.notes.append(f"probes in {seconds} s: {probes}")
    trial.at_most("probes", probes, seconds * trial.criteria["probes_per_s"] + 1)
    for other in others:
        other.close()
    start = time.monotonic()
    trial.replaced(pool, start, trial.criteria["grows_ms"])
    trial.settled(pool)


@fault("X04", "max_connections lowered by a restart to below max_size, then raised", own_server=True, limit=60)
def fewer_slots(trial: Trial) -> None:
    pool = trial.pool()
    trial.cluster.settings.update(max_connections="10", superuser_reserved_connections="5")
    trial.cluster.stop()
    trial.cluster.start()
    start = time.monotonic()
    assert trial.until(lambda: trial.calls.use(pool).error is None, 10), "nobody is served after the restart"
    trial.recovery_ms = (time.monotonic() - start) * 1000
    trial.calls.list.clear()
    users = Users(10, lambda _number: trial.calls.use(pool, hold=0.005))
    time.sleep(3)
    users.stop()
    trial.at_most("errors of 10 that share 5", len(trial.calls.errors), 0)
    trial.cluster.settings.update(max_connections="60")
    trial.cluster.stop()
    trial.cluster.start()
    trial.replaced(pool, time.monotonic(), 2000, SIZE)
    trial.settled(pool)
