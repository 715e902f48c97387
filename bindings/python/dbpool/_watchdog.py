"""Ends what a driver waits for without a limit of its own: a query on a server that gives no answer.

Drivers cannot be interrupted, but their sockets can be shut down: then what they wait for fails, as if the server had
gone. One thread does that for the process, a real one as that of `_collector`. Watching costs a dict entry; the thread
is woken when a deadline comes before the one that it sleeps for.
"""

from __future__ import annotations

import _socket
import contextlib
import itertools
import math
import os
import time
from typing import Any

from . import _process
from ._collector import original

# By key: (deadline, descriptor, number of its socket). Who takes an entry out decides: in time, or too late.
_watched: dict[int, tuple[float, int, int]] = {}
_next_key = itertools.count(1).__next__
_wakes_at = math.inf
_wake: Any = None
_pid_of_thread = 0


Socket = tuple[int, int]


def socket_of(connection: Any) -> Socket | None:
    """Its descriptor, and the number by which the system knows what that is; None of a closed connection. Lets other
    threads have the interpreter, which is what makes it dear: a driver's own connections keep their socket for life."""
    try:
        descriptor = connection.fileno()
        return descriptor, os.fstat(descriptor).st_ino
    except Exception:
        return None


class Limit:
    """From `start` to `stop` the connection's socket is shut down after so many seconds. `socket`: where the caller
    knows it already."""

    __slots__ = ("_connection", "_key", "_seconds", "_socket")

    def __init__(self, connection: Any, seconds: float, socket: Socket | None = None) -> None:
        self._connection = connection
        self._seconds = seconds
        self._socket = socket
        self._key = 0

    def start(self) -> None:
        """Again: nothing. A connection without a socket needs none."""
        if self._key:
            return
        socket = self._socket or socket_of(self._connection)
        if socket is None:
            return  # closed: what is to be limited fails at once
        deadline = time.monotonic() + self._seconds
        # Before it is watched: should a signal handler raise here, the entry does not stay.
        self._key = _next_key()
        try:
            _watched[self._key] = deadline, *socket
            if deadline < _wakes_at:
                _wake_thread()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> bool:
        """Whether it was in time. Otherwise the connection is of no use any more."""
        return not self._key or _watched.pop(self._key, None) is not None

    def __enter__(self) -> Limit:
        try:
            self.start()
            return self
        except BaseException:
            self.stop()
            raise

    def __exit__(self, *_: object) -> None:
        self.stop()


def _wake_thread() -> None:
    global _pid_of_thread, _wake
    if _pid_of_thread == _process.pid:
        with contextlib.suppress(RuntimeError):  # it is awake
            _wake.release()
        return
    _wake = original("_thread", "allocate_lock")()
    _pid_of_thread = _process.pid
    try:
        original("_thread", "start_new_thread")(_run, (_wake,))
    except RuntimeError:
        _pid_of_thread = 0  # the system has no thread to give: the next one may have


def _run(wake: Any) -> None:
    global _pid_of_thread, _wakes_at
    try:
        while True:
            _wakes_at = math.inf  # from here on every new entry wakes it
            next_deadline = _end_late_ones()
            _wakes_at = next_deadline
            wait = -1 if next_deadline == math.inf else min(max(0.0, next_deadline - time.monotonic()), 3600.0)
            wake.acquire(True, wait)
    finally:
        _pid_of_thread = 0  # an error, which Python reports: the next entry starts another thread


def _end_late_ones() -> float:
    """The next deadline."""
    now = time.monotonic()
    following = math.inf
    for key, (deadline, descriptor, number) in list(_watched.items()):
        if deadline > now:
            following = min(following, deadline)
        elif _watched.pop(key, None) is not None:
            _shut_down(descriptor, number)
    return following


def _shut_down(descriptor: int, number: int) -> None:
    """The driver may have closed it meanwhile, and its number be another file's: a duplicate stays what it is."""
    try:
        copy = os.dup(descriptor)
    except OSError:
        return
    try:
        end = _socket.socket(fileno=copy)
    except OSError:
        os.close(copy)
        return
    try:
        if os.fstat(copy).st_ino == number:
            end.shutdown(_socket.SHUT_RDWR)
    except OSError:
        return  # its connection has ended by itself
    finally:
        end.close()


def _after_fork_in_child() -> None:
    global _wakes_at, _pid_of_thread
    _watched.clear()
    _wakes_at = math.inf
    _pid_of_thread = 0


os.register_at_fork(after_in_child=_after_fork_in_child)
