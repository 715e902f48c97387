"""Waits that stay awake: for signals on the main thread, for the other greenlets under gevent and eventlet.

Python runs signal handlers on the main thread only, between two calls; so a wait there is cut into slices. The place
in the queue belongs to the ticket and is kept from slice to slice.
"""

from __future__ import annotations

import re
import sys
import threading
import time
from typing import Any, Callable

from . import _lib
from .errors import Canceled, ConnectError, Error, PoolTimeout
from .loan import Loan

SLICE_MS = 100
FIRST_SLEEP, LONGEST_SLEEP = 0.001, 0.02
# In an error of the library, before the numbers of connections.
_WAITED = re.compile(r" within \d+ ms(?= \(\d+ in use, )")

Sleep = Callable[[float], object]
GetWait = Callable[[int, int, int], Any]


def cooperative_sleep() -> Sleep | None:
    """The sleep of gevent or eventlet, where that has replaced the one of the standard library; else None."""
    monkey = sys.modules.get("gevent.monkey")
    if monkey is not None and (monkey.is_module_patched("time") or monkey.is_module_patched("threading")):
        return _sleep_of("gevent")
    return _sleep_of("eventlet") if is_eventlet_at_work() else None


def is_eventlet_at_work() -> bool:
    """Whether it has replaced parts of the standard library."""
    patcher = sys.modules.get("eventlet.patcher")
    return patcher is not None and (patcher.is_monkey_patched("time") or patcher.is_monkey_patched("thread"))


def _sleep_of(module: str) -> Sleep:
    sleep: Sleep = sys.modules[module].sleep
    return sleep


def on_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def may_block() -> bool:
    """Neither signal handlers nor greenlets need this thread: one call that waits to the end will do."""
    return cooperative_sleep() is None and not on_main_thread()


def borrow(handle: int, timeout_ms: int) -> Loan:
    """Waits in the pool's queue. Whatever ends it, a connection granted meanwhile is not lost."""
    loan: Loan = borrow_by(_lib.granted, handle, timeout_ms)
    return loan


def borrow_by(get_wait: GetWait, handle: int, timeout_ms: int) -> Any:
    """As `borrow`, for another declaration of pool_get_wait() with a result of its own."""
    ticket = _lib.Ticket()
    try:
        _lib.start(handle, timeout_ms, ticket)
        return _collect(handle, ticket.value, get_wait)
    except BaseException:
        if ticket.value:
            _lib.get_cancel(handle, ticket.value)  # refused when the ticket has ended
        raise


def _collect(handle: int, ticket: int, get_wait: GetWait) -> Any:
    sleep = cooperative_sleep()
    if sleep is not None:
        return _collect_between_sleeps(handle, ticket, get_wait, sleep)
    wait_ms = SLICE_MS if on_main_thread() else _lib.TIMEOUT_INFINITE
    while True:
        loan = get_wait(handle, ticket, wait_ms)
        if loan is not None:
            return loan


def _collect_between_sleeps(handle: int, ticket: int, get_wait: GetWait, sleep: Sleep) -> Any:
    pause = FIRST_SLEEP
    while True:
        loan = get_wait(handle, ticket, 0)
        if loan is not None:
            return loan
        sleep(pause)
        pause = min(2 * pause, LONGEST_SLEEP)


def until(call: Callable[[int, int], object], handle: int, timeout_ms: int) -> None:
    """A blocking call `(handle, timeout_ms)` that may be repeated."""
    sleep = cooperative_sleep()
    if sleep is None and not on_main_thread():
        call(handle, timeout_ms)
        return
    longest_ms = SLICE_MS if sleep is None else 1
    infinite = timeout_ms == _lib.TIMEOUT_INFINITE
    began = time.monotonic()
    deadline = began + timeout_ms / 1000
    pause = FIRST_SLEEP
    while True:
        started = time.monotonic()
        left_ms = longest_ms if infinite else max(0, round((deadline - started) * 1000))
        slice_ms = min(longest_ms, left_ms)
        try:
            call(handle, slice_ms)
            return
        except (PoolTimeout, ConnectError) as error:
            # A connect error before the end of the slice will not go away.
            early = isinstance(error, ConnectError) and time.monotonic() - started < 0.5 * slice_ms / 1000
            if early or (left_ms <= longest_ms and not infinite):
                waited_ms = round((time.monotonic() - began) * 1000)
                _tell_whole_wait(error, waited_ms if infinite else min(waited_ms, timeout_ms))
                raise
        if sleep is not None:
            sleep(pause)
            pause = min(2 * pause, LONGEST_SLEEP)


def _tell_whole_wait(error: Error, waited_ms: int) -> None:
    """The library knows of the last slice alone."""
    error.args = (_WAITED.sub(f" within {waited_ms} ms", str(error), count=1),)


def drained(handle: int, timeout_ms: int) -> None:
    """Drains once, however many slices the wait has: a resume() meanwhile is not undone."""
    is_first = True

    def call(handle: int, slice_ms: int) -> None:
        nonlocal is_first
        if not is_first and not _lib.read_stats(handle).paused:
            raise _lib.local_failure(Canceled, "resume() ended the drain")
        is_first = False
        _lib.drain(handle, slice_ms)

    until(call, handle, timeout_ms)
