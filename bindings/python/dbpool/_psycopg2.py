"""A pool of psycopg2 connections."""

from __future__ import annotations

import contextlib
import functools
import operator
from typing import Any, Callable, NamedTuple

import psycopg2
from psycopg2 import extensions

from . import _connecting, _driver_errors, errors
from ._refusing import is_refusing
from ._sessions import UNKNOWN, Session, SessionPool, watch_cursor
from ._values import Duration

_ERRORS = _driver_errors.subclasses(__name__, psycopg2)
PoolTimeout = _ERRORS[errors.PoolTimeout]
ConnectError = _ERRORS[errors.ConnectError]
TooManyWaiting = _ERRORS[errors.TooManyWaiting]
PoolPaused = _ERRORS[errors.PoolPaused]
PoolClosed = _ERRORS[errors.PoolClosed]
NotLeased = _ERRORS[errors.NotLeased]
ForeignConnection = _ERRORS[errors.ForeignConnection]
InvalidArgument = _ERRORS[errors.InvalidArgument]

_USABLE = (extensions.STATUS_READY, extensions.STATUS_BEGIN)


def failure(error: errors.Error) -> Exception:
    """An error of the pool as psycopg2's own subclass, with `code`."""
    return _driver_errors.translated(error, _ERRORS)


def sqlstate(error: BaseException) -> str | None:
    """Of a connect that failed, from the server's words: psycopg2 tells nothing else."""
    return _driver_errors.sqlstate(str(error)) if isinstance(error, psycopg2.OperationalError) else None


class PooledCursor(extensions.cursor):
    """psycopg2's own cursor, whose class can be changed when its loan ends."""

    __slots__ = ()


@functools.cache
def _lent_class(base: Any) -> Any:
    is_plain = base.cursor is extensions.connection.cursor

    class PooledConnection(base):  # type: ignore[misc]
        # Attributes of its own only where the base has them: those of a borrower are not to stay.
        __slots__ = ("_pool", "_session")

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._pool = None
            self._session = Session()
            super().__init__(*args, **kwargs)

        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            name = args[0] if args else kwargs.get("name")
            given = args[1] if len(args) > 1 else kwargs.get("cursor_factory")
            if is_plain and not given and (self.cursor_factory or extensions.cursor) is extensions.cursor:
                args, kwargs = args[:1], {**kwargs, "cursor_factory": PooledCursor}
            cursor = super().cursor(*args, **kwargs)
            watch_cursor(self, cursor, name is not None)
            return cursor

    PooledConnection.__qualname__ = PooledConnection.__name__
    return PooledConnection


# In this order: with autocommit on, psycopg2 tells the server of the others.
_SETTINGS = ("isolation_level", "readonly", "deferrable", "autocommit", "cursor_factory")
_settings = operator.attrgetter(*_SETTINGS)


class _State(NamedTuple):
    """What a borrower can change at the client's end."""

    settings: tuple[Any, ...]
    encoding: str
    string_types: dict[Any, Any]
    binary_types: dict[Any, Any]

    @classmethod
    def of(cls, connection: Any) -> _State:
        types = dict(connection.string_types), dict(connection.binary_types)
        return cls(_settings(connection), connection.encoding, *types)


