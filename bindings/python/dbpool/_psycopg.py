"""A pool of psycopg (3) connections."""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple

import psycopg
from psycopg import conninfo, pq
from psycopg.adapt import AdaptersMap

from . import _connecting, _driver_errors, errors
from ._refusing import is_refusing
from ._sessions import UNKNOWN, Session, SessionPool, watch_cursor
from ._values import Duration

_ERRORS = _driver_errors.subclasses(__name__, psycopg)
PoolTimeout = _ERRORS[errors.PoolTimeout]
ConnectError = _ERRORS[errors.ConnectError]
TooManyWaiting = _ERRORS[errors.TooManyWaiting]
PoolPaused = _ERRORS[errors.PoolPaused]
PoolClosed = _ERRORS[errors.PoolClosed]
NotLeased = _ERRORS[errors.NotLeased]
ForeignConnection = _ERRORS[errors.ForeignConnection]
InvalidArgument = _ERRORS[errors.InvalidArgument]


def failure(error: errors.Error) -> Exception:
    """An error of the pool as psycopg's own subclass, with `code`."""
    return _driver_errors.translated(error, _ERRORS)


def sqlstate(error: BaseException) -> str | None:
    """Of a connect that failed, from the server's words: psycopg tells nothing else."""
    return _driver_errors.sqlstate(str(error)) if isinstance(error, psycopg.OperationalError) else None


@functools.cache
def _lent_class(base: Any) -> Any:
    class PooledConnection(base):  # type: ignore[misc]
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            self._pool = None
            self._session = Session()
            super().__init__(*args, **kwargs)

        def cursor(self, name: str = "", **kwargs: Any) -> Any:
            cursor = super().cursor(name, **kwargs)
            watch_cursor(self, cursor, bool(name))
            return cursor

    PooledConnection.__qualname__ = PooledConnection.__name__
    return PooledConnection


class _State(NamedTuple):
    """What a borrower can change at the client's end."""

    autocommit: bool
    isolation_level: Any
    read_only: bool | None
    deferrable: bool | None
    row_factory: Any
    cursor_factory: Any
    server_cursor_factory: Any
    prepare_threshold: int | None
    prepared_max: int | None
    adapters: AdaptersMap
    notice_handlers: list[Any]
    notify_handlers: list[Any]


class _Driver:
    """psycopg as a pool needs it. The arguments of connect, with the password, are in no attribute."""

    transient = psycopg.OperationalError
    error = psycopg.Error
    interface_error = psycopg.InterfaceError
    failure = staticmethod(failure)
    sqlstate = staticmethod(sqlstate)

    def __init__(self, kwargs: dict[str, Any], configure: Callable[[Any], object] | None) -> None:
        arguments = dict(kwargs)
        base = arguments.pop("connection_class", None) or psycopg.Connection
        if not isinstance(base, type) or not issubclass(base, psycopg.Connection):
            raise InvalidArgument("connection_class: must be a subclass of psycopg.Connection")
        lent: Any = base
        self.lent = _lent_class(lent)
        self.configure = configure
        self._open, self._redacted = _connecting.prepare(arguments, _parsed(arguments.get("conninfo")))

    def connect(self, seconds: float | None) -> Any:
        connection = self._open(self.lent.connect, seconds)
        try:
            if self.configure is not None:
                self._configure(connection, self.configure)
            connection._session.state = _state(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def _configure(self, connection: Any, configure: Callable[[Any], object]) -> None:
        autocommit = connection.autocommit
        connection.autocommit = True
        configure(connection)
        if connection.pgconn.transaction_status != pq.TransactionStatus.IDLE:
            raise InvalidArgument("configure: has left the connection in a transaction")
        connection.autocommit = autocommit

    def fileno(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number

    def close(self, connection: Any) -> None:
        if is_refusing(connection):
            connection.__class__ = self.lent
        connection._pool = None
        psycopg.Connection.close(connection)

    def message(self, error: Exception) -> str | None:
        return self._redacted(str(error).strip()) if isinstance(error, psycopg.OperationalError) else None

    def status(self, connection: Any) -> int:
        pgconn = connection.pgconn
        if connection._num_transactions or connection._pipeline is not None or connection._tpc is not None:
            return UNKNOWN
        if pgconn.pipeline_status:
            return UNKNOWN
        return int(pgconn.transaction_status)

    def restore(self, connection: Any, state: _State) -> None:
        for name in ("isolation_level", "read_only", "deferrable", "autocommit"):
            wanted = getattr(state, name)
            if getattr(connection, name) != wanted:
                setattr(connection, name, wanted)
        connection.row_factory = state.row_factory
        connection.cursor_factory = state.cursor_factory
        connection.server_cursor_factory = state.server_cursor_factory
        connection.prepare_threshold = state.prepare_threshold
        connection.prepared_max = state.prepared_max
        connection._adapters = AdaptersMap(state.adapters)
        connection._notice_handlers[:] = state.notice_handlers
        connection._notify_handlers[:] = state.notify_handlers
        backlog = getattr(connection, "_notifies_backlog", None)
        if backlog:
            backlog.clear()

    def run(self, connection: Any, sql: str) -> None:
        autocommit = connection.autocommit
        if not autocommit:
            connection.autocommit = True
        with psycopg.Cursor(connection) as cursor:
            cursor.execute(sql, prepare=False)
        if not autocommit:
            connection.autocommit = False


def _parsed(text: Any) -> dict[str, Any]:
    """A text that cannot be understood is for psycopg to refuse, at the first connect."""
    try:
        return dict(conninfo.conninfo_to_dict(text)) if text else {}
    except psycopg.Error:
        return {}


def _state(connection: Any) -> _State:
    return _State(
        connection.autocommit,
        connection.isolation_level,
        connection.read_only,
        connection.deferrable,
        connection.row_factory,
        connection.cursor_factory,
        connection.server_cursor_factory,
        connection.prepare_threshold,
        connection.prepared_max,
        AdaptersMap(connection.adapters),
        list(connection._notice_handlers),
        list(connection._notify_handlers),
    )


class PsycopgPool(SessionPool):
    """A pool of psycopg connections: see `getconn` and `putconn`.

    Args:
        kwargs: those of psycopg.connect, and `connection_class`. Keepalives, tcp_user_timeout and connect_timeout have
            the defaults of dbpool.Pool where neither these nor the conninfo name them; connect_timeout never exceeds
            what is left of a getconn's timeout (but is 2 seconds at least).
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

    The connections are psycopg's own, of a subclass of connection_class. Their attribute `_pool` is the pool while they
    are lent. In the pool they refuse use; so do the cursors of a loan that has ended.
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
