"""Peers that accept a connection and are no server, or none that can be trusted."""

from __future__ import annotations

import time
from typing import Any

import scripted
from calls import Users
from scripted import Script, ScriptedServer
from table import fault
from trial import CONNECT_TIMEOUT, TIMEOUT, Trial

# The attempt itself, and the attempt with the pause after it.
BOUND = {"attempt_ms": CONNECT_TIMEOUT * 1000 + 250, "next_ms": CONNECT_TIMEOUT * 1000 + 1000}


class Failures:
    """`instants`: when attempts to connect ended without success, as the pool's statistics tell."""

    def __init__(self, pool: Any) -> None:
        self.instants: list[float] = []
        self._pool = pool
        self._looking = Users(1, self._look)

    def _look(self, _number: int) -> None:
        now = self._pool.stats()
        if now is not None:
            self.instants += [time.monotonic()] * (now.connect_failures - len(self.instants))
        time.sleep(0.002)

    def stop(self) -> list[float]:
        self._looking.stop()
        return self.instants


def ends(trial: Trial, script: Script, patience: float = 10) -> None:
    """A get ends by its deadline, and an attempt to connect within its own: a get that may wait long sees another."""
    with ScriptedServer(script) as server:
        pool = trial.pool(full=False, min_size=0, words={"port": server.port})
        failures = Failures(pool)
        trial.check(trial.calls.use(pool).error is not None, "somebody was served")
        call = trial.calls.use(pool, timeout=patience)
        trial.check(call.error is not None, "somebody was served")
        ended = failures.stop()
        if pool.stats() is not None:
            trial.at_least("attempts that ended", len(ended), 2)
            trial.at_most("attempts under way for ever", pool.stats().connecting, 1)
            longest = max(((end - start) * 1000 for start, end in zip(server.attempts, ended)), default=0)
            trial.at_most("longest attempt", longest, trial.criteria["attempt_ms"], " ms")
            trial.notes.append(f"longest attempt {longest:.0f} ms")
        trial.at_most("attempts", len(server.attempts), 20)
        instants = [trial.calls.list[0].start, *server.attempts]
        gaps = [(later - earlier) * 1000 for earlier, later in zip(instants, instants[1:])]
        trial.at_least("attempts in all", len(server.attempts), 2)
        trial.at_most("longest attempt and pause", max(gaps), trial.criteria["next_ms"], " ms")
        trial.recovery_ms = None
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, 250, " ms")
    trial.errors = 0  # those were to be


@fault("F36", "server silent in the handshake", **BOUND)
def silent(trial: Trial) -> None:
    ends(trial, scripted.be_silent)


@fault("F36g", "garbage in the handshake", **BOUND)
def garbage(trial: Trial) -> None:
    ends(trial, scripted.say_garbage, 3)


@fault("F36e", "a message without an end in the handshake", **BOUND)
def endless(trial: Trial) -> None:
    ends(trial, scripted.never_stop)


@fault("F36l", "a message of 2 GiB in the handshake", **BOUND)
def gigabytes(trial: Trial) -> None:
    ends(trial, scripted.claim_a_gigabyte)


@fault("N01", "proxy accepts and closes at once, 20 threads calling", attempts=12, first_success_ms=1000)
def closes_at_once(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    users = Users(20, lambda _number: trial.calls.use(pool) and None)
    try:
        proxy.mode("cut", "new", bytes=0)
        proxy.mode("rst", "existing")
        start = time.monotonic()
        time.sleep(5)
        attempts = sum(instant > start for instant in proxy.attempts())
        proxy.mode("pass", "new")
        back = time.monotonic()
        trial.until(lambda: trial.calls.first_success_after(back) is not None, 10, 0.01)
        time.sleep(TIMEOUT)
    finally:
        users.stop()
    trial.at_most("attempts in 5 s", attempts, trial.criteria["attempts"])
    trial.recovery_ms = trial.calls.first_success_after(back)
    if trial.check(trial.recovery_ms is not None, "no success afterwards"):
        trial.at_most("first success", trial.recovery_ms or 0, trial.criteria["first_success_ms"], " ms")
    late = [call for call in trial.calls.errors if call.end > back + 1]
    trial.check(not late, f"{len(late)} errors later than 1 s after the return")
    trial.settled(pool)


@fault("N04", "logins succeed and the sessions end at once, 20 threads calling", attempts=25, close_ms=250)
def ends_after_login(trial: Trial) -> None:
    """The attempts are those of an outage, and some before it is seen to be one."""
    with ScriptedServer(scripted.log_in_and_close) as server:
        pool = trial.pool(full=False, min_size=0, words={"port": server.port})
        users = Users(20, lambda _number: trial.calls.use(pool) and None)
        time.sleep(10)
        attempts = len(server.attempts)
        users.stop()
        trial.check(all(call.error for call in trial.calls.list), "somebody was served")
        trial.at_most("attempts in 10 s", attempts, trial.criteria["attempts"])
        trial.notes.append(f"{attempts} attempts")
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, trial.criteria["close_ms"], " ms")
    trial.recovery_ms = None
    trial.errors = 0  # those were to be
