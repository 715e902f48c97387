"""Replaces `psycopg2.pool`: the same classes, arguments, attributes and exceptions, over the library's pool.

from dbpool import psycopg2_pool as pool  # instead of: from psycopg2 import pool
"""

from __future__ import annotations

import contextlib
import functools
import os
import threading
import time
import weakref
from collections.abc import Hashable, Iterator
from itertools import repeat
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.pool import PoolError

from . import _connecting, _driver_errors, _gate, _green, _lib, _opening, errors
from ._deadline import Deadline
from ._driver import CLOSED_BY_OTHERS
from ._hosted import SLOT, SLOT_AND_FLAGS, HostedPool, Opening
from ._stats import PoolStats
from ._values import Duration, milliseconds
from ._watchdog import Limit, Socket, socket_of

__all__ = ["AbstractConnectionPool", "PoolError", "SimpleConnectionPool", "ThreadedConnectionPool"]

_IDLE = extensions.TRANSACTION_STATUS_IDLE
_UNKNOWN = extensions.TRANSACTION_STATUS_UNKNOWN
_READY = extensions.STATUS_READY

# Between two looks at what another thread opens.
_MOMENT = 0.002
# How long a rollback may take; and closing, which sends some bytes for which there may be no room.
_ROLLBACK_SECONDS, _CLOSE_SECONDS = 5.0, 0.2

_EXHAUSTED = "connection pool exhausted"
_CLOSED = "connection pool is closed"
_UNKEYED = "trying to put unkeyed connection"

# A connection as the pool knows it: [connection, the token of its latest loan, the latest token that was given back,
# its socket if that stays the same].
# Changed in place: cheaper than a dict. Giving back never writes over a loan's token: a late second putconn in another
# thread would wipe out the next borrower's.
Entry = list[Any]
_CONNECTION, _TOKEN, _RETURNED, _SOCKET = 0, 1, 2, 3


class PoolTimeout(PoolError, errors.PoolTimeout):
    """All are in use: "connection pool exhausted"."""


class PoolClosed(PoolError, errors.PoolClosed):
    """ "connection pool is closed"."""


class NotLeased(PoolError, errors.NotLeased):
    """Not lent by this pool, or put before: "trying to put unkeyed connection"."""


class UnknownKey(NotLeased, KeyError):
    """Put with another key than it was lent with. Also a KeyError, which the original raises."""


class ConnectError(psycopg2.OperationalError, errors.ConnectError):
    """The server cannot be reached and was tried a moment ago: with the words of that attempt."""


class PoolFailure(PoolError, errors.Error):
    """Any other error of the library: `code` tells which."""


def _failure(error: errors.Error) -> Exception:
    if isinstance(error, errors.PoolTimeout):
        return PoolTimeout(_EXHAUSTED)
    if isinstance(error, errors.PoolClosed):
        return PoolClosed(_CLOSED)
    if isinstance(error, errors.NotLeased):
        return NotLeased(_UNKEYED)
    if isinstance(error, errors.ConnectError):
        return ConnectError(str(error))
    failure = PoolFailure(str(error))
    failure.code = error.code
    return failure