class _Driver:
    """psycopg2 as a pool needs it. The arguments of connect, with the password, are in no attribute."""

    transient = psycopg2.OperationalError
    error = psycopg2.Error
    interface_error = psycopg2.InterfaceError
    failure = staticmethod(failure)
    sqlstate = staticmethod(sqlstate)

    def __init__(self, kwargs: dict[str, Any], configure: Callable[[Any], object] | None) -> None:
        arguments = dict(kwargs)
        base = arguments.pop("connection_factory", None) or extensions.connection
        if not isinstance(base, type) or not issubclass(base, extensions.connection):
            raise InvalidArgument("connection_factory: must be a subclass of psycopg2.extensions.connection")
        if arguments.get("async") or arguments.get("async_"):
            raise InvalidArgument("async: an asynchronous connection cannot be pooled")
        lent: Any = base
        self.lent = _lent_class(lent)
        self.configure = configure
        self._open, self._redacted = _connecting.prepare(arguments, _parsed(arguments.get("dsn")))

    def connect(self, seconds: float | None) -> Any:
        connection = self._open(psycopg2.connect, seconds, connection_factory=self.lent)
        try:
            if connection.async_:
                raise InvalidArgument("async: an asynchronous connection cannot be pooled")
            if self.configure is not None:
                self._configure(connection, self.configure)
            connection._session.state = _State.of(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def _configure(self, connection: Any, configure: Callable[[Any], object]) -> None:
        autocommit = connection.autocommit
        connection.autocommit = True
        configure(connection)
        if connection.get_transaction_status() != extensions.TRANSACTION_STATUS_IDLE:
            raise InvalidArgument("configure: has left the connection in a transaction")
        connection.autocommit = autocommit

    def fileno(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number

    def close(self, connection: Any) -> None:
        if is_refusing(connection):
            connection.__class__ = self.lent
        with contextlib.suppress(psycopg2.Error):  # then it is closed
            extensions.connection.close(connection)

    def message(self, error: Exception) -> str | None:
        return self._redacted(str(error).strip()) if isinstance(error, psycopg2.OperationalError) else None

    def status(self, connection: Any) -> int:
        if connection.status not in _USABLE:
            return UNKNOWN
        number: int = connection.get_transaction_status()
        return number

    def restore(self, connection: Any, state: _State) -> None:
        if _settings(connection) != state.settings:
            for name, wanted in zip(_SETTINGS, state.settings):
                if getattr(connection, name) != wanted:
                    setattr(connection, name, wanted)
        if connection.encoding != state.encoding:
            connection.set_client_encoding(state.encoding)
        _restore_types(connection.string_types, state.string_types)
        _restore_types(connection.binary_types, state.binary_types)
        if connection.notices:
            connection.notices = []
        if connection.notifies:
            connection.notifies = []

    def run(self, connection: Any, sql: str) -> None:
        autocommit = connection.autocommit
        if not autocommit:
            connection.autocommit = True
        cursor = extensions.cursor(connection)
        cursor.execute(sql)
        cursor.close()
        if not autocommit:
            connection.autocommit = False


def _parsed(dsn: Any) -> dict[str, Any]:
    """A text that cannot be understood is for psycopg2 to refuse, at the first connect."""
    try:
        found: dict[str, Any] = extensions.parse_dsn(dsn) if dsn else {}
    except psycopg2.Error:
        return {}
    return found


def _restore_types(types: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    if types != wanted:
        types.clear()
        types.update(wanted)


class Psycopg2Pool(SessionPool):
    """A pool of psycopg2 connections: see `getconn` and `putconn`.

    Args:
        kwargs: those of psycopg2.connect. Keepalives, tcp_user_timeout and connect_timeout have the defaults of
            dbpool.Pool where neither these nor the dsn name them; connect_timeout never exceeds what is left of a
            getconn's timeout (but is 2 seconds at least).
        configure: called with each new connection before it is first lent, in autocommit mode; to be left out of any
            transaction. The state that it leaves is the one that every borrower gets.
        test_query: executed at each getconn; a connection that fails is closed, and the next one tried.
        reset: what a putconn does beyond a rollback of an open transaction: "rollback" nothing; "discard_all" DISCARD
            ALL; or any SQL.
        name: in errors and logs.
        min_size: idle connections down to this number stay open.
        max_size: connections at most, per process.
        timeout: how long getconn waits; 0 = not at all, None = without end.
        max_lifetime: age at which a connection is replaced; 0 or None = never.
        max_idle: idle connections above min_size close after it; 0 or None = never.

    The connections are psycopg2's own, of a subclass of connection_factory. Their attribute `_pool` is the pool while
    they are lent. In the pool they refuse use; so do the cursors of a loan that has ended.
    """

    def __init__(
        self,
        kwargs: dict[str, Any],
        *,
        configure: Callable[[Any], object] | None = None,
        test_query: str | None = None,
        reset: str = "rollback",
        name: str | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: Duration | None = 30,
        max_lifetime: Duration | None = 1800,
        max_idle: Duration | None = 600,
    ) -> None:
        super().__init__(
            _Driver(kwargs, configure),
            test_query=test_query,
            reset=reset,
            name=name,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            max_lifetime=max_lifetime,
            max_idle=max_idle,
        )
