"""Descriptors, threads and memory of this process; and how fast memory grows from rest to rest."""

from __future__ import annotations

import ctypes
import gc
import os
from typing import NamedTuple

LEAST_RESTS = 20
WARM_SECONDS = 600.0

_C = ctypes.CDLL(None)
_FIELDS = "arena ordblks smblks hblks hblkhd usmblks fsmblks uordblks fordblks keepcost"


class _Mallinfo(ctypes.Structure):
    _fields_ = [(name, ctypes.c_size_t) for name in _FIELDS.split()]  # noqa: RUF012 - as ctypes wants it


_C.mallinfo2.restype = _Mallinfo


class Figures(NamedTuple):
    descriptors: int
    threads: int
    memory_kib: int  # of its own: without what is shared or a file's
    allocated_kib: float  # given out by malloc, which is all there is with PYTHONMALLOC=malloc

    def __str__(self) -> str:
        return (
            f"{self.descriptors:3} descriptors, {self.threads:2} threads, {self.memory_kib} KiB, "
            f"{self.allocated_kib:.1f} KiB given out by malloc"
        )


def counts() -> tuple[int, int]:
    """Descriptors and threads."""
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task"))


def figures() -> Figures:
    gc.collect()
    _C.malloc_trim(0)
    heap = _C.mallinfo2()
    with open("/proc/self/status") as status:
        memory = next(int(line.split()[1]) for line in status if line.startswith("RssAnon:"))
    return Figures(*counts(), memory, (heap.uordblks + heap.hblkhd) / 1024)


class Rests:
    def __init__(self) -> None:
        self._noted: list[tuple[float, Figures]] = []

    def note(self, second: float, now: Figures) -> None:
        self._noted.append((second, now))

    @property
    def _warm(self) -> list[tuple[float, Figures]]:
        return [(second, now) for second, now in self._noted if second >= WARM_SECONDS]

    def tell(self) -> bool:
        """Whether there were enough after the warm-up to say how fast memory grows."""
        return len(self._warm) >= LEAST_RESTS

    def allocated_growth(self) -> tuple[float, float]:
        """Of what malloc has given out, in percent an hour, and the standard error of that."""
        return _growth([(second, now.allocated_kib) for second, now in self._warm])

    def memory_growth(self) -> tuple[float, float]:
        """The same of the process's memory, which has holes and goes up and down."""
        return _growth([(second, float(now.memory_kib)) for second, now in self._warm])

    def print(self) -> None:
        print(f"  {len(self._noted)} rests, {len(self._warm)} of them after {WARM_SECONDS:.0f} s of warm-up")
        count = len(self._noted)
        shown = [self._noted[i][1] for i in sorted({i * (count - 1) // 9 for i in range(10)}) if count]
        print("  given out by malloc, KiB at rest:", *(f"{now.allocated_kib:.1f}" for now in shown))
        print("  memory, KiB at rest:", *(now.memory_kib for now in shown))
        if self.tell():
            growths = self.allocated_growth(), self.memory_growth()
            allocated, memory = map("{0[0]:.2f} (± {0[1]:.2f}) %/h".format, growths)
            print(f"  growth after the warm-up: {allocated} given out by malloc, {memory} of memory")


def _growth(points: list[tuple[float, float]]) -> tuple[float, float]:
    """By least squares, of its first value; and the standard error."""
    mean_x = sum(x for x, _ in points) / len(points)
    mean_y = sum(y for _, y in points) / len(points)
    spread = sum((x - mean_x) ** 2 for x, _ in points)
    if not spread or len(points) < 3:
        return 0.0, 0.0
    slope = sum((x - mean_x) * (y - mean_y) for x, y in points) / spread
    rest = sum((y - mean_y - slope * (x - mean_x)) ** 2 for x, y in points)
    percent = 100 * 3600 / points[0][1]
    return percent * slope, percent * (rest / (len(points) - 2) / spread) ** 0.5
