"""Peers that accept a connection and are no server, or none that can be trusted."""

from __future__ import annotations

import time

import scripted
from calls import Users
from scripted import Script, ScriptedServer
from table import fault
from trial import CONNECT_TIMEOUT, TIMEOUT, Trial

BOUND = {"connect_ms": CONNECT_TIMEOUT * 1000 + 1000}
# Some ten seconds of a processor.
ROUNDS = 8_000_000


def ends(trial: Trial, script: Script, patience: float = 10) -> None:
    """A get ends by its deadline, and an attempt to connect within its own: a get that may wait long sees another."""
    with ScriptedServer(script) as server:
        pool = trial.pool(full=False, min_size=0, words={"port": server.port})
        trial.check(trial.calls.use(pool).error is not None, "somebody was served")
        start = time.monotonic()
        call = trial.calls.use(pool, timeout=patience)
        trial.check(call.error is not None, "somebody was served")
        if pool.stats() is not None:
            trial.at_least("attempts that ended", pool.stats().connect_failures, 1)
            trial.at_most("attempts under way for ever", pool.stats().connecting, 1)
        trial.at_most("attempts", len(server.attempts), 20)
        instants = [trial.calls.list[0].start, *server.attempts]
        gaps = [(later - earlier) * 1000 for earlier, later in zip(instants, instants[1:])]
        trial.at_least("attempts in all", len(server.attempts), 2)
        trial.at_most("longest attempt and pause", max(gaps), trial.criteria["connect_ms"], " ms")
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


@fault("F36s", f"SCRAM with {ROUNDS} rounds", **BOUND)
def scram_rounds(trial: Trial) -> None:
    """libpq computes them in one go: nothing but a thread of the library's own can wait for that."""
    with ScriptedServer(scripted.demanding(ROUNDS)) as server:
        pool = trial.pool(full=False, min_size=0, words={"port": server.port})
        trial.check(trial.calls.use(pool).error is not None, "somebody was served")
        trial.errors = 0
        other = trial.pool(min_size=0, words={"application_name": "other"})
        trial.check(trial.calls.use(other).error is None, "the pool of another server is held up")
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, 250, " ms")


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
