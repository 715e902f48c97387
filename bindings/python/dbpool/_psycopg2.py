"""A pool of psycopg2 connections."""

from __future__ import annotations

import contextlib
import functools
import operator
from typing import Any, Callable, NamedTuple

import psycopg2
from psycopg2 import extensions

from . import _connecting, _driver_errors, _gate, _green, errors
from ._driver import CLOSED_BY_OTHERS
from ._hosted import Opening
from ._refusing import is_refusing
from ._sessions import UNKNOWN, Session, SessionPool, cancelling, notice, watch_cursor
from ._values import Duration
from ._watchdog import Limit

_ERRORS = _driver_errors.subclasses(__name__, psycopg2)
PoolTimeout = _ERRORS[errors.PoolTimeout]
ConnectError = _ERRORS[errors.ConnectError]
TooManyWaiting = _ERRORS[errors.TooManyWaiting]
PoolPaused = _ERRORS[errors.PoolPaused]
PoolClosed = _ERRORS[errors.PoolClosed]
NotLeased = _ERRORS[errors.NotLeased]
ForeignConnection = _ERRORS[errors.ForeignConnection]
InvalidArgument = _ERRORS[errors.InvalidArgument]

# What nobody waits for any more may take so long.
_CONFIGURE_SECONDS = 30.0
# Closing sends some bytes, for which there may be no room.
_CLOSE_SECONDS = 0.2

_USABLE = (extensions.STATUS_READY, extensions.STATUS_BEGIN)


def failure(error: errors.Error) -> Exception:
    """An error of the pool as psycopg2's own subclass, with `code`."""
    return _driver_errors.translated(error, _ERRORS)


def sqlstate(error: BaseException) -> str | None:
    """Of a connect that failed, from the server's words: psycopg2 tells nothing else."""
    return _driver_errors.sqlstate(str(error)) if isinstance(error, psycopg2.OperationalError) else None


# What sends a borrower's SQL.
_SENDING = ("execute", "executemany", "callproc", "copy_from", "copy_to", "copy_expert")


def _noticing(base: Any, name: str) -> Any:
    send = getattr(base, name)

    @functools.wraps(send)
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        try:
            return send(self, *args, **kwargs)
        except psycopg2.Error as error:
            notice(self.connection, error, error.pgcode)
            raise

    return method


@functools.cache
def _noticing_class(base: Any, name: str) -> Any:
    """A cursor class that tells the pool of errors. Of the same layout: a cursor's class can be changed for it, and
    once more when its loan ends."""
    methods = {method: _noticing(base, method) for method in _SENDING}
    return type(name, (base,), {**methods, "__slots__": (), "__module__": base.__module__, "__doc__": base.__doc__})


PooledCursor = _noticing_class(extensions.cursor, "PooledCursor")


def _watch_errors(cursor: Any) -> None:
    """Of psycopg2's other cursors. Classes of a user's own stay what they are: their methods may rely on it."""
    kind: Any = type(cursor)
    if kind.__module__ == "psycopg2.extras":
        cursor.__class__ = _noticing_class(kind, kind.__name__)


@functools.cache
def _lent_class(base: Any) -> Any:
    is_plain = base.cursor is extensions.connection.cursor

    class PooledConnection(_green.limited_class(base)):  # type: ignore[misc]
        # Attributes of its own only where the base has them: those of a borrower are not to stay.
        __slots__ = ("_pool", "_session")

        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._pool = None
            self._session = Session()
            super().__init__(*args, **kwargs)

        def cursor(self, *args: Any, **kwargs: Any) -> Any:
            name = args[0] if args else kwargs.get("name")
            given = args[1] if len(args) > 1 else kwargs.get("cursor_factory")
            if is_plain and (given or self.cursor_factory or extensions.cursor) is extensions.cursor:
                if len(args) > 1:
                    args = (args[0], PooledCursor, *args[2:])
                else:
                    kwargs["cursor_factory"] = PooledCursor
            cursor = super().cursor(*args, **kwargs)
            if type(cursor) is not PooledCursor:
                _watch_errors(cursor)
            watch_cursor(self, cursor, name is not None)
            return cursor

        def cancel(self) -> None:
            cancelling(self, super().cancel)

    PooledConnection.__qualname__ = PooledConnection.__name__
    return PooledConnection


