"""The pool."""

from __future__ import annotations

import contextlib
import logging
import os
import sys
import threading
import warnings
from types import TracebackType
from typing import Callable, NoReturn
from urllib.parse import unquote_to_bytes

from . import _lib, _process, _stats, _waiting
from ._callbacks import Callbacks, ConfigureCallback, ConninfoCallback, LogCallback
from ._stats import PoolStats
from ._values import Duration, c_text, choice, integer, milliseconds
from .errors import ConnectError, Error, ForeignConnection, NotLeased, PoolClosed
from .loan import Loan

_NEVER = 0


class Pool:
    """A pool of PostgreSQL connections.

    Every method may be called by every thread at any time, and in a forked child too: there the pool starts empty,
    with sessions of its own. A method that does not say that it waits does not.

    Durations are seconds (int or float), a text with a unit ("250ms", "1.5s", "30m"; us, ms, s, m or min, h, d) or a
    timedelta; they are rounded up to milliseconds. Wrong types raise TypeError, wrong values InvalidArgument.

    Args:
        conninfo: libpq's, keywords or URI; "" = the environment's. Options of the pool may stand in it with the prefix
            `pool_` (`postgresql://app@db/shop?pool_max_size=20`), and win.
        min_size: connections kept open at least.
        max_size: connections at most, per process.
        max_waiting: callers that may wait; further ones get TooManyWaiting. 0 = no limit.
        acquire_timeout: the default deadline of `get`. 0 = a try; None or math.inf = no deadline.
        connect_timeout: for each host, above 0.
        connect_concurrency: attempts to connect under way at once; 0 = max_size.
        max_lifetime: age at which a connection is replaced; 0, None or math.inf = never.
        lifetime_jitter_percent: each lifetime is shortened by a random part of up to this.
        idle_timeout: idle connections above min_size close after it; 0, None or math.inf = never.
        check: how a connection is known to be alive before it is lent: "none", "watch", "socket" or "ping".
        check_after_idle: "ping" pings a connection that was idle for longer.
        check_timeout: a ping or reset that takes longer loses its connection; above 0.
        reset: what happens to a connection that is put back: "none", "rollback", "discard_all" or "query".
        reset_query: the SQL of "query".
        queue_mode: which idle connection is lent first: "lifo" or "fifo".
        leak_threshold: a loan older than this is logged, once; 0 or None = off.
        exact_times: whether times of use are exact, at two clock reads for each loan, or coarse (100 ms).
        name: in errors, logs and as `application_name`; None = "pool-N".
        log: True = the logger "dbpool"; or a logging.Logger; or a function `(level, message)` with the levels of
            `logging`; None = no log. Called on a thread of the library; what it raises goes to threading.excepthook.
        configure: a function `(conn)`, called once for each new connection before it is lent, on a thread of the
            library; to be left out of any transaction. When it raises, the attempt has failed.
        conninfo_provider: a function that returns the conninfo of the next attempt (a fresh password, another host),
            called on a thread of the library. When it raises, the attempt has failed.

    Everything is checked here; no server is waited for (see `wait`).

    Raises:
        InvalidArgument, OutOfMemory, SystemFailure.
    """

    def __init__(
        self,
        conninfo: str | bytes = "",
        *,
        min_size: int = 0,
        max_size: int = 10,
        max_waiting: int = 0,
        acquire_timeout: Duration | None = 30,
        connect_timeout: Duration = 10,
        connect_concurrency: int = 0,
        max_lifetime: Duration | None = 1800,
        lifetime_jitter_percent: int = 20,
        idle_timeout: Duration | None = 600,
        check: str | int = "watch",
        check_after_idle: Duration = 0.5,
        check_timeout: Duration = 5,
        reset: str | int = "rollback",
        reset_query: str | None = None,
        queue_mode: str | int = "lifo",
        leak_threshold: Duration | None = None,
        exact_times: bool = False,
        name: str | None = None,
        log: bool | logging.Logger | LogCallback | None = None,
        configure: ConfigureCallback | None = None,
        conninfo_provider: ConninfoCallback | None = None,
    ) -> None:
        self._handle = 0
        encoded = c_text(conninfo, "conninfo")
        options = _lib.new_options()
        options.min_size = integer(min_size, "min_size")
        options.max_size = integer(max_size, "max_size")
        options.max_waiting = integer(max_waiting, "max_waiting")
        options.acquire_timeout_ms = _limit(acquire_timeout, "acquire_timeout", _lib.TIMEOUT_INFINITE)
        options.connect_timeout_ms = milliseconds(connect_timeout, "connect_timeout", positive=True)
        options.connect_concurrency = integer(connect_concurrency, "connect_concurrency")
        options.max_lifetime_ms = _limit(max_lifetime, "max_lifetime", _NEVER)
        options.lifetime_jitter_percent = integer(lifetime_jitter_percent, "lifetime_jitter_percent")
        options.idle_timeout_ms = _limit(idle_timeout, "idle_timeout", _NEVER)
        options.check = choice(check, "check", _lib.CHECKS)
        options.check_after_idle_ms = milliseconds(check_after_idle, "check_after_idle")
        options.check_timeout_ms = milliseconds(check_timeout, "check_timeout", positive=True)
        options.reset = choice(reset, "reset", _lib.RESETS)
        options.reset_query = None if reset_query is None else c_text(reset_query, "reset_query")
        options.queue_mode = choice(queue_mode, "queue_mode", _lib.QUEUE_MODES)
        options.leak_threshold_ms = _limit(leak_threshold, "leak_threshold", _NEVER)
        options.exact_times = int(bool(exact_times))
        options.name = None if name is None else c_text(name, "name")
        self._name = name
        # A try makes no ping: where pings are asked for, also in the conninfo, a get that may wait goes the long way.
        self._tries_first = options.check != _lib.CHECKS["ping"] and b"pool_check" not in unquote_to_bytes(encoded)
        self._callbacks = Callbacks(log, configure, conninfo_provider)
        self._pid = _process.pid
        self._closed = False
        self._start_in_child()
        self._create(encoded, options)

    def _create(self, conninfo: bytes, options: _lib.Options) -> None:
        if self._callbacks.needed:
            self._callbacks.install(options)
        try:
            self._handle = _lib.create(conninfo, options)
        except BaseException:
            self._callbacks.forget()
            raise
        _process.remember(self)

    def _start_in_child(self) -> None:
        """The library counts anew there; a lock may have been held by a thread that the child does not have."""
        self._retries = 0
        self._retries_lock = threading.RLock()

    # ------------------------------------------------------------------------------------------------ borrowing

    def get(self, timeout: Duration | None = None) -> Loan:
        """Borrow a connection: idle, out of any transaction and the caller's alone until it is put back.

        Waits until `timeout`: None = the pool's acquire_timeout, 0 = only what is there at once (the socket is checked,
        no ping is made), math.inf = without a deadline. Callers that wait are served first come, first served. On the
        main thread signal handlers run meanwhile, and what they raise ends the wait; under gevent and eventlet the
        other greenlets run.

        Raises:
            PoolTimeout: the connections are in use. ConnectError: the server cannot be reached. TooManyWaiting,
            PoolPaused, PoolClosed, InvalidArgument, OutOfMemory, WouldDeadlock, SystemFailure.
        """
        timeout_ms = _lib.TIMEOUT_DEFAULT
        if timeout is not None:
            timeout_ms = milliseconds(timeout, "timeout", infinite=_lib.TIMEOUT_INFINITE)
        if self._tries_first and timeout_ms != 0:
            loan: Loan = _lib.get(self._handle, 0)
            if loan:
                loan._lent_by(self, _process.pid)
                return loan
            _lib.as_plain(loan)
            self._count_retry()
        return self._try() if timeout_ms == 0 else self._wait_for_loan(timeout_ms)

    def _count_retry(self) -> None:
        with self._retries_lock:
            self._retries += 1

    def _try(self) -> Loan:
        loan: Loan
        loan, error = _lib.try_get(self._handle)
        if error is not None:
            raise self._explained(error)
        loan._lent_by(self, _process.pid)
        return loan

    def _wait_for_loan(self, timeout_ms: int) -> Loan:
        try:
            loan = _waiting.borrow(self._handle, timeout_ms)
        except ConnectError as error:
            self._explained(error)
            raise
        loan._lent_by(self, _process.pid)
        return loan

    def _explained(self, error: Error) -> Error:
        """The exception of a callback is the cause of the failed connect that it led to."""
        if isinstance(error, ConnectError):
            error.__cause__ = self._callbacks.cause_of(str(error))
        return error

    def put(self, conn: Loan) -> None:
        """Give a connection back. It may be in any state: an open transaction is rolled back in the background, a
        broken or busy one is closed and replaced. Never waits for the network. Right after `close`, too.

        Raises:
            NotLeased: put back before. ForeignConnection: of another pool. ForkedConnection: borrowed before a fork.
        """
        self._end(conn, _lib.put)

    def discard(self, conn: Loan) -> None:
        """Give back a connection known to be broken or unfit: it is closed and replaced. Raises as `put`."""
        self._end(conn, _lib.discard)

    def _end(self, conn: Loan, function: Callable[[int, int], int]) -> None:
        if not isinstance(conn, Loan):
            raise TypeError(f"conn: must be what get() returned, not {type(conn).__name__}")
        if conn._pool is not self:
            raise _lib.local_failure(ForeignConnection, "this loan belongs to another pool")
        code = next(map(function, (self._handle,), conn._once), None)
        conn.value = None
        conn.__class__ = Loan
        if code is None:
            raise _lib.local_failure(NotLeased, "this loan was put back before")
        if code != 0:
            raise _lib.failure(code)

    def report(self, conn: Loan, sqlstate: str) -> bool:
        """Tell of an error on a borrowed connection that the pool has not seen; errors in the results of libpq it sees
        by itself. The loan goes on.

        sqlstate: the five characters of the server's error.

        Returns:
            True when the connection will be closed and replaced when it is put: the session ends (class 08, 57P,
            25P03, 25P04), or its server takes no writes (25006; not to be told when it comes of your own READ ONLY
            transaction).

        Raises:
            InvalidArgument: not a SQLSTATE. The others as `put`.
        """
        if not isinstance(conn, Loan):
            raise TypeError(f"conn: must be what get() returned, not {type(conn).__name__}")
        if conn._pool is not self:
            raise _lib.local_failure(ForeignConnection, "this loan belongs to another pool")
        code: int = _lib.report(self._handle, int(conn), c_text(sqlstate, "sqlstate"))
        if code < 0:
            raise _lib.failure(code)
        return code == _lib.CLOSE

    def connection(self, timeout: Duration | None = None) -> Borrowed:
        """`with pool.connection() as conn:` borrows a connection as `get` does, and puts it back at the end, also after
        an exception: the reset rolls an open transaction back. One that was put or discarded inside stays so."""
        return Borrowed(self, timeout)

    # ---------------------------------------------------------------------------------------------- life of a pool

    def wait(self, timeout: Duration = 30) -> None:
        """Wait until min_size connections are open (0 returns at once).

        Raises:
            ConnectError: early, on an error that will not go away (wrong password, no such database), else at the
            deadline. PoolTimeout, PoolPaused, PoolClosed.
        """
        timeout_ms = milliseconds(timeout, "timeout", infinite=_lib.TIMEOUT_INFINITE)
        try:
            _waiting.until(_lib.wait, self._handle, timeout_ms)
        except ConnectError as error:
            self._explained(error)
            raise

    def resize(self, min_size: int, max_size: int) -> None:
        """New limits. Shrinking: idle connections close now, lent ones when they are put back."""
        _lib.resize(self._handle, integer(min_size, "min_size"), integer(max_size, "max_size"))

    def pause(self) -> None:
        """From now on gets queue until their deadline, then raise PoolPaused. Loans go on."""
        _lib.pause(self._handle)

    def resume(self) -> None:
        """End a pause or drain, and serve those who wait."""
        _lib.resume(self._handle)

    def drain(self, timeout: Duration = 30) -> None:
        """Pause, close the idle connections and those that are put back, and wait until none is left.

        Paused either way until `resume`.

        Raises:
            PoolTimeout: some are still out. Canceled: `resume` ended the drain. PoolClosed.
        """
        timeout_ms = milliseconds(timeout, "timeout", infinite=_lib.TIMEOUT_INFINITE)
        _waiting.drained(self._handle, timeout_ms)

    def reconnect(self) -> None:
        """Renew all connections: idle ones now, lent ones when they are put back; no old one is lent after this.
        For a failover, a changed password or a new search_path of the role."""
        _lib.reconnect(self._handle)

    def close(self) -> None:
        """Close the pool: who waits gets PoolClosed, idle connections close, borrowed ones when they are put back.
        Returns at once; a second time it does nothing."""
        # The handle stays: it is no address but a token that a closed pool never answers for, and puts need it.
        self._callbacks.keep()
        self._closed = True
        with contextlib.suppress(PoolClosed):
            _lib.close(self._handle)

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def name(self) -> str | None:
        """The name that was given."""
        return self._name

    @property
    def _calls_python(self) -> bool:
        return self._callbacks.needed

    def __enter__(self) -> Pool:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        """A pool that is forgotten is closed, with a ResourceWarning: loans keep their pool, so that none is out."""
        if getattr(self, "_closed", True) or not self._handle:
            return
        if sys.is_finalizing() or self._pid != os.getpid():
            self._callbacks.keep()
            return
        description = repr(self)
        self.close()
        warnings.warn(f"a pool was never closed: {description}", ResourceWarning, stacklevel=2, source=self)

    # ------------------------------------------------------------------------------------------------- looking at it

    def stats(self) -> PoolStats:
        """Counts and times: one consistent copy. Raises PoolClosed."""
        # The library may still be closing, and would still count.
        if self._closed:
            raise _lib.local_failure(PoolClosed, "there are no statistics any more")
        return _stats.read(self._handle, self._retries)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a pool is not to be copied or pickled: share it between threads, make one in each process")

    def __repr__(self) -> str:
        name = "" if self._name is None else f" {self._name!r}"
        try:
            now = self.stats()
        except Error:
            return f"<dbpool.Pool{name}, closed>"
        counts = f"idle={now.idle} in_use={now.in_use} waiting={now.waiting} total={now.total} max_size={now.max_size}"
        return f"<dbpool.Pool{name} {counts}>"


class Borrowed:
    """What `Pool.connection` returns: for one `with` at a time."""

    __slots__ = ("_loan", "_pool", "_timeout")

    def __init__(self, pool: Pool, timeout: Duration | None) -> None:
        self._pool = pool
        self._timeout = timeout
        self._loan: Loan | None = None

    def __enter__(self) -> Loan:
        if self._loan is not None:
            raise RuntimeError("connection() is entered twice: call it once for each with")
        self._loan = loan = self._pool.get(self._timeout)
        return loan

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        loan, self._loan = self._loan, None
        # A child that was forked inside the block has nothing to give back when it leaves it.
        if loan and loan._pid == _process.pid:
            self._pool.put(loan)


def _limit(value: Duration | None, field: str, none: int) -> int:
    """A duration that may be absent."""
    return none if value is None else milliseconds(value, field, infinite=none)
