"""A limit for logins of green psycopg2: where it has a wait callback (gevent with psycogreen, eventlet), it leaves
connect_timeout to that, and none keeps to it.

Callbacks wait for the socket, then call the connection's `poll`, until all is done. So `poll` is where a login looks at
the clock, and sees which socket libpq has come to; the watchdog shuts that down in time, which every way to wait for it
notices. libpq goes on to the next address where one took no connection; one that said nothing ends the attempt.
To wrap the callback would not do: it is one for the process, the user's to replace, and would still wait inside.
"""

from __future__ import annotations

import functools
import math
import time
from typing import Any, Callable

import psycopg2
from psycopg2 import extensions

from . import _connecting
from ._watchdog import Limit, Socket, socket_of


class _Login:
    """The time of one login: each socket has connect_timeout, all together what ends at `end`."""

    __slots__ = ("_end", "_limit", "_socket", "is_late")

    def __init__(self, end: float) -> None:
        self._end = end
        self._socket: Socket | None = None
        self._limit: Limit | None = None
        # Whether a time was over, be it that of an address before.
        self.is_late = False

    def check(self) -> None:
        """Raises at the end: libpq would go on to the next address."""
        if time.monotonic() >= self._end:
            self.is_late = True
            raise psycopg2.OperationalError("no answer")

    def watch(self, connection: Any) -> None:
        """The socket that it has by now."""
        socket = socket_of(connection)
        if socket in (None, self._socket):
            return
        self.stop()
        seconds = _connecting.connect_timeout(connection.info.dsn_parameters, math.inf)
        limit = Limit(connection, min(seconds, max(0.0, self._end - time.monotonic())), socket)
        self._socket, self._limit = socket, limit
        limit.start()

    def stop(self) -> bool:
        """Whether the last socket was in time."""
        limit, self._limit = self._limit, None
        is_in_time = limit is None or limit.stop()
        self.is_late = self.is_late or not is_in_time
        return is_in_time


@functools.cache
def limited_class(base: Any) -> Any:
    """A class of connections whose login can be limited."""

    class LimitedConnection(base):  # type: ignore[misc]
        __slots__ = ("_login",)

        def poll(self) -> Any:
            login = getattr(self, "_login", None)
            if login is None:
                return super().poll()
            login.check()
            state = super().poll()
            login.watch(self)
            return state

    LimitedConnection.__qualname__ = LimitedConnection.__name__
    return LimitedConnection


def factory(kind: Any, seconds: float | None) -> Callable[..., Any]:
    """For psycopg2.connect: connections of `kind`, a `limited_class`, whose login ends within connect_timeout for each
    address, and within `seconds` from now on."""
    began = time.monotonic()
    end = math.inf if seconds is None else began + seconds

    def connection_factory(*args: Any, **kwargs: Any) -> Any:
        connection = kind.__new__(kind, *args, **kwargs)
        connection._login = login = _Login(end)
        try:
            kind.__init__(connection, *args, **kwargs)
            if not login.stop():
                raise psycopg2.OperationalError("no answer")
        except psycopg2.Error as error:
            login.stop()
            if not login.is_late:
                raise
            took = time.monotonic() - began
            raise psycopg2.OperationalError(f"timeout expired after {took:.3g} s: {str(error).strip()}") from None
        finally:
            login.stop()
            connection._login = None
        return connection

    return connection_factory


def limited(args: tuple[Any, ...], kwargs: dict[str, Any], seconds: float | None) -> tuple[Any, ...]:
    """The arguments of psycopg2.connect, for a limited login; `kwargs` is changed. A connection_factory that is no
    class is left as it is, without a limit."""
    kind = (args[1] if len(args) > 1 else kwargs.get("connection_factory")) or extensions.connection
    if not isinstance(kind, type) or not issubclass(kind, extensions.connection):
        return args
    base: Any = kind
    made = factory(limited_class(base), seconds)
    if len(args) > 1:
        return _connecting.Arguments((args[0], made, *args[2:]))
    kwargs["connection_factory"] = made
    return args


def is_green() -> bool:
    """Whether psycopg2 has a wait callback."""
    return extensions.get_wait_callback() is not None
