"""The end of a wait."""

from __future__ import annotations

import time

from ._lib import TIMEOUT_INFINITE


class Deadline:
    """One instant, computed once. A timeout of 0 has none: it makes one attempt, which may take its usual time."""

    __slots__ = ("_instant", "_is_extended", "_timeout_ms")

    def __init__(self, timeout_ms: int) -> None:
        self._timeout_ms = timeout_ms
        self._is_extended = False
        self._instant = time.monotonic() + timeout_ms / 1000

    @classmethod
    def of(cls, seconds: float | None) -> Deadline:
        """None = without end."""
        return cls(TIMEOUT_INFINITE if seconds is None else max(1, round(seconds * 1000)))

    def extend(self, more_ms: int) -> bool:
        """Once: that much from now on."""
        if self._is_extended:
            return False
        self._is_extended = True
        self._instant = time.monotonic() + more_ms / 1000
        return True

    @property
    def given_seconds(self) -> float:
        """What it was made with."""
        return self._timeout_ms / 1000

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
