"""A fork waits for our threads that are inside a driver's libpq.

OpenSSL takes locks there, and when a thread ends that has used it. A child that inherits one taken waits for ever at
its own first connect. So a fork waits until no thread of ours is inside, and a thread that wants to go in waits until
no fork is under way; under Python's lock one of the two sees the other: each first says that it is there, then looks.
Both waits are bounded, as a server may give no answer, and as a signal handler that raises may cut short what is done
after a fork: the door that a fork closes opens by itself, unless the fork holds it. Threads that many forks in a row
have kept waiting are let in between two of them. The library does the same for its own threads. Threads of the host
that use the driver are the host's.

Python drops what a signal handler raises in the midst of a fork, here as in other hooks.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Callable

from . import _waiting
from ._collector import original

SECONDS = 0.5  # that a fork waits for who is inside
_TURN_SECONDS = 0.25  # for who is overdue
_HOLD_SECONDS = 0.1  # that the door stays closed by itself
_PATIENCE = 0.05
_END_SECONDS = 1.0  # that a thread takes for its end: its number may be another's afterwards
_NAP = 0.001

_closed_until = 0.0
_inside: set[int] = set()  # threads, by their number in the system
_ending: dict[int, float] = {}  # the same, and since when
_overdue: set[int] = set()


@contextmanager
def inside() -> Iterator[None]:
    """Around calls of a driver that connect or close, in a real thread. Within another one it does nothing."""
    thread = _own_number()
    if thread in _inside:
        yield
        return
    try:
        _enter(lambda: _inside.add(thread), lambda: _inside.discard(thread))
        yield
    finally:
        _inside.discard(thread)


@contextmanager
def calling() -> Iterator[None]:
    """The same in any thread. Under gevent and eventlet nothing waits: all greenlets are one thread."""
    if _waiting.cooperative_sleep() is not None:
        yield
        return
    with inside():
        yield


def end_thread() -> None:
    """The last of a thread that has been inside: it ends at once after this."""
    if len(_ending) > 16:
        _has_ended()
    thread = _own_number()
    _enter(lambda: _ending.__setitem__(thread, time.monotonic()), lambda: _ending.pop(thread, None))


def _own_number() -> int:
    number: int = original("_thread", "get_native_id")()
    return number


def _enter(come: Callable[[], object], go: Callable[[], object]) -> None:
    come()
    if not _is_closed():
        return
    began = time.monotonic()
    thread = _own_number()
    try:
        while _is_closed():
            go()
            if time.monotonic() - began > _PATIENCE:
                _overdue.add(thread)
            _nap()
            come()
    finally:
        _overdue.discard(thread)


def _is_closed() -> bool:
    return time.monotonic() < _closed_until


def _before_fork() -> None:
    own = _own_number()
    _wait(lambda: _overdue <= {own}, _TURN_SECONDS)
    _wait(lambda: _close_door() and _inside <= {own} and _has_ended(), SECONDS)


def _close_door() -> bool:
    global _closed_until
    _closed_until = time.monotonic() + _HOLD_SECONDS
    return True


def _wait(is_done: Callable[[], bool], seconds: float) -> None:
    end = time.monotonic() + seconds
    while not is_done() and time.monotonic() < end:
        _nap()


def _has_ended() -> bool:
    """Whether all that were about to end are gone, which are forgotten."""
    for thread, since in list(_ending.items()):
        if time.monotonic() - since > _END_SECONDS or not os.path.exists(f"/proc/self/task/{thread}"):
            _ending.pop(thread, None)
    return not _ending


def _nap() -> None:
    original("time", "sleep")(_NAP)


def _after_fork_in_parent() -> None:
    global _closed_until
    _closed_until = 0.0


def _after_fork_in_child() -> None:
    _after_fork_in_parent()
    for found in (_inside, _ending, _overdue):
        found.clear()


os.register_at_fork(before=_before_fork, after_in_parent=_after_fork_in_parent, after_in_child=_after_fork_in_child)
