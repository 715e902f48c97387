"""A server that asks for millions of SCRAM rounds: libpq computes them in one go, and nothing can stop it."""

from __future__ import annotations

import json
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from scripted import Demanding, ScriptedServer
from table import fault
from trial import Trial

from cases.forks import answer_of, in_child
from cases.network_handshake import Failures

# Some ten seconds of a processor.
ROUNDS = 8_000_000
PROGRAM = Path(__file__).parent.parent / "exiting.py"


@fault("F36s", f"SCRAM with {ROUNDS} rounds", limit=150, rounds_ms=250, fork_ms=750, close_ms=250, exit_ms=1250)
def scram_rounds(trial: Trial) -> None:
    """A get ends by its deadline. The attempt goes on until the rounds are done, at its place, and none is made beside
    it: then its time is up. Meanwhile other pools, close(), fork() and exit() are not held up, or not for long."""
    demanding = Demanding(ROUNDS)
    with ScriptedServer(demanding) as server:
        words = {"port": server.port}
        pool = trial.pool(full=False, min_size=0, words=words)
        failures = Failures(pool)
        trial.check(trial.calls.use(pool).error is not None, "somebody was served")
        trial.errors = 0
        other = trial.pool(min_size=0, words={"application_name": "other"})
        trial.check(trial.calls.use(other).error is None, "the pool of another server is held up")
        is_ours = pool.stats() is not None
        if is_ours:
            one_attempt(trial, pool, server, demanding, failures)
            meanwhile(trial, pool, other, demanding)
        failures.stop()
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, trial.criteria["close_ms"], " ms")
        if is_ours:
            exits(trial, words, demanding)


def one_attempt(trial: Trial, pool: Any, server: ScriptedServer, demanding: Demanding, failures: Failures) -> None:
    """The first one, whose get has ended."""
    trial.check(not demanding.answered, "the rounds were done too early to see anything")
    trial.check(pool.stats().connecting == 1, "the attempt has lost its place")
    assert trial.until(lambda: bool(failures.instants), 60) is not None, "the attempt does not end"
    trial.at_most("attempts beside it", len(server.attempts) - 1, 0)
    trial.notes.append(f"the attempt took {(failures.instants[0] - server.attempts[0]) * 1000:.0f} ms")
    late = (failures.instants[0] - demanding.answered[0]) * 1000
    trial.at_most("its end after the rounds", late, trial.criteria["rounds_ms"], " ms")


def meanwhile(trial: Trial, pool: Any, other: Any, demanding: Demanding) -> None:
    """A second attempt is in the rounds when this returns."""
    threading.Thread(target=lambda: trial.calls.use(pool), daemon=True).start()
    assert trial.until(lambda: len(demanding.asked) == 2, 10) is not None, "no second attempt"
    computed = time.process_time() + 0.2
    assert trial.until(lambda: time.process_time() > computed, 10, 0.05) is not None, "nobody computes"
    start = time.monotonic()
    child = in_child(lambda: str(trial.calls.use(other, timeout=5).error))
    took = (time.monotonic() - start) * 1000
    trial.notes.append(f"fork {took:.0f} ms")
    trial.at_most("fork", took, trial.criteria["fork_ms"], " ms")
    trial.check(answer_of(child, trial) == "None", "the child cannot use another pool")


def exits(trial: Trial, words: dict[str, object], demanding: Demanding) -> None:
    """Another process, that ends in the midst of the rounds."""
    before = len(demanding.asked)
    process = subprocess.Popen(
        [sys.executable, str(PROGRAM), trial.pool_name, json.dumps({**trial.words(), **words}, default=str)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None and process.stdout is not None
    assert trial.until(lambda: len(demanding.asked) > before, 20) is not None, "the other process does not connect"
    process.stdin.close()
    told = float(process.stdout.readline())
    code = process.wait(20)
    took = (time.monotonic() - told) * 1000
    process.stdout.close()
    trial.check(code == 0, f"exit: code {code}")
    trial.notes.append(f"exit {took:.0f} ms")
    trial.at_most("exit", took, trial.criteria["exit_ms"], " ms")
