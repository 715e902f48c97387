"""Replaces `psycopg2.pool`: the same classes, arguments, attributes and exceptions, over the library's pool.

from dbpool import psycopg2_pool as pool  # instead of: from psycopg2 import pool
"""

from __future__ import annotations

import contextlib
import os
import threading
import weakref
from collections.abc import Hashable, Iterator
from itertools import repeat
from typing import Any

import psycopg2
from psycopg2 import extensions
from psycopg2.pool import PoolError

from . import _driver_errors, _lib, errors
from ._hosted import SLOT, SLOT_AND_FLAGS, HostedPool
from ._stats import PoolStats
from ._values import Duration, milliseconds

__all__ = ["AbstractConnectionPool", "PoolError", "SimpleConnectionPool", "ThreadedConnectionPool"]

_IDLE = extensions.TRANSACTION_STATUS_IDLE
_UNKNOWN = extensions.TRANSACTION_STATUS_UNKNOWN
_READY = extensions.STATUS_READY

_EXHAUSTED = "connection pool exhausted"
_CLOSED = "connection pool is closed"
_UNKEYED = "trying to put unkeyed connection"

_SLICE_SECONDS, _SLICES = 0.05, 400

# A connection as the pool knows it: [connection, the token of its loan or None]. Changed in place: cheaper than a dict.
Entry = list[Any]
_CONNECTION, _TOKEN = 0, 1


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

    def __init__(self, pool: AbstractConnectionPool) -> None:
        self._pool = weakref.ref(pool)

    def connect(self, seconds: float | None) -> Any:  # noqa: ARG002 - `timeout` is for the wait until one is free
        pool = self._pool()
        assert pool is not None, "called by the pool's own methods alone"
        return pool._connect()

    def fileno(self, connection: Any) -> int:
        number: int = connection.fileno()
        return number

    def close(self, connection: Any) -> None:
        pool = self._pool()
        if pool is not None:
            pool._entries.pop(connection, None)
        with contextlib.suppress(Exception):
            connection.close()

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


def _tries(handle: int) -> Iterator[int | None]:
    """Endless: each step is a pool_get(handle, 0). Arguments made once cost half as much as declared types do."""
    get = _lib._held["pool_get"]
    get.restype = _lib._handle
    return map(get, repeat(_lib._handle.from_param(handle)), repeat(_lib._handle.from_param(0)))


