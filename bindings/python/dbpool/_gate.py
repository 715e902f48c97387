"""A fork waits for our threads that are inside a driver's libpq.

OpenSSL takes locks there, and when a thread ends that has used it. A child that inherits one taken waits for ever at
its own first connect. So a fork waits until no thread of ours is inside, and a thread that wants to go in waits until
no fork is under way; under Python's lock one of the two sees the other: each first says that it is there, then looks.
The wait of a fork is bounded, as a server may give no answer. Threads that many forks in a row have kept waiting are
let in between two of them. The library does the same for its own threads. Threads of the host that use the driver are
the host's.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from . import _waiting
from ._collector import original

SECONDS = 0.5
_PATIENCE = 0.05
_NAP = 0.001

_forks: list[None] = []  # under way
_inside: set[int] = set()  # threads, by their number in the system
_ending: set[int] = set()  # the same, of which one that has ended is found gone
_overdue: list[None] = []


@contextmanager
def inside() -> Iterator[None]:
    """Around calls of a driver that connect or close. Under gevent and eventlet nothing waits: their greenlets are one
    thread, which does not fork meanwhile unless it is in one of them."""
    if _waiting.cooperative_sleep() is not None:
        yield
        return
    thread = original("_thread", "get_native_id")()
    try:
        _enter(_inside, thread)
        yield
    finally:
        _inside.discard(thread)


def end_thread() -> None:
    """The last of a thread that has been inside: it ends at once after this."""
    if len(_ending) > 16:
        _is_over(_ending)
    _enter(_ending, original("_thread", "get_native_id")())


def _enter(threads: set[int], thread: int) -> None:
    threads.add(thread)
    if not _forks:
        return
    began = time.monotonic()
    is_overdue = False
    try:
        while _forks:
            threads.discard(thread)
            if not is_overdue and time.monotonic() - began > _PATIENCE:
                is_overdue = True
                _overdue.append(None)
            _nap()
            threads.add(thread)
    finally:
        if is_overdue and _overdue:
            _overdue.pop()


def _before_fork() -> None:
    end = time.monotonic() + SECONDS
    own = original("_thread", "get_native_id")()
    _wait(lambda: not _overdue, end)
    _forks.append(None)
    _wait(lambda: _inside <= {own} and _is_over(_ending), end)


def _wait(is_done: Callable[[], bool], end: float) -> None:
    while not is_done() and time.monotonic() < end:
        _nap()


def _is_over(threads: set[int]) -> bool:
    """Forgets those that have ended."""
    for thread in list(threads):
        if not os.path.exists(f"/proc/self/task/{thread}"):
            threads.discard(thread)
    return not threads


def _nap() -> None:
    original("time", "sleep")(_NAP)


def _after_fork_in_parent() -> None:
    if _forks:
        _forks.pop()


def _after_fork_in_child() -> None:
    for found in (_forks, _inside, _ending, _overdue):
        found.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
