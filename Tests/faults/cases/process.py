"""What happens to the process itself: descriptors, signals, callbacks, the clock."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Any

from failures import GetFailed, QueryFailed, Skip
from table import OURS, fault
from trial import SIZE, TIMEOUT, Trial

# A line of the log each.
NOTICES = "DO $$ BEGIN FOR i IN 1..100 LOOP RAISE NOTICE 'notice %', i; END LOOP; END $$"
CLOCK_PROGRAM = Path(__file__).parent.parent / "clock.py"
FAKETIME = "usr/lib/*/faketime/libfaketime.so.1"


@fault("X08", "all descriptors in use (RLIMIT_NOFILE), then free again", quick=True, recovers_ms=1500, pools=OURS)
def no_descriptors(trial: Trial) -> None:
    pool = trial.pool(min_size=0, full=False)
    trial.calls.use(pool)
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    used = max(int(name) for name in os.listdir("/proc/self/fd"))
    # Lower numbers that are free are taken as well.
    resource.setrlimit(resource.RLIMIT_NOFILE, (used + 1, hard))
    taken = []
    with suppress(OSError):
        while True:
            taken.append(os.open("/dev/null", os.O_RDONLY))
    held = []
    try:
        for _ in range(3):
            try:
                held.append(trial.calls.get(pool, 0.5))
            except GetFailed as error:
                trial.check(error.kind != "timeout", f"told as 'all in use': {error}")
        trial.at_least("gets that fail without a descriptor", len(trial.calls.errors), 2)
    finally:
        for number in taken:
            os.close(number)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(4096, hard), hard))
    trial.errors = 0  # those were asked for
    for connection in held:
        pool.put(connection)
    start = time.monotonic()
    trial.fill(pool, SIZE)
    trial.recovery_ms = (time.monotonic() - start) * 1000
    trial.at_most("ten are open", trial.recovery_ms, trial.criteria["recovers_ms"], " ms")


@fault("X09", "SIGPIPE has its default action, the peer resets", pools=OURS)
def sigpipe(trial: Trial) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    connections = [pool.get(TIMEOUT) for _ in range(SIZE)]
    proxy.mode("rst", scope="existing")
    for connection in connections:
        for _ in range(2):
            with suppress(QueryFailed):
                pool.query(connection, "SELECT repeat('x', 100000)")
                trial.reasons.append("a query on a reset session succeeds")
    for connection in connections:
        pool.put(connection)
    trial.replaced(pool, time.monotonic(), 1000)
    trial.check(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL, "the action of SIGPIPE has changed")
    trial.check(not blocked(signal.SIGPIPE), "SIGPIPE is blocked")
    for _ in range(20):
        trial.calls.use(pool)
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool)


def blocked(number: int) -> bool:
    return number in signal.pthread_sigmask(signal.SIG_BLOCK, [])


@fault("X10", "the log callback stalls", pools=("native",), quick=True, worst_ms=250, replaced_ms=1000)
def stalled_log(trial: Trial) -> None:
    stalled, resume = threading.Event(), threading.Event()

    def log(_level: int, _message: str) -> None:
        stalled.set()
        resume.wait(20)

    pool = trial.pool(log=log, checked=True)
    try:
        for _ in range(20):
            trial.calls.use(pool, NOTICES)
        trial.check(stalled.wait(5), "nothing is logged")
        for _ in range(5):
            start = time.monotonic()
            trial.cluster.terminate(trial.application)
            for _ in range(20):
                trial.calls.use(pool)
            trial.replaced(pool, start, trial.criteria["replaced_ms"])
        trial.at_most("errors", len(trial.calls.errors), 0)
        trial.at_most("worst call", trial.calls.worst_ms(), trial.criteria["worst_ms"], " ms")
        trial.check(pool.stats().log_drops > 0, "the queue of the log has no end")
        trial.notes.append(f"{pool.stats().log_drops} lines dropped")
        trial.settled(pool)
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, 250, " ms")
    finally:
        resume.set()


def faketime() -> str:
    found = [os.environ["LIBFAKETIME"]] if "LIBFAKETIME" in os.environ else []
    found += [str(path) for path in Path("/").glob(FAKETIME)]
    if not found:
        raise Skip("there is no libfaketime: apt-get install libfaketime")
    return found[0]


@fault("X07", "the clock of day jumps by a day, forth and back", limit=40, pools=OURS)
def clock_jump(trial: Trial) -> None:
    library = faketime()
    now = trial.folder / "faketime"
    now.write_text("+0")
    environment = {
        **os.environ,
        "LD_PRELOAD": library,
        "FAKETIME_TIMESTAMP_FILE": str(now),
        "FAKETIME_NO_CACHE": "1",
        "FAKETIME_DONT_FAKE_MONOTONIC": "1",
        "DONT_FAKE_MONOTONIC": "1",
    }
    words: dict[str, Any] = trial.words()
    result = subprocess.run(
        [sys.executable, str(CLOCK_PROGRAM), trial.pool_name, str(SIZE), str(now), json.dumps(words, default=str)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=35,
        env=environment,
    )
    if trial.check(result.returncode == 0, f"code {result.returncode}"):
        found = json.loads(result.stdout.splitlines()[-1])
        trial.errors, trial.worst_ms = found["errors"], found["worst_ms"]
        for complaint in found["complaints"]:
            trial.reasons.append(complaint)
    else:
        print(result.stdout, file=sys.stderr)
