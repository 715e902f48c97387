"""A process that forks while it has a pool."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
import traceback
from functools import partial
from pathlib import Path
from typing import Any, Callable

from failures import GetFailed, QueryFailed
from table import OURS, fault
from trial import SIZE, TIMEOUT, Trial

PROGRAM = Path(__file__).parent.parent / "forking.py"
ENDINGS = ("close", "return", "exit()", "_exit()")


def in_child(work: Callable[[], Any]) -> tuple[int, int]:
    """Forks: the child's pid, and where the JSON of what `work` returned can be read."""
    reading, writing = os.pipe()
    pid = os.fork()
    if pid:
        os.close(writing)
        return pid, reading
    code = 1
    try:
        with os.fdopen(writing, "w") as answer:
            json.dump(work(), answer)
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


def answer_of(child: tuple[int, int], trial: Trial) -> Any:
    pid, reading = child
    with os.fdopen(reading) as answer:
        text = answer.read()
    _, status = os.waitpid(pid, 0)
    trial.check(status == 0, f"the child ended with status {status}")
    return json.loads(text) if text else None


def ask_and_count(pool: Any, tag: int, seconds: float) -> dict[str, Any]:
    """Each query has an answer of its own."""
    counts: dict[str, Any] = {"right": 0, "wrong": 0, "errors": 0, "first_error": "", "worst_ms": 0.0}
    end = time.monotonic() + seconds
    number = 0
    while time.monotonic() < end:
        number += 1
        start = time.monotonic()
        try:
            connection = pool.get(TIMEOUT)
            try:
                rows = pool.query(connection, f"SELECT {tag}, {number}")
            finally:
                pool.put(connection)
        except (GetFailed, QueryFailed) as error:
            counts["errors"] += 1
            counts["first_error"] = counts["first_error"] or str(error)
        else:
            counts["right" if rows == [(str(tag), str(number))] else "wrong"] += 1
        counts["worst_ms"] = max(counts["worst_ms"], (time.monotonic() - start) * 1000)
    return counts


def judge(trial: Trial, who: str, counts: dict[str, Any]) -> None:
    trial.check(counts["wrong"] == 0, f"{who}: {counts['wrong']} of {counts['wrong'] + counts['right']} answers wrong")
    trial.check(counts["errors"] == 0, f"{who}: {counts['errors']} errors, the first: {counts['first_error']}")
    trial.check(counts["right"] > 0, f"{who}: no answer")
    trial.errors = (trial.errors or 0) + counts["errors"]
    trial.worst_ms = max(trial.worst_ms or 0, counts["worst_ms"])


@fault("F22", "fork, parent and child use the pool", quick=True, seconds=1.5)
def both_use(trial: Trial) -> None:
    pool = trial.pool()
    held = pool.get(TIMEOUT)  # lent over the fork
    before = set(trial.cluster.sessions(trial.application))
    seconds = trial.criteria["seconds"]
    children = [in_child(partial(ask_and_count, pool, tag, seconds)) for tag in (1, 2)]
    parents = ask_and_count(pool, 3, seconds)
    for number, child in enumerate(children, 1):
        judge(trial, f"child {number}", answer_of(child, trial) or {"right": 0, "wrong": 0, "errors": 0, "worst_ms": 0})
    judge(trial, "parent", parents)
    trial.check(pool.query(held, "SELECT 'held'") == [("held",)], "the loan of before the fork is broken")
    pool.put(held)
    gone = before - set(trial.cluster.sessions(trial.application))
    trial.check(not gone, f"{len(gone)} sessions of the parent are gone")
    trial.settled(pool)


@fault("F22l", "fork, the child puts and uses what was lent before", quick=True, pools=OURS)
def lent_before(trial: Trial) -> None:
    pool = trial.pool()
    held = [pool.get(TIMEOUT) for _ in range(3)]
    pids = [pool.backend_pid(connection) for connection in held]

    def work() -> str:
        for connection in held:
            try:
                pool.put(connection)
            except Exception as error:
                assert getattr(error, "code", None) == -11, f"put: {error}"
        counts = ask_and_count(pool, 1, 0.3)
        return "" if counts["errors"] == counts["wrong"] == 0 else str(counts)

    complaint = answer_of(in_child(work), trial)
    trial.check(complaint == "", f"child: {complaint}")
    found = [pool.backend_pid(connection) for connection in held]
    trial.check(found == pids, "the loans of the parent have other sessions")
    for connection in held:
        pool.put(connection)
    trial.settled(pool)


@fault("F23", "fork, the child closes the pool", quick=True)
def child_closes(trial: Trial) -> None:
    pool = trial.pool()
    before = trial.cluster.sessions(trial.application)
    held = pool.get(TIMEOUT)
    answer_of(in_child(lambda: pool.close()), trial)
    trial.check(trial.cluster.sessions(trial.application) == before, "the parent has lost sessions")
    trial.check(pool.query(held, "SELECT 'held'") == [("held",)], "the loan of before the fork is broken")
    pool.put(held)
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool)


@fault("F23e", "fork, the child ends in four ways, destructors included", quick=True)
def child_ends(trial: Trial) -> None:
    trial.errors = 0
    for ending in ENDINGS:
        result = subprocess.run(
            [sys.executable, str(PROGRAM), trial.pool_name, ending, str(SIZE), json.dumps(trial.words(), default=str)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=30,
        )
        if not trial.check(result.returncode == 0, f"{ending}: code {result.returncode}"):
            print(result.stdout, file=sys.stderr)
            trial.errors += 1
