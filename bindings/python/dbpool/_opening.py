"""A connect on a thread of its own, because nothing interrupts the resolver, nor a login inside the driver.

The thread that wants the connection waits for it until its deadline, awake for signals. When it gives up, the attempt
goes on: what comes of it is `leave`d to the pool, and so is the slot, so that there are never more such threads than a
pool has slots. Real threads, with no lock of the standard library: see `_collector`.
"""

from __future__ import annotations

import atexit
import contextvars
import os
import time
from typing import Any, Callable

from . import _gate, _lib, _process, _waiting
from ._collector import original

# How long the end of the interpreter waits for attempts: OpenSSL takes itself down at exit, and a thread that is inside
# it crashes. It is spared when one is there for longer.
_EXIT_SECONDS = 0.5

Work = Callable[[], Any]
Leave = Callable[[Any, "BaseException | None"], object]

_running: set[Attempt] = set()
_is_ending = False
# Of a forked child: attempts of its parent.
_graveyard: list[object] = []


class GivenUp(Exception):
    """The attempt goes on alone: it has the token now."""

    def __init__(self, seconds: float | None = None) -> None:
        super().__init__(seconds)
        self.seconds = seconds


class NoThread(Exception):
    """The system has none to give."""


class Attempt:
    """`work()` on a thread of its own. When nobody waits for its outcome any more, `leave(result, error)` gets it."""

    __slots__ = ("_claim", "_done", "_error", "_leave", "_pid", "_result", "_work", "is_left")

    def __init__(self, work: Work, leave: Leave) -> None:
        self._work, self._leave = work, leave
        self._result: Any = None
        self._error: BaseException | None = None
        # Who takes it out decides: the thread that it hands over, the waiter that it gives up.
        self._claim = [None]
        self._pid = _process.pid
        self._done = original("_thread", "allocate_lock")()
        self._done.acquire()
        self.is_left = False

    def result(self, seconds: float | None) -> Any:
        """What `work` returned; raises what it raised, GivenUp, NoThread. `seconds`: None = without end."""
        self._start()
        try:
            is_over = not self._wait(seconds)
        except BaseException:
            if not self._give_up():
                self._leave(self._result, self._error)
            raise
        if is_over and self._give_up():
            raise GivenUp(seconds)
        error, self._error = self._error, None
        if error is None:
            return self._result
        try:
            raise error
        finally:
            del error  # its traceback has this frame

    def _start(self) -> None:
        _running.add(self)
        try:
            original("_thread", "start_new_thread")(contextvars.copy_context().run, (self._run,))
        except RuntimeError as error:
            _running.discard(self)
            raise NoThread from error

    def _wait(self, seconds: float | None) -> bool:
        """Whether it is done."""
        end = None if seconds is None else time.monotonic() + seconds
        slice_seconds = _waiting.SLICE_MS / 1000 if _waiting.on_main_thread() else None
        while True:
            left = slice_seconds
            if end is not None:
                left = max(0.0, end - time.monotonic())
                left = left if slice_seconds is None else min(left, slice_seconds)
            if self._done.acquire(True, -1 if left is None else left):
                return True
            if self._pid != _process.pid:  # forked by a signal handler
                return False
            if end is not None and time.monotonic() >= end:
                return False

    def _give_up(self) -> bool:
        """False: it was handed over."""
        try:
            self._claim.pop()
        except IndexError:
            return False
        self.is_left = True
        return True

    def _run(self) -> None:
        try:
            try:
                self._result = self._work()
            except BaseException as error:
                self._error = error
            if self._is_wanted():
                self._done.release()
            else:
                result, error_left = self._result, self._error
                self._result = self._error = None
                self._leave(result, error_left)
        finally:
            _running.discard(self)
            _gate.end_thread()

    def _is_wanted(self) -> bool:
        try:
            self._claim.pop()
        except IndexError:
            return False
        return True


def is_possible() -> bool:
    """Not under gevent or eventlet, whose greenlets wait in the driver; not at the end of the interpreter."""
    return not _is_ending and _waiting.cooperative_sleep() is None


def _after_fork_in_child() -> None:
    global _running
    _graveyard.append(_running)
    _running = set()


def _before_exit() -> None:
    global _is_ending
    _is_ending = True
    sleep = original("time", "sleep")
    end = time.monotonic() + _EXIT_SECONDS
    while _running and time.monotonic() < end:
        sleep(0.002)
    if _running:
        _lib.exit_without_handlers()


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_before_exit)