# In this order: with autocommit on, psycopg2 tells the server of the others.
_SETTINGS = ("isolation_level", "readonly", "deferrable", "autocommit", "cursor_factory")
_settings = operator.attrgetter(*_SETTINGS)
# The first three, where they are psycopg2's own defaults: then turning autocommit on or off asks no server.
_TOLD, _DEFAULTS = 3, (None, None, None)


# What psycopg2 told the session and relies on: it reads dates in ISO style alone, which it sets when it connects, and
# texts in the encoding that it believes to be set.
_RELIED_ON = ("DateStyle", "client_encoding")


def _reported(connection: Any) -> tuple[str | None, ...]:
    return tuple(map(connection.get_parameter_status, _RELIED_ON))


class _State(NamedTuple):
    """What a borrower can change at the client's end."""

    settings: tuple[Any, ...]
    encoding: str
    string_types: dict[Any, Any]
    binary_types: dict[Any, Any]
    # As the server has reported it.
    session: tuple[str | None, ...]

    @classmethod
    def of(cls, connection: Any) -> _State:
        types = dict(connection.string_types), dict(connection.binary_types)
        return cls(_settings(connection), connection.encoding, *types, _reported(connection))


class _Driver:
    """psycopg2 as a pool needs it. The arguments of connect, with the password, are in no attribute."""

    transient = psycopg2.OperationalError
    error = psycopg2.Error
    interface_error = psycopg2.InterfaceError
    # A large object talks to the server past its connection's methods.
    status_when_lent = staticmethod(extensions.connection.get_transaction_status)
    failure = staticmethod(failure)
    sqlstate = staticmethod(sqlstate)

    def __init__(
        self, kwargs: dict[str, Any], configure: Callable[[Any], object] | None, autocommit: bool | None
    ) -> None:
        arguments = _connecting.Parameters(kwargs)
        base = arguments.pop("connection_factory", None) or extensions.connection
        if not isinstance(base, type) or not issubclass(base, extensions.connection):
            raise InvalidArgument("connection_factory: must be a subclass of psycopg2.extensions.connection")
        if arguments.get("async") or arguments.get("async_"):
            raise InvalidArgument("async: an asynchronous connection cannot be pooled")
        lent: Any = base
        self.lent = _lent_class(lent)
        self.configure, self.autocommit = configure, autocommit
        self._open, self._redacted, self.usual_seconds = _connecting.prepare(arguments, extensions.parse_dsn)

    @property
    def connects_in_caller(self) -> bool:
        """What waits in the place of psycopg2 may rely on the thread."""
        return _green.is_green()

    def connect(self, seconds: float | None) -> Any:
        factory = _green.factory(self.lent, seconds) if _green.is_green() else self.lent
        try:
            connection = self._open(psycopg2.connect, seconds, connection_factory=factory)
        except UnicodeDecodeError as error:  # the server's words in another encoding, or no server's at all
            raise psycopg2.OperationalError(error.object.decode(errors="replace")) from error
        try:
            if connection.async_:
                raise InvalidArgument("async: an asynchronous connection cannot be pooled")
            if self.configure is not None:
                with Limit(connection, _CONFIGURE_SECONDS if seconds is None else max(1.0, seconds)):
                    self._configure(connection, self.configure)
            elif self.autocommit is not None:
                connection.autocommit = self.autocommit
            connection._session.state = _State.of(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def connect_here(self, opening: Opening) -> Any:
        return self.connect(opening.seconds_left())

    def feed(self, token: Any, connection: Any) -> None:
        """Nothing is kept but the connection."""

    def _configure(self, connection: Any, configure: Callable[[Any], object]) -> None:
        autocommit = connection.autocommit if self.autocommit is None else self.autocommit
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
        with contextlib.suppress(psycopg2.Error), Limit(connection, _CLOSE_SECONDS), _gate.calling():
            extensions.connection.close(connection)  # with an error it is closed, too

    def is_lost(self, connection: Any) -> bool:
        return bool(connection.closed == CLOSED_BY_OTHERS)

    def message(self, error: Exception) -> str | None:
        return self._redacted(str(error).strip()) if isinstance(error, psycopg2.OperationalError) else None

    def parameter(self, connection: Any, name: str) -> str | None:
        reported: str | None = connection.get_parameter_status(name)
        return reported

    def status(self, connection: Any) -> int:
        if connection.status not in _USABLE:
            return UNKNOWN
        number: int = connection.get_transaction_status()
        return number

    def restore(self, connection: Any, state: _State, seconds: float) -> bool:
        settings, is_encoded = _settings(connection), connection.encoding == state.encoding
        if is_encoded and settings[:_TOLD] == state.settings[:_TOLD] == _DEFAULTS:
            if settings != state.settings:
                _restore_settings(connection, state)
        elif not is_encoded or settings != state.settings:
            limit = connection._session.limit(connection, seconds)
            limit.start()
            try:
                _restore_settings(connection, state)
            finally:
                is_in_time = limit.stop()
            if not is_in_time:
                return False
        _restore_types(connection.string_types, state.string_types)
        _restore_types(connection.binary_types, state.binary_types)
        if connection.notices:
            connection.notices = []
        if connection.notifies:
            connection.notifies = []
        return True

    def recover(self, connection: Any, state: _State) -> None:
        _tell_again(connection, state)
        told = zip(_RELIED_ON, state.session, _reported(connection))
        lost = [f"set_config('{name}', '{wanted}', false)" for name, wanted, now in told if wanted not in (None, now)]
        if lost:
            self.run(connection, f"SELECT {', '.join(lost)}")

    def run(self, connection: Any, sql: str) -> None:
        autocommit = connection.autocommit
        if not autocommit:
            connection.autocommit = True
        cursor = extensions.cursor(connection)
        cursor.execute(sql)
        cursor.close()
        if not autocommit:
            connection.autocommit = False


def _restore_settings(connection: Any, state: _State) -> None:
    was_on = connection.autocommit
    for name, wanted in zip(_SETTINGS, state.settings):
        if getattr(connection, name) != wanted:
            setattr(connection, name, wanted)
    if not was_on:
        _tell_again(connection, state)
    if connection.encoding != state.encoding:
        connection.set_client_encoding(state.encoding)


def _tell_again(connection: Any, state: _State) -> None:
    """With autocommit the session has to know of them, and psycopg2 tells it only when they change."""
    if connection.autocommit and state.settings[:_TOLD] != _DEFAULTS:
        for name, wanted in zip(_SETTINGS[:_TOLD], state.settings):
            setattr(connection, name, None)
            setattr(connection, name, wanted)


def _restore_types(types: dict[Any, Any], wanted: dict[Any, Any]) -> None:
    if types != wanted:
        types.clear()
        types.update(wanted)


class Psycopg2Pool(SessionPool):
    """A pool of psycopg2 connections: see `getconn` and `putconn`.

    Args:
        kwargs: those of psycopg2.connect. Keepalives, tcp_user_timeout and connect_timeout have the defaults of
            dbpool.Pool where neither these nor the dsn name them. A connect runs on a thread of its own, with the
            context variables of its getconn; when that gives up, what comes of it is the pool's.
        configure: called with each new connection before it is first lent, in autocommit mode, on the thread that
            connects; to be left out of any transaction, within 30 seconds. The state that it leaves is the one that
            every borrower gets.
        autocommit: whether borrowers start in autocommit mode; None = as connect leaves it.
        test_query: executed at each getconn; a connection that fails is closed, and the next one tried.
        reset: what a putconn does beyond a rollback of an open transaction: "rollback" nothing; "discard_all" DISCARD
            ALL; or any SQL.
        name: in errors and logs.
        min_size: idle connections down to this number stay open.
        max_size: connections at most, per process.
        timeout: how long a getconn may take, waiting, connecting and testing; 0 = it does not wait, and its connect may
            take connect_timeout; None = without end. So long a putconn may take for its reset, but 1 second at least
            and 5 at most: then the connection is closed.
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
        autocommit: bool | None = None,
        test_query: str | None = None,
        reset: str = "rollback",
        name: str | None = None,
        min_size: int = 0,
        max_size: int = 10,
        timeout: Duration | None = 30,
        max_lifetime: Duration | None = 1800,
        max_idle: Duration | None = 600,
    ) -> None:
        kwargs = _connecting.Parameters(kwargs)  # also for a traceback that shows the variables of this frame
        super().__init__(
            _Driver(kwargs, configure, autocommit),
            test_query=test_query,
            reset=reset,
            name=name,
            min_size=min_size,
            max_size=max_size,
            timeout=timeout,
            max_lifetime=max_lifetime,
            max_idle=max_idle,
        )