class _Driver:
    """What the library's pool needs to know. It does not keep its pool alive."""

    transient = psycopg2.OperationalError
    failure = staticmethod(_failure)
    usual_seconds = None  # as in the original

    def __init__(self, pool: AbstractConnectionPool) -> None:
        self._pool = weakref.ref(pool)

    @property
    def connects_in_caller(self) -> bool:
        """A `_connect` of a subclass is called as that of the original is; and what waits in the place of psycopg2 may
        rely on the thread."""
        kind = getattr(self._living()._connect, "__func__", None)
        return kind is not AbstractConnectionPool._connect or _green.is_green()

    def _living(self) -> AbstractConnectionPool:
        pool = self._pool()
        assert pool is not None, "called by the pool's own methods alone"
        return pool

    def connect(self, seconds: float | None) -> Any:  # noqa: ARG002 - as long as the arguments of psycopg2 say
        return self._living()._connect()

    def connect_here(self, opening: Opening) -> Any:
        """What the subclass's `_connect` asks psycopg2 for comes from another thread all the same."""
        pool, thread = self._living(), threading.get_ident()
        pool._here[thread] = opening
        try:
            return pool._connect()
        finally:
            pool._here.pop(thread, None)

    def feed(self, token: _lib.Token, connection: Any) -> None:
        entry = self._living()._entry(token.value, connection)
        entry[_TOKEN] = entry[_RETURNED] = token.value

    def fileno(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number

    def close(self, connection: Any) -> None:
        pool = self._pool()
        if pool is not None:
            pool._entries.pop(connection, None)
        with contextlib.suppress(Exception):
            if connection.get_transaction_status() == extensions.TRANSACTION_STATUS_ACTIVE:
                connection.close()  # as in the original, after the query that another thread waits for
            else:
                with Limit(connection, _CLOSE_SECONDS), _gate.calling():
                    connection.close()

    def is_lost(self, connection: Any) -> bool:
        return bool(connection.closed == CLOSED_BY_OTHERS)

    def sqlstate(self, error: Exception) -> str | None:
        return _driver_errors.sqlstate(str(error)) if isinstance(error, psycopg2.OperationalError) else None

    def message(self, error: Exception) -> str | None:
        return str(error).strip() if isinstance(error, psycopg2.OperationalError) else None


class _ByIdentity(dict[Any, Entry]):
    """For connections that are equal or hashed in their own way, as the proxies of tracing tools are."""

    def __init__(self, entries: dict[Any, Entry]) -> None:
        super().__init__((id(entry[_CONNECTION]), entry) for entry in entries.copy().values())

    def __getitem__(self, connection: Any) -> Entry:
        return super().__getitem__(id(connection))

    def __setitem__(self, connection: Any, entry: Entry) -> None:
        super().__setitem__(id(connection), entry)

    def __contains__(self, connection: object) -> bool:
        return super().__contains__(id(connection))

    def pop(self, connection: Any, *default: Any) -> Any:
        return super().pop(id(connection), *default)


def _is_plain(kind: Any) -> bool:
    return kind.__eq__ is object.__eq__ and kind.__hash__ is object.__hash__


# Of a token or a handle. Arguments that are made by hand, once where they stay the same, cost half as much as declared
# types do.
_argument = _lib._handle.from_param


def _tries(handle: int) -> Iterator[int | None]:
    """Endless: each step is a pool_get(handle, 0)."""
    get = _lib._held["pool_get"]
    get.restype = _lib._handle
    return map(get, repeat(_argument(handle)), repeat(_argument(0)))


class _Opener:
    """Who opens a connection for a key. Lives as long as that call."""

    __slots__ = ("__weakref__", "reference")

    def __init__(self) -> None:
        self.reference = weakref.ref(self)


class AbstractConnectionPool:
    """What the two kinds of pool are made of.

    Args:
        minconn: connections that are opened here and now, with the driver's own error if that fails.
        maxconn: connections at most.
        args, kwargs: those of psycopg2.connect. A `password` that is a function is called before each connect.
        timeout: seconds to wait when all are in use, or a text such as "250ms". 0 = fail at once, as the original;
            None = wait without a deadline.
        max_lifetime: age at which a connection is replaced; 0 or None = never.
        max_idle: idle connections above minconn close after it; 0 or None = never.
    """

    def __init__(
        self,
        minconn: int,
        maxconn: int,
        *args: Any,
        timeout: Duration | None = 0,
        max_lifetime: Duration | None = 1800,
        max_idle: Duration | None = 600,
        **kwargs: Any,
    ) -> None:
        # Also for a traceback that shows the variables of this frame.
        args, kwargs = _connecting.Arguments(args), _connecting.Parameters(kwargs)
        self.minconn = int(minconn)
        self.maxconn = int(maxconn)
        self.closed = False
        self._args = args
        self._kwargs = kwargs
        self._timeout = timeout
        self._lock = threading.RLock()  # a signal handler may use the pool
        self._inherited: list[dict[Any, Entry]] = []
        self._start_empty()
        self._driver = _Driver(self)
        self._hosted = HostedPool(
            self._driver,
            min_size=self.minconn,
            max_size=self.maxconn,
            acquire_timeout=timeout,
            max_lifetime=max_lifetime,
            idle_timeout=max_idle,
        )
        self._handle = self._hosted.handle
        self._tries = _tries(self._handle)
        # pool_put(self._handle_argument, _argument(token))
        self._give, self._handle_argument = _lib._held["pool_put"], _argument(self._handle)
        _pools.add(self)
        self._open_first()

    def _start_empty(self) -> None:
        """No lock: each step is one operation on a dict or list, and of two that end the same loan the library refuses
        one."""
        self._entries: dict[Any, Entry] = {}  # by connection, while it is open
        self._slots: dict[int, Entry] = {}  # by slot; one that is closed stays until the next takes the slot
        self._here: dict[int, Opening] = {}  # by thread, while a subclass's `_connect` runs
        self._keyed: dict[Hashable, tuple[Entry, int]] = {}  # keys of the user's, with the token: valid for that loan
        self._openings: dict[Hashable, weakref.ref[_Opener]] = {}

    def _start_in_child(self) -> None:
        """What was lent before a fork is the parent's: neither used nor closed here, nor ever freed."""
        self._inherited.append(self._entries)
        self._lock = threading.RLock()
        self._start_empty()

    def _open_first(self) -> None:
        conns = []
        try:
            for _ in range(self.minconn):
                conns.append(self._getconn(timeout=0))
        except BaseException:
            self._closeall()
            raise
        for conn in conns:
            self._putconn(conn)

    def _connect(self, key: Hashable | None = None) -> Any:  # noqa: ARG002 - the signature of the original
        """Open a connection: for subclasses that have something to add."""
        opening = self._here.get(threading.get_ident())
        kwargs, is_green = _connecting.resolved(self._kwargs), _green.is_green()
        args: tuple[Any, ...] = self._args
        if is_green:
            args = _green.limited(args, kwargs, None if opening is None else opening.seconds_left())
        work = functools.partial(_connecting.connected, psycopg2.connect, args, kwargs, extensions.parse_dsn)
        if opening is None or not _opening.is_possible() or is_green:
            return work()
        try:
            return opening.run(work, functools.partial(_close_late_one, opening))
        except _opening.NoThread:
            return work()
        except _opening.GivenUp as error:
            raise _failure(self._hosted.cut_off(opening, error.seconds or 0)) from None

    # ------------------------------------------------------------------------------------------------ borrowing

    def _getconn(self, key: Hashable | None = None, timeout: Duration | None = None) -> Any:
        """Get a free connection and assign it to 'key' if not None: the same key gives the same connection until it
        is put. When all are in use: waits until `timeout` (None = the pool's), then raises PoolError("connection pool
        exhausted")."""
        if key is not None:
            return self._getconn_by_key(key, timeout)
        token = entry = None
        try:
            for token in self._tries:  # noqa: B007 - the call and the name in one step: no signal handler in between
                break
            try:
                entry = self._slots[token & SLOT_AND_FLAGS]  # type: ignore[operator]
                entry[1] = token
                return entry[0]
            except (KeyError, TypeError):  # to be opened; none is free
                if entry is not None:
                    raise  # of a signal handler
            live, token = self._hosted.token(token), None  # guarded by that: it may stay with a thread that connects
            live, conn = self._acquire(live, timeout)
            token = live.value
            entry = self._entry(token, conn)
            live.__class__ = _lib.Token  # it is guarded below now
            entry[1] = token
            return conn
        except BaseException:
            if token:
                self._abandon(token)
            raise

    def _acquire(self, token: _lib.Token, timeout: Duration | None) -> tuple[_lib.Token, Any]:
        try:
            return self._hosted.acquire_slowly(token, timeout)
        except (PoolTimeout, ConnectError):
            if self._seconds(timeout) != 0:
                raise
        return self._hosted.acquire_unless_all_are_lent()

    def _seconds(self, timeout: Duration | None) -> float | None:
        """None = without end."""
        wanted = self._timeout if timeout is None else timeout
        found = -1 if wanted is None else milliseconds(wanted, "timeout", infinite=-1)
        return None if found < 0 else found / 1000

    def _entry(self, token: int, conn: Any) -> Entry:
        """Of a connection that may be new."""
        slot = token & SLOT
        self._hosted.objects[slot] = conn  # lent or not: there the library's pool finds what it is to close
        entry = self._slots.get(slot)
        if entry is None or entry[_CONNECTION] is not conn:
            entry = [conn, None, None, socket_of(conn) if isinstance(conn, extensions.connection) else None]
            with self._lock:
                if not _is_plain(type(conn)) and not isinstance(self._entries, _ByIdentity):
                    self._entries = _ByIdentity(self._entries)
                self._entries[conn] = entry
            self._slots[slot] = entry
        return entry

    def _abandon(self, token: int) -> None:
        """Ends a loan and closes its connection. Nothing, if the loan has ended: the library knows."""
        slot = token & SLOT
        entry = self._slots.get(slot)
        if entry is not None:
            entry[_RETURNED] = token
        conn = self._hosted.objects.get(slot)
        if self._hosted.ends(token, conn) == 0 and conn is not None:
            self._driver.close(conn)

    def _getconn_by_key(self, key: Hashable, timeout: Duration | None) -> Any:
        if self.closed:
            raise PoolClosed(_CLOSED)
        entry = self._lent_with(key)
        if entry is not None:
            return entry[_CONNECTION]
        # Of several that come with the same new key the first opens, and the others get the same.
        seconds = self._seconds(timeout)
        deadline = Deadline.of(seconds or None)
        opener = _Opener()
        try:
            while not self._is_first(key, opener):
                self._wait_for_another(deadline, is_try=seconds == 0)
            entry = self._lent_with(key)
            if entry is None:
                left = deadline.seconds_left()
                entry = self._open_with_key(key, timeout if left is None else max(left, 0.001))
            return entry[_CONNECTION]
        finally:
            if self._openings.get(key) is opener.reference:
                self._openings.pop(key, None)
            del opener

    def _is_first(self, key: Hashable, opener: _Opener) -> bool:
        other = self._openings.setdefault(key, opener.reference)
        if other is opener.reference:
            return True
        if other() is None:  # a signal handler's exception has kept it from saying that it is done
            with self._lock:
                if self._openings.get(key) is other:
                    self._openings.pop(key, None)
        return False

    def _wait_for_another(self, deadline: Deadline, *, is_try: bool) -> None:
        """For whoever opens with the same key: a moment."""
        if deadline.is_over():
            raise PoolTimeout(_EXHAUSTED)
        if is_try:  # for what is being opened, but not for who waits for one to come free
            now = self.stats()
            if now.in_use >= now.max_size and now.waiting:
                raise PoolTimeout(_EXHAUSTED)
        time.sleep(_MOMENT)

    def _lent_with(self, key: Hashable) -> Entry | None:
        entry, token = self._keyed.get(key, (None, None))
        return entry if entry is not None and _loan(entry) == token is not None else None

    def _open_with_key(self, key: Hashable, timeout: Duration | None) -> Entry:
        if len(self._keyed) > 2 * self.maxconn + 16:
            for old in list(self._keyed):
                if self._lent_with(old) is None:
                    self._keyed.pop(old, None)
        conn = None
        try:
            conn = self._getconn(None, timeout)
            entry = self._entries[conn]
            self._keyed[key] = entry, entry[_TOKEN]
            return entry
        except BaseException:
            if conn is not None:
                self._putconn(conn)
            raise

    # -------------------------------------------------------------------------------------------------- giving back

    def _putconn(self, conn: Any = None, key: Hashable | None = None, close: bool = False) -> None:
        """Put away a connection, in any state: an open transaction is rolled back, and one that is broken, or with
        `close`, is closed."""
        if key is None and not close:
            try:
                entry = self._entries[conn]
            except (KeyError, TypeError):
                return self._refuse(conn)
            token = entry[1]
            if token != entry[2] and conn.get_transaction_status() == _IDLE:
                try:
                    entry[2] = token
                    code = self._give(self._handle_argument, _argument(token))
                except BaseException:
                    self._abandon(token)
                    raise
                if code:
                    self._hosted.answered(_lib.Token(token), code)
                return None
        return self._putconn_otherwise(conn, key, close)

    def _putconn_otherwise(self, conn: Any, key: Hashable | None, close: bool) -> None:
        try:
            entry = self._entries[conn]
        except (KeyError, TypeError):
            return self._refuse(conn)
        token = _loan(entry)
        if token is None:
            return self._refuse(conn)
        if key is not None and self._lent_with(key) is not entry and key != token:
            raise UnknownKey(f"trying to put a connection with another key than it was lent with: {key!r}")
        # Of two threads that put the same connection one goes on, before either has touched it.
        taken: list[int] = []
        try:
            self._take(entry, token, taken)
            if taken:
                if close or not _is_rolled_back(conn, entry[_SOCKET]):
                    return self._abandon(token)
                code = _lib.put(self._handle, token)
        except BaseException:
            if taken:
                self._abandon(token)
            raise
        if not taken:
            return self._refuse(conn)
        return self._hosted.answered(_lib.Token(token), code) if code else None

    def _take(self, entry: Entry, token: int, taken: list[int]) -> None:
        with self._lock:
            if _loan(entry) == token:
                taken.append(token)
                entry[_RETURNED] = token

    def _refuse(self, conn: Any) -> None:
        for entries in self._inherited:
            with contextlib.suppress(TypeError):
                if conn in entries:
                    return
        raise PoolClosed(_CLOSED) if self.closed else NotLeased(_UNKEYED)

    def _closeall(self) -> None:
        """Close all connections, lent ones too. Who waits gets PoolError("connection pool is closed")."""
        with self._lock:
            if self.closed:
                raise PoolClosed(_CLOSED)
            self.closed = True
        self._hosted.close()
        for entry in self._open_entries():
            token = _loan(entry)
            if token is not None:
                self._abandon(token)
        self._keyed.clear()

    # ------------------------------------------------------------------------------------------------ looking at it

    @property
    def _used(self) -> dict[Hashable, Any]:
        """Key → connection, of those that are lent: a copy. Without a key of the user's it is a number, as in the
        original."""
        keys = {token: key for key, (_, token) in self._keyed.copy().items()}
        pairs = [(_loan(entry), entry[_CONNECTION]) for entry in self._open_entries()]
        return {keys.get(token, token): conn for token, conn in pairs if token is not None}

    @property
    def _rused(self) -> dict[int, Hashable]:
        """id(connection) → key, of those that are lent: a copy."""
        return {id(conn): key for key, conn in self._used.items()}

    @property
    def _pool(self) -> list[Any]:
        """The idle connections: a copy."""
        return [entry[_CONNECTION] for entry in self._open_entries() if _loan(entry) is None]

    def _open_entries(self) -> list[Entry]:
        return list(self._entries.values())

    def stats(self) -> PoolStats:
        """Counts and times. Raises PoolError when the pool is closed."""
        try:
            return self._hosted.stats()
        except errors.PoolClosed as error:
            raise _failure(error) from None

    def __repr__(self) -> str:
        name = f"{type(self).__module__}.{type(self).__qualname__}"
        if self.closed:
            return f"<{name}, closed>"
        return f"<{name} idle={len(self._pool)} in_use={len(self._used)} maxconn={self.maxconn}>"


def _loan(entry: Entry) -> int | None:
    """The token, while it is lent."""
    token: int | None = entry[_TOKEN]
    return None if token == entry[_RETURNED] else token


def _close_late_one(opening: Opening, conn: Any, _error: BaseException | None) -> None:
    """Opened for a `_connect` of a subclass that has ended: nobody prepares it for the pool."""
    if conn is not None:
        with contextlib.suppress(Exception):
            conn.close()
    opening.give_back()


def _is_rolled_back(conn: Any, socket: Socket | None) -> bool:
    """Whether it is idle now, and fit for others."""
    if conn.closed or conn.get_transaction_status() == _UNKNOWN:
        return False
    limit = Limit(conn, _ROLLBACK_SECONDS, socket)
    limit.start()
    try:
        is_fit = _is_fit_after_rollback(conn)
    finally:
        is_in_time = limit.stop()
    return is_fit and is_in_time


def _is_fit_after_rollback(conn: Any) -> bool:
    with contextlib.suppress(Exception):
        is_failed = conn.get_transaction_status() == extensions.TRANSACTION_STATUS_INERROR
        if is_failed and conn.get_parameter_status("in_hot_standby") == "on":
            return False  # after a failover another server takes writes: whoever got this one would fail again
        conn.rollback()
        if conn.get_transaction_status() != _IDLE:  # a BEGIN given as SQL, of which psycopg2 does not know
            conn.cursor(cursor_factory=extensions.cursor).execute("ROLLBACK")
        return bool(conn.get_transaction_status() == _IDLE and conn.status == _READY)
    return False


class SimpleConnectionPool(AbstractConnectionPool):
    """The original of this name is for one thread. This one is the same as ThreadedConnectionPool."""

    getconn = AbstractConnectionPool._getconn
    putconn = AbstractConnectionPool._putconn
    closeall = AbstractConnectionPool._closeall


class ThreadedConnectionPool(AbstractConnectionPool):
    """A connection pool that works with the threading module."""

    getconn = AbstractConnectionPool._getconn
    putconn = AbstractConnectionPool._putconn
    closeall = AbstractConnectionPool._closeall


_pools: weakref.WeakSet[AbstractConnectionPool] = weakref.WeakSet()


def _after_fork_in_child() -> None:
    for pool in list(_pools):
        pool._start_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)
