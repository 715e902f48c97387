#!/usr/bin/env python3
"""oracle_hosted.py DRIVER THREADS SEED: what `oracle` does, with a pool of connections of psycopg2 or psycopg. Works
until its standard input ends, forks meanwhile, and ends with the line `N passed, M failed`."""

from __future__ import annotations

import contextlib
import faulthandler
import importlib
import os
import random
import select
import signal
import subprocess
import sys
import threading
import time
import warnings

import hosted_jobs
from hosted_ledger import Ledger
from hosted_memory import Figures, Rests, counts, figures

WARM_SECONDS = 2.0
WARM_LOANS = 1500  # after some 1100 the memory of a process with psycopg grows by half a MiB at once, and only then
REST_SECONDS = 30.0
STUCK_SECONDS = 30.0
GROWTH_KIB = 2048
LATE_SECONDS = 0.25
GROWTH_PERCENT = 1  # an hour


class Oracle:
    def __init__(self, driver: str, threads: int, seed: int) -> None:
        self.name = driver
        self.driver: hosted_jobs.Driver = importlib.import_module(f"jobs_{driver}").DRIVER
        self.application = f"oracle-{driver}-{os.getpid()}"
        self.size = threads
        self.ledger = Ledger()
        self.random = random.Random(seed)
        self.pool = self.driver.pool(
            {"application_name": self.application},
            name=driver,
            max_size=self.size,
            timeout=hosted_jobs.DEFAULT_TIMEOUT,
            max_lifetime=3,
        )
        self.resting = threading.Event()
        self.ending = threading.Event()
        self.began = [0.0] * (threads + 2)  # 0: at rest
        jobs = [self._borrow] * threads + [self._disturb, self._nap]
        self.threads = [
            threading.Thread(target=self._run, args=(i, seed, job), daemon=True) for i, job in enumerate(jobs)
        ]
        self.rests = Rests()
        self.unrested = 0
        self.passed = self.failed = 0

    # ---------------------------------------------------------------------------------------------- threads

    def _run(self, number: int, seed: int, work) -> None:
        worker = hosted_jobs.Worker(number + 1, seed, self.ledger, self.driver)
        worker.untried = list(worker.jobs)  # the warm-up is to load all that a driver loads late
        while not self.ending.is_set():
            if self.resting.is_set():
                self.began[number] = 0
                time.sleep(0.002)
                continue
            self.began[number] = time.monotonic()
            try:
                work(worker)
            except Exception as error:
                self.ledger.complain("refused", f"thread {number}: {error!r}")

    def _borrow(self, worker: hosted_jobs.Worker) -> None:
        hosted_jobs.loan(worker, self.pool)

    def _disturb(self, worker: hosted_jobs.Worker) -> None:
        time.sleep(worker.random.uniform(0, 0.3))
        self.ledger.count("actions")
        what = worker.random.choice(["reconnect", "resize", "pause", "stats", "program"])
        if what == "reconnect":
            self.pool.reconnect()
        elif what == "resize":
            most = worker.random.randint((self.size + 1) // 2, self.size)
            self.pool.resize(worker.random.randrange(min(3, most + 1)), most)
        elif what == "pause":
            self.pool.pause()
            time.sleep(worker.random.uniform(0, 0.1))
            self.pool.resume()
        elif what == "stats" and self.pool.stats().internal_errors:
            self.ledger.complain("refused", f"internal errors: {self.pool.stats()}")
        elif what == "program":
            subprocess.run(["/bin/true"], check=True)

    def _nap(self, worker: hosted_jobs.Worker) -> None:
        self.ledger.nap()

    # ------------------------------------------------------------------------------------------------ forks

    def fork(self) -> None:
        """Waits for the child's end."""
        number = 1000 + self.ledger.count("children")
        seed = self.random.random()
        child = os.fork()
        if child == 0:
            faulthandler.register(signal.SIGALRM, chain=True)  # one that hangs says where, and ends
            signal.alarm(60)
            self._live_as_child(number, seed)
        status = os.waitpid(child, 0)[1]
        if status != 0:
            self.ledger.complain("failed_children", f"child {number} ended with status {status:#x}")

    def _live_as_child(self, number: int, seed: float) -> None:
        worker = hosted_jobs.Worker(number, seed, self.ledger, self.driver)
        code = 1
        try:
            self.pool.resume()  # a pause holds in a child too
            for _ in range(worker.random.randrange(5)):
                hosted_jobs.loan(worker, self.pool)
            code = 0
        except BaseException as error:
            self.ledger.complain("failed_children", f"in child {number}: {error!r}")
        way = worker.random.randrange(4)
        if way == 0:
            os.execl("/bin/true", "true")
        if way == 1:
            self.pool.close()
        if way == 2:
            os._exit(code)
        sys.exit(code)  # through the interpreter's end, with all finalizers

    # ------------------------------------------------------------------------------------------------- rest

    def end_if_stuck(self) -> None:
        now = time.monotonic()
        for number, began in enumerate(self.began):
            if began and now - began > STUCK_SECONDS:
                print(f"  FAIL  thread {number} hangs\n{self.passed} passed, {self.failed + 1} failed", flush=True)
                os._exit(1)

    def rest(self, baseline: Figures | None) -> tuple[bool, Figures]:
        """All threads at their gate, the pool without a loan and closed down: then the figures are exact."""
        self.resting.set()
        while any(self.began):
            self.end_if_stuck()
            time.sleep(0.002)
        self.pool.resume()
        self.pool.resize(0, self.size)
        self.pool.reconnect()
        began = time.monotonic()
        latest = 0.0
        while not (is_rested := self._is_rested(baseline)) and time.monotonic() < began + REST_SECONDS:
            before = time.monotonic()
            time.sleep(0.01)
            latest = max(latest, time.monotonic() - before - 0.01)
        if not is_rested:
            print(f"  no rest in {REST_SECONDS:.0f} s; naps of 10 ms were {latest * 1000:.1f} ms too long at worst")
            print(f"    {self.pool.stats()}")
            print(f"    descriptors and threads {counts()} of {baseline and baseline[:2]}", flush=True)
        return is_rested, figures()

    def _is_rested(self, baseline: Figures | None) -> bool:
        stats = self.pool.stats()
        return stats.total == 0 and stats.waiting == 0 and (baseline is None or counts() == baseline[:2])

    # ------------------------------------------------------------------------------------------------- main

    def check(self, holds: bool, what: str) -> None:
        print(f"  {'ok  ' if holds else 'FAIL'}  {what}")
        if holds:
            self.passed += 1
        else:
            self.failed += 1

    def work(self) -> None:
        start = figures()
        for thread in self.threads:
            thread.start()
        self.warm_up()
        is_warm, warm = self.rest(None)
        self.check(is_warm, f"the pool of {self.name} is empty after the warm-up")
        self.resting.clear()
        print("ready", flush=True)
        seconds = self.watch(warm)
        is_rested, end = self.rest(warm)
        print(f"\n{self.name}: {len(self.threads) - 2} threads, {seconds:.0f} seconds")
        self.ledger.print()
        print(f"  {self.pool!r}")
        self.rests.print()
        for when, then in (("start", start), ("after warm-up", warm), ("end", end)):
            print(f"  {when + ':':15} {then}")
        self.judge(is_rested, warm, end)

    def warm_up(self) -> None:
        time.sleep(WARM_SECONDS)
        end = time.monotonic() + REST_SECONDS
        while self.ledger.counts()["loans"] < WARM_LOANS and time.monotonic() < end:
            self.end_if_stuck()
            time.sleep(0.05)

    def watch(self, warm: Figures) -> float:
        """Forks until standard input ends, and rests whenever it says so. How long it was."""
        began = time.monotonic()
        while True:
            self.end_if_stuck()
            self.fork()
            if not select.select([sys.stdin], [], [], self.random.uniform(0.1, 0.8))[0]:
                continue
            if not os.read(sys.stdin.fileno(), 16):
                return time.monotonic() - began
            is_rested, now = self.rest(warm)
            if is_rested:
                self.rests.note(time.monotonic() - began, now)
            else:
                self.unrested += 1
            self.resting.clear()
            print("rested", flush=True)

    def judge(self, is_rested: bool, warm: Figures, end: Figures) -> None:
        counts = self.ledger.counts()
        self.check(counts["wrong_answers"] == 0 < counts["answers"], "every answer belongs to its question")
        self.check(counts["double_owners"] == self.ledger.owned() == 0, "no session had two owners")
        self.check(counts["unclean_loans"] == 0, "every connection was lent clean")
        self.check(counts["strange_errors"] == 0, "every error has an explanation")
        self.check(counts["refused"] == 0, "every call of the pool was answered as promised")
        self.check(counts["failed_children"] == 0 < counts["children"], "every child ended well")
        is_in_time = self.ledger.latest_fed <= LATE_SECONDS + self.ledger.nap_latest
        self.check(
            is_in_time,
            "no borrow outlasted its timeout by more than 250 ms, its waits for a processor and what naps were late",
        )
        self.check(is_rested, "the pool is empty again")
        self.check(end[:2] == warm[:2], "descriptors and threads at the end as after the warm-up")
        self.check(end.memory_kib - warm.memory_kib <= GROWTH_KIB, "memory grew by 2 MiB at most after the warm-up")
        self.judge_rests()
        self.pool.close()
        self.ending.set()
        for thread in self.threads:
            thread.join()
        self.check(self._has_no_session(), "no session is left")

    def _has_no_session(self) -> bool:
        return hosted_jobs.wait_for_sessions(self.driver, self.application, 0, REST_SECONDS)

    def judge_rests(self) -> None:
        """Of a short run they say nothing."""
        self.check(self.unrested == 0, "the pool was empty at every rest, descriptors and threads as after the warm-up")
        if self.rests.tell():
            is_flat = self.rests.allocated_growth()[0] <= GROWTH_PERCENT
            self.check(is_flat, f"what malloc has given out at rest grows by {GROWTH_PERCENT} %/h at most")
            percent, error = self.rests.memory_growth()
            self.check(percent - 2 * error <= GROWTH_PERCENT, "so does memory, less twice its standard error")


def main() -> int:
    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # fork with threads: that is the point
    oracle = Oracle(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    with contextlib.suppress(KeyboardInterrupt):
        oracle.work()
        print(f"{oracle.passed} passed, {oracle.failed} failed", flush=True)
        return int(oracle.failed > 0)
    return 130


if __name__ == "__main__":
    sys.exit(main())
