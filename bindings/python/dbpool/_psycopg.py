"""A pool of psycopg (3) connections."""

from __future__ import annotations

import functools
from typing import Any, Callable, NamedTuple

import psycopg
from psycopg import conninfo, pq
from psycopg.adapt import AdaptersMap

from . import _connecting, _driver_errors, _gate, errors
from ._hosted import Opening
from ._refusing import is_refusing
from ._sessions import UNKNOWN, Session, SessionPool, cancelling, notice, watch_cursor
from ._values import Duration
from ._watchdog import Limit

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


# What nobody waits for any more may take so long.
_CONFIGURE_SECONDS = 30.0


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

        def cancel(self, *args: Any, **kwargs: Any) -> None:
            cancelling(self, super().cancel, *args, **kwargs)

        def cancel_safe(self, *args: Any, **kwargs: Any) -> None:  # since psycopg 3.2
            cancelling(self, super().cancel_safe, *args, **kwargs)

        def wait(self, *args: Any, **kwargs: Any) -> Any:
            """All that talks to the server goes through it, whatever the class of the cursor."""
            try:
                return super().wait(*args, **kwargs)
            except psycopg.Error as error:
                notice(self, error, error.sqlstate)
                raise

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
    # psycopg's own, which calls the above.
    notice_handler: Any
    notify_handler: Any
    # Others are a borrower's, unless the class is a user's, who may add to them.
    attributes: frozenset[str]


class _Driver:
    """psycopg as a pool needs it. The arguments of connect, with the password, are in no attribute."""

    transient = psycopg.OperationalError
    error = psycopg.Error
    interface_error = psycopg.InterfaceError
    status_when_lent = None
    failure = staticmethod(failure)
    sqlstate = staticmethod(sqlstate)
    connects_in_caller = False

    def __init__(
        self, kwargs: dict[str, Any], configure: Callable[[Any], object] | None, autocommit: bool | None
    ) -> None:
        arguments = _connecting.Parameters(kwargs)
        base = arguments.pop("connection_class", None) or psycopg.Connection
        if not isinstance(base, type) or not issubclass(base, psycopg.Connection):
            raise InvalidArgument("connection_class: must be a subclass of psycopg.Connection")
        lent: Any = base
        self.lent = _lent_class(lent)
        self._is_plain = base is psycopg.Connection
        self.configure, self.autocommit = configure, autocommit
        self._open, self._redacted, self.usual_seconds = _connecting.prepare(arguments, conninfo.conninfo_to_dict)

    def connect(self, seconds: float | None) -> Any:
        connection = self._open(self.lent.connect, seconds)
        try:
            if self.configure is not None:
                with Limit(connection, _CONFIGURE_SECONDS if seconds is None else max(1.0, seconds)):
                    self._configure(connection, self.configure)
            if self.autocommit is not None:
                connection.autocommit = self.autocommit
            connection._session.state = _state(connection)
        except BaseException:
            self.close(connection)
            raise
        return connection

    def connect_here(self, opening: Opening) -> Any:
        return self.connect(opening.seconds_left())

    def feed(self, token: Any, connection: Any) -> None:
        """Nothing is kept but the connection."""

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
        with _gate.calling():
            psycopg.Connection.close(connection)

    def is_lost(self, connection: Any) -> bool:
        return bool(connection.broken)

    def message(self, error: Exception) -> str | None:
        return self._redacted(str(error).strip()) if isinstance(error, psycopg.OperationalError) else None

    def status(self, connection: Any) -> int:
        pgconn = connection.pgconn
        if connection._num_transactions or connection._pipeline is not None or connection._tpc is not None:
            return UNKNOWN
        if connection.lock.locked():  # by another thread or an unfinished notifies(), perhaps for ever
            return UNKNOWN
        if pgconn.pipeline_status:
            return UNKNOWN
        return int(pgconn.transaction_status)

    def restore(self, connection: Any, state: _State, seconds: float) -> bool:  # noqa: ARG002 - it asks no server
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
        connection.pgconn.notice_handler = state.notice_handler
        connection.pgconn.notify_handler = state.notify_handler
        connection.pgconn.untrace()
        if self._is_plain and len(vars(connection)) > len(state.attributes):
            for name in vars(connection).keys() - state.attributes:
                delattr(connection, name)
        backlog = getattr(connection, "_notifies_backlog", None)
        if backlog:
            backlog.clear()
        return True

    def recover(self, connection: Any, state: _State) -> None:
        """psycopg relies on nothing that it set: it goes by what the server reports."""

    def run(self, connection: Any, sql: str) -> None:
        autocommit = connection.autocommit
        if not autocommit:
            connection.autocommit = True
        _forget_statement(connection, sql)
        with psycopg.Cursor(connection) as cursor:
            cursor.execute(sql, prepare=False)
        if not autocommit:
            connection.autocommit = False

    def parameter(self, connection: Any, name: str) -> str | None:
        reported: bytes | None = connection.pgconn.parameter_status(name.encode())
        return None if reported is None else reported.decode()


def _forget_statement(connection: Any, sql: str) -> None:
    """psycopg looks at what a command did to its prepared statements (DISCARD ALL) only when it has not counted the
    same text before."""
    counts = getattr(getattr(connection, "_prepared", None), "_counts", None) or {}
    for key in [key for key in counts if key[0] == sql.encode()]:
        del counts[key]


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
        connection.pgconn.notice_handler,
        connection.pgconn.notify_handler,
        frozenset(vars(connection)),
    )


class PsycopgPool(SessionPool):
    """A pool of psycopg connections: see `getconn` and `putconn`.

    Args:
        kwargs: those of psycopg.connect, and `connection_class`. Keepalives, tcp_user_timeout and connect_timeout have
            the defaults of dbpool.Pool where neither these nor the conninfo name them. A connect runs on a thread of
            its own, with the context variables of its getconn; when that gives up, what comes of it is the pool's.
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

    The connections are psycopg's own, of a subclass of connection_class. Their attribute `_pool` is the pool while they
    are lent. In the pool they refuse use; so do the cursors of a loan that has ended.
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
