"""The end of a wait."""

from __future__ import annotations

import time

from ._lib import TIMEOUT_INFINITE


class Deadline:
    """One instant, computed once. A timeout of 0 has none: it makes one attempt, which may take its usual time."""

    __slots__ = ("_instant", "_timeout_ms")

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._instant = time.monotonic() + timeout_ms / 1000

    def left_ms(self) -> int:
        if self._timeout_ms == TIMEOUT_INFINITE:
            return TIMEOUT_INFINITE
        return max(0, round((self._instant - time.monotonic()) * 1000))

    def seconds_left(self) -> float | None:
        if self._timeout_ms in (0, TIMEOUT_INFINITE):
            return None
        return max(0.0, self._instant - time.monotonic())

    def is_over(self) -> bool:
        return self.left_ms() == 0
