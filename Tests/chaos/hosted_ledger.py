"""Who has which session, and what was counted: by all threads and forked children together, in shared memory."""

from __future__ import annotations

import mmap
import os
import sys
import threading
import time
from pathlib import Path

_KINDS = (
    "loans",
    "answers",
    "children",
    "actions",
    "lost",
    "not_lent",
    "wrong_answers",
    "double_owners",
    "unclean_loans",
    "strange_errors",
    "refused",
    "failed_children",
)
_ROOM = 2000  # processes that may count: each has a row of its own, as Python cannot add across processes
_MOST_LINES = 20
NAP_SECONDS = 0.005


def starved() -> float:
    """Seconds that this thread was ready to run and others had the processors; 0 where nobody counts that."""
    try:
        return int(Path("/proc/thread-self/schedstat").read_text().split()[1]) / 1e9
    except (OSError, IndexError, ValueError):
        return 0.0


class Ledger:
    def __init__(self) -> None:
        most = int(Path("/proc/sys/kernel/pid_max").read_text()) + 1
        # The owner of each process number there can be. What nobody writes costs nothing.
        self._owners = memoryview(mmap.mmap(-1, 4 * most)).cast("I")
        self._counts = memoryview(mmap.mmap(-1, 8 * len(_KINDS) * _ROOM)).cast("q")
        # In this process alone: the seconds by which a borrow outlasted its timeout, by which it did so without its
        # thread's waits for a processor, and by which a nap was too long.
        self.latest = self.latest_fed = self.nap_latest = 0.0
        self._start(0)
        os.register_at_fork(after_in_child=lambda: self._start(1 + os.getpid() % (_ROOM - 1)))

    def _start(self, row: int) -> None:
        self._row = row * len(_KINDS)
        self._lock = threading.Lock()
        self._lines = 0

    def count(self, kind: str) -> int:
        place = self._row + _KINDS.index(kind)
        with self._lock:
            self._counts[place] += 1
            return self._counts[place]

    def counts(self) -> dict[str, int]:
        return {kind: sum(self._counts[i :: len(_KINDS)]) for i, kind in enumerate(_KINDS)}

    def complain(self, kind: str, text: str) -> None:
        self.count(kind)
        self._lines += 1
        if self._lines <= _MOST_LINES:
            print(f"    process {os.getpid()}: {kind}: {text}", file=sys.stderr, flush=True)

    def claim(self, pid: int, owner: int) -> None:
        """Two processes that write at the same moment do not see each other here: one of them sees it at `release`."""
        with self._lock:
            before, self._owners[pid] = self._owners[pid], owner
        if before:
            self.complain("double_owners", f"backend {pid} is lent to {owner} and has the owner {before} still")

    def release(self, pid: int, owner: int) -> None:
        with self._lock:
            before, self._owners[pid] = self._owners[pid], 0
        if before != owner:
            self.complain("double_owners", f"backend {pid} was {owner}'s and has the owner {before}")

    def owned(self) -> int:
        return sum(1 for owner in self._owners if owner)

    def nap(self) -> None:
        """For a moment: so late may this machine be with anything."""
        before = time.monotonic()
        time.sleep(NAP_SECONDS)
        self.nap_latest = max(self.nap_latest, time.monotonic() - before - NAP_SECONDS)

    def note_lateness(self, late: float, starved: float) -> None:
        self.latest = max(self.latest, late)
        self.latest_fed = max(self.latest_fed, late - starved)

    def print(self) -> None:
        print("  " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in self.counts().items()))
        print(
            f"  the latest borrow ended {self.latest * 1000:.1f} ms after its timeout, "
            f"{self.latest_fed * 1000:.1f} ms without its waits for a processor; "
            f"the latest nap was {self.nap_latest * 1000:.1f} ms too long"
        )