class AbstractConnectionPool:
    """What the two kinds of pool are made of.

    Args:
        minconn: connections that are opened here and now, with the driver's own error if that fails.
        maxconn: connections at most.
        args, kwargs: those of psycopg2.connect.
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
        self.minconn = int(minconn)
        self.maxconn = int(maxconn)
        self.closed = False
        self._args = args
        self._kwargs = kwargs
        self._timeout = timeout
        self._lock = threading.Lock()
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
        self._live_token = self._hosted.token
        self._tries = _tries(self._handle)
        self._give = _lib.put
        _pools.add(self)
        self._open_first()

    def _start_empty(self) -> None:
        """No lock: each step is one operation on a dict or list, and of two that end the same loan the library refuses
        one."""
        self._entries: dict[Any, Entry] = {}  # by connection, while it is open
        self._slots: dict[int, Entry] = {}  # by slot; one that is closed stays until the next takes the slot
        self._keyed: dict[Hashable, tuple[Entry, int]] = {}  # keys of the user's, with the token: valid for that loan
        self._openings: dict[Hashable, threading.Lock] = {}

    def _start_in_child(self) -> None:
        """What was lent before a fork is the parent's: neither used nor closed here, nor ever freed."""
        self._inherited.append(self._entries)
        self._lock = threading.Lock()
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
        return psycopg2.connect(*self._args, **self._kwargs)

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
            live, conn = self._acquire(token, timeout)
            token = live.value
            entry = self._entry(token, conn)
            live.__class__ = _lib.Token  # it is guarded below now
            entry[1] = token
            return conn
        except BaseException:
            if token:
                self._abandon(token)
            raise

    def _acquire(self, token: int | None, timeout: Duration | None) -> tuple[_lib.Token, Any]:
        try:
            return self._hosted.acquire_slowly(self._live_token(token), timeout)
        except (PoolTimeout, ConnectError):
            seconds = self._timeout if timeout is None else timeout
            if seconds is None or milliseconds(seconds, "timeout", infinite=_lib.INT_MAX) > 1000:
                raise
        return self._acquire_unless_all_are_lent()

    def _acquire_unless_all_are_lent(self) -> tuple[_lib.Token, Any]:
        """Who does not want to wait for borrowers still waits for what is under way, as behind the original's lock: a
        closed connection has its place until the server has closed its end, and of a server not known to answer one is
        opened at a time. For each place that is not lent one caller waits."""
        for _ in range(_SLICES):
            now = self.stats()
            if now.waiting >= now.max_size - now.in_use:
                break
            is_something_under_way = now.connecting + now.closing > 0
            try:
                return self._hosted.acquire(_SLICE_SECONDS if is_something_under_way else 0)
            except PoolTimeout:
                continue
            except ConnectError:
                if not is_something_under_way:
                    raise
        raise PoolTimeout(_EXHAUSTED)

    def _entry(self, token: int, conn: Any) -> Entry:
        """Of a connection that may be new."""
        slot = token & SLOT
        self._hosted.objects[slot] = conn  # lent or not: there the library's pool finds what it is to close
        entry = self._slots.get(slot)
        if entry is None or entry[_CONNECTION] is not conn:
            entry = [conn, None]
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
        if entry is not None and entry[_TOKEN] == token:
            entry[_TOKEN] = None
        conn = self._hosted.objects.get(slot)
        if _lib.discard(self._handle, token) == 0 and conn is not None:
            self._driver.close(conn)

    def _getconn_by_key(self, key: Hashable, timeout: Duration | None) -> Any:
        if self.closed:
            raise PoolClosed(_CLOSED)
        entry = self._lent_with(key)
        if entry is not None:
            return entry[_CONNECTION]
        # Of several that come with the same new key the first opens, and the others get the same.
        with self._openings.setdefault(key, threading.Lock()):
            try:
                entry = self._lent_with(key)
                if entry is None:
                    entry = self._open_with_key(key, timeout)
                return entry[_CONNECTION]
            finally:
                self._openings.pop(key, None)

    def _lent_with(self, key: Hashable) -> Entry | None:
        entry, token = self._keyed.get(key, (None, None))
        return entry if entry is not None and entry[_TOKEN] == token else None

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
            if token and conn.get_transaction_status() == _IDLE:
                try:
                    entry[1] = None
                    code = self._give(self._handle, token)
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
        token = entry[_TOKEN]
        if token is None:
            return self._refuse(conn)
        if key is not None and self._lent_with(key) is not entry and key != token:
            raise UnknownKey(f"trying to put a connection with another key than it was lent with: {key!r}")
        try:
            if close or not _is_rolled_back(conn):
                return self._abandon(token)
            entry[_TOKEN] = None
            code = self._give(self._handle, token)
        except BaseException:
            self._abandon(token)
            raise
        return self._hosted.answered(_lib.Token(token), code) if code else None

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
            token = entry[_TOKEN]
            if token is not None:
                self._abandon(token)
        self._keyed.clear()

    # ------------------------------------------------------------------------------------------------ looking at it

    @property
    def _used(self) -> dict[Hashable, Any]:
        """Key → connection, of those that are lent: a copy. Without a key of the user's it is a number, as in the
        original."""
        keys = {token: key for key, (_, token) in self._keyed.copy().items()}
        pairs = [(entry[_TOKEN], entry[_CONNECTION]) for entry in self._open_entries()]
        return {keys.get(token, token): conn for token, conn in pairs if token is not None}

    @property
    def _rused(self) -> dict[int, Hashable]:
        """id(connection) → key, of those that are lent: a copy."""
        return {id(conn): key for key, conn in self._used.items()}

    @property
    def _pool(self) -> list[Any]:
        """The idle connections: a copy."""
        return [entry[_CONNECTION] for entry in self._open_entries() if entry[_TOKEN] is None]

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


def _is_rolled_back(conn: Any) -> bool:
    """Whether it is idle now, and fit for others."""
    if conn.closed or conn.get_transaction_status() == _UNKNOWN:
        return False
    with contextlib.suppress(Exception):
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
