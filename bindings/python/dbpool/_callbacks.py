"""Calls from the library into Python.

They arrive on the library's own threads. One function object of each kind serves all pools for the life of the
process, so that a late call never meets one that is gone; the `context` is a number, looked up here. What it stands for
is kept by its pool, so that a pool that its own callbacks refer to can be garbage; by this module once that is closed.
"""

from __future__ import annotations

import itertools
import logging
import signal
import sys
import threading
import weakref
from typing import Callable, Union

from . import _lib
from ._values import c_text
from .errors import InvalidArgument

LogCallback = Callable[[int, str], object]
ConfigureCallback = Callable[["Connection"], object]
ConninfoCallback = Callable[[], Union[str, bytes]]

_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR)
_FAILED = 1

_contexts: weakref.WeakValueDictionary[int, Callbacks] = weakref.WeakValueDictionary()
_closing: dict[int, Callbacks] = {}
_numbers = itertools.count(1)


class Connection(_lib.Pointer):
    """The address of a PGconn: an argument for ctypes functions as it is, and for others with `int(conn)`."""

    __slots__ = ()

    def __int__(self) -> int:
        return self.value or 0

    __index__ = __int__

    def __repr__(self) -> str:
        return f"<dbpool.{type(self).__name__} {int(self):#x}>"


class Callbacks:
    """The callbacks of one pool, and what they raised last."""

    def __init__(
        self,
        log: bool | logging.Logger | LogCallback | None,
        configure: ConfigureCallback | None,
        conninfo_provider: ConninfoCallback | None,
    ) -> None:
        for field, value in (("configure", configure), ("conninfo_provider", conninfo_provider)):
            if value is not None and not callable(value):
                raise TypeError(f"{field}: must be callable, not {type(value).__name__}")
        self.log = _log_function(log)
        self.configure = configure
        self.conninfo_provider = conninfo_provider
        self.raised: dict[str, BaseException] = {}
        self.number = 0
        self.is_free = False
        # Of the program: the library blocks all, and a program that a callback starts would inherit that.
        self._signals = signal.pthread_sigmask(signal.SIG_BLOCK, ())

    @property
    def needed(self) -> bool:
        return any((self.log, self.configure, self.conninfo_provider))

    def install(self, options: _lib.Options) -> None:
        """From now on the library may call; `forget` is for a pool that did not come into being."""
        self.number = next(_numbers)
        _contexts[self.number] = self
        options.context = self.number
        options.context_free = _FREE
        if self.log:
            options.log = _LOG
        if self.configure:
            options.configure = _CONFIGURE
        if self.conninfo_provider:
            options.conninfo_provider = _CONNINFO_PROVIDER

    def run(self, call: Callable[[Callbacks], None]) -> None:
        """On a thread of the library, with the signal mask of the thread that made the pool."""
        blocked = signal.pthread_sigmask(signal.SIG_SETMASK, self._signals)
        try:
            call(self)
        finally:
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)

    def forget(self) -> None:
        _contexts.pop(self.number, None)

    def keep(self) -> None:
        """Before the pool is closed: until the library has made its last call."""
        if self.number:
            _closing[self.number] = self
            if self.is_free:  # another thread has closed it
                _closing.pop(self.number, None)

    def cause_of(self, message: str) -> BaseException | None:
        """What a callback raised, if the message of a failed connect blames that callback."""
        return next((error for name, error in list(self.raised.items()) if name in message), None)


def _log_function(log: bool | logging.Logger | LogCallback | None) -> LogCallback | None:
    if log is None or log is False:
        return None
    if log is True:
        log = logging.getLogger("dbpool")
    if isinstance(log, logging.Logger):
        return log.log
    if not callable(log):
        raise TypeError(f"log: must be True, a logging.Logger or callable, not {type(log).__name__}")
    return log


def _report_unhandled() -> None:
    """Nobody called the log function, so nobody can be told but the hook for threads."""
    threading.excepthook(threading.ExceptHookArgs((*sys.exc_info(), threading.current_thread())))


def _found(context: int | None) -> Callbacks | None:
    number = context or 0
    # Of a pool that the collector takes, Python clears the weak reference before it calls the __del__ that closes it.
    return _closing.get(number) or _contexts.get(number)


def _log(context: int | None, level: int, message: bytes | None) -> None:
    def call(callbacks: Callbacks) -> None:
        if callbacks.log is not None:
            callbacks.log(_LEVELS[min(max(level, 0), 3)], _lib.text(message))

    try:
        callbacks = _found(context)
        if callbacks is not None:
            callbacks.run(call)
    except BaseException:
        _report_unhandled()


def _guarded(name: str, context: int | None, call: Callable[[Callbacks], None]) -> int:
    """An exception must not pass through C, which would read an undefined result: it becomes a code, and is kept."""
    callbacks = _found(context)
    if callbacks is None:
        return _FAILED
    try:
        callbacks.run(call)
    except BaseException as error:
        callbacks.raised[name] = error
        return _FAILED
    callbacks.raised.pop(name, None)
    return 0


def _configure(context: int | None, address: int | None) -> int:
    def call(callbacks: Callbacks) -> None:
        connection = Connection(address)
        try:
            if callbacks.configure:
                callbacks.configure(connection)
        finally:
            connection.value = None  # whoever kept it gets NULL, not a connection that is somebody else's

    return _guarded("configure", context, call)


def _conninfo_provider(context: int | None, buffer: int | None, size: int) -> int:
    def call(callbacks: Callbacks) -> None:
        if callbacks.conninfo_provider is None or buffer is None:
            return
        content = c_text(callbacks.conninfo_provider(), "conninfo_provider")
        if len(content) >= size:
            raise InvalidArgument(f"conninfo_provider: the conninfo has more than {size - 1} bytes")
        _lib.write_text(buffer, content)

    return _guarded("conninfo_provider", context, call)


def _context_free(context: int | None) -> None:
    callbacks = _found(context)
    if callbacks is not None:
        callbacks.is_free = True
    for found in (_closing, _contexts):
        found.pop(context or 0, None)


_LOG = _lib.LogFunction(_log)
_CONFIGURE = _lib.ConfigureFunction(_configure)
_CONNINFO_PROVIDER = _lib.ConninfoFunction(_conninfo_provider)
_FREE = _lib.FreeFunction(_context_free)


def any_active() -> bool:
    """Whether the library may still call into Python for a pool that is closed."""
    return bool(_closing)
