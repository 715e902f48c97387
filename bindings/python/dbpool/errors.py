"""The exceptions: one class for each error code of the library."""

from __future__ import annotations


class Error(Exception):
    """Base of all errors of this package. `code` is that of the library (negative; `dbpool.h` lists them)."""

    code: int = 0

    def __init__(self, message: str = "", code: int | None = None) -> None:
        super().__init__(message)
        if code is not None:
            self.code = code


class InvalidArgument(Error, ValueError):
    """An argument, option or conninfo is wrong: the message names it."""

    code = -1


class OutOfMemory(Error, MemoryError):
    """Out of memory; nothing was lost."""

    code = -2


class PoolTimeout(Error):
    """Nothing came free in time: the connections are in use."""

    code = -3


class ConnectError(Error):
    """Nothing could be connected in time: the message has the server's words. When `configure` or
    `conninfo_provider` raised, that exception is the `__cause__`."""

    code = -4


class TooManyWaiting(Error):
    """`max_waiting` callers wait already."""

    code = -5


class PoolClosed(Error):
    """The pool is closed."""

    code = -6


class PoolPaused(Error):
    """The pool was paused until the deadline."""

    code = -7


class NotLeased(Error):
    """The connection is not borrowed: it was put back before."""

    code = -9


class ForeignConnection(Error):
    """Not a connection of this pool; it was not touched."""

    code = -10


class ForkedConnection(Error):
    """Borrowed before a fork: it belongs to the parent process."""

    code = -11


class WouldDeadlock(Error):
    """Called from a callback of the same pool, and would wait for itself."""

    code = -12


class SystemFailure(Error):
    """The system refused (threads, descriptors): the message has its reason. No `OSError`, so that a handler for
    a program's own files and sockets does not take it."""

    code = -13


class InternalError(Error):
    """A broken invariant of the library; the connection concerned was dropped."""

    code = -14


class Canceled(Error):
    """The place in the queue was taken back."""

    code = -15


BY_CODE: dict[int, type[Error]] = {
    kind.code: kind
    for kind in (
        InvalidArgument,
        OutOfMemory,
        PoolTimeout,
        ConnectError,
        TooManyWaiting,
        PoolClosed,
        PoolPaused,
        NotLeased,
        ForeignConnection,
        ForkedConnection,
        WouldDeadlock,
        SystemFailure,
        InternalError,
        Canceled,
    )
}


def from_code(code: int, message: str) -> Error:
    """The exception for a code; `Error` itself for one that this version does not know."""
    return BY_CODE.get(code, Error)(message, code)
