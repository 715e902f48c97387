"""What the pools of the two drivers have in common: loans with an owner, the state that is restored between them."""

from __future__ import annotations

import functools
import gc
import logging
import math
import os
import time
import weakref
from typing import Any, Callable, ClassVar, NoReturn, Protocol

from . import _lib, _process, _verdicts, errors
from ._driver import Driver
from ._hosted import HostedPool
from ._owners import Borrower
from ._refusing import parked_class, refuse_cursor
from ._stats import PoolStats
from ._values import Duration, milliseconds
from ._watchdog import Limit, Socket, socket_of

_logger = logging.getLogger("dbpool.pool")

# libpq's, the same in both drivers.
IDLE, ACTIVE, IN_TRANSACTION, IN_ERROR, UNKNOWN = range(5)

_FOR_EVER_MS = 10**15
# How long a check or a reset may take.
_CHECK_SECONDS, _LEAST_CHECK_SECONDS, _LEAST_RESET_SECONDS = 5.0, 0.1, 1.0
_SHORTEST_STATEMENT_TIMEOUT = 0.001

RESETS = {"rollback": None, "discard_all": "DISCARD ALL"}


class Session:
    """What a pool notes of a connection, in its attribute `_session`."""

    __slots__ = (
        "borrower",
        "cancels",
        "cursors",
        "has_named_cursor",
        "is_unfit",
        "loan",
        "pid",
        "reclaimed",
        "socket",
        "state",
    )

    def __init__(self) -> None:
        # The token of the loan: whoever takes it out ends the loan.
        self.loan: list[Any] = []
        self.cursors: set[Any] = set()
        self.has_named_cursor = False
        self.borrower: Borrower | None = None
        self.pid = _process.pid
        # It came back by itself, or was used in the pool: it is as a borrower left it.
        self.reclaimed = False
        # Closed when it is given back: see `report`.
        self.is_unfit = False
        # One thing for each request to cancel that is on its way, and would hit whoever is next.
        self.cancels: list[None] = []
        # As it was before its first loan.
        self.state: Any = None
        # Since the first limit.
        self.socket: Socket | None = None

    def limit(self, connection: Any, seconds: float) -> Limit:
        if self.socket is None:
            self.socket = socket_of(connection)
        return Limit(connection, seconds, self.socket)


class SessionDriver(Driver, Protocol):
    """What a pool of sessions needs to know of a driver beyond what HostedPool does."""

    @property
    def lent(self) -> type[Any]:
        """The class of its connections."""

    @property
    def status_when_lent(self) -> Callable[[Any], int] | None:
        """Tells the status of the transaction of a connection where an object of an earlier loan could have begun one
        while it lay in the pool; None where none can."""

    @property
    def error(self) -> type[Exception]:
        """The base of its errors."""

    @property
    def interface_error(self) -> type[Exception]:
        """For what is used and must not be."""

    def status(self, connection: Any) -> int:
        """That of the transaction, as libpq knows it; UNKNOWN also for what cannot be used again."""

    def restore(self, connection: Any, state: Any, seconds: float) -> bool:
        """Client-side state as it was before the first loan, whether in time; no round trip where nothing differs."""

    def recover(self, connection: Any, state: Any) -> None:
        """After the reset query: sets again in the session what the driver had set there and relies on; no round trip
        where that stands."""

    def run(self, connection: Any, sql: str) -> None:
        """Executes outside of a transaction."""

    def parameter(self, connection: Any, name: str) -> str | None:
        """As the server has reported it, without a round trip; None where it has not."""


class SessionPool:
    """See `getconn` and `putconn`. Durations are seconds, or texts such as "30m".

    Every method may be called by every thread, and in a forked child too: there the pool starts empty.
    """

    # Read by psycopg: the connection's close() closes.
    close_returns: ClassVar[bool] = False

    def __init__(
        self,
        driver: SessionDriver,
        *,
        test_query: str | None,
        reset: str,
        name: str | None,
        min_size: int,
        max_size: int,
        timeout: Duration | None,
        max_lifetime: Duration | None,
        max_idle: Duration | None,
    ) -> None:
        self._driver = driver
        self._status_when_lent = driver.status_when_lent
        self._test_query = test_query
        self._reset_query = RESETS.get(reset, reset)
        self._timeout = timeout
        self._reset_failure = ""
        self._parked = parked_class(driver.lent, driver.interface_error)
        try:
            self._hosted = HostedPool(
                driver,
                name=name,
                min_size=min_size,
                max_size=max_size,
                acquire_timeout=timeout,
                max_lifetime=max_lifetime,
                idle_timeout=max_idle,
            )
        except errors.Error as error:
            raise driver.failure(error) from None
        self._reset_seconds = min(_CHECK_SECONDS, max(_LEAST_RESET_SECONDS, self.seconds(None) or math.inf))

    # ------------------------------------------------------------------------------------------------ borrowing

    def getconn(self, timeout: Duration | None = None, owner: object | None = None) -> Any:
        """Borrow a connection, out of any transaction and with the state that it had when it was new.

        Args:
            timeout: how long it may take, waiting, connecting and testing. None = the pool's, 0 = it does not wait,
                math.inf = without end.
            owner: the object that holds the loan. When it is garbage, or the calling thread has ended, the loan ends
                by itself, and a warning is logged. The end of the thread does not count if `owner.keeps_loan` is true
                then. A loan also ends by itself when the connection is garbage.

        Raises: the driver's error of a connect that failed, or its OperationalError (PoolTimeout, ConnectError,
            PoolPaused, ...) or InterfaceError (PoolClosed) with `code`.
        """
        start = time.monotonic()
        connection = self._lend(timeout, owner)
        if self._test_query is None and not connection._session.reclaimed:
            return connection
        seconds = self.seconds(timeout)
        # Without a time to wait there is still one for the checks.
        deadline = start + (seconds or _CHECK_SECONDS)
        unfit = 0
        while True:
            try:
                error = self._unfitness(connection, _share(deadline - time.monotonic()))
            except BaseException:
                self.discard(connection)
                raise
            if error is None:
                return connection
            self.discard(connection)
            unfit += 1
            left = deadline - time.monotonic()
            if left <= 0:
                raise self._unanswered(start, error) from error
            if unfit > self.stats().max_size:
                raise error
            connection = self._lend(max(left, 0.001) if seconds else 0, owner)

    def _unanswered(self, start: float, error: Exception) -> Exception:
        detail = f"no connection was found fit within {time.monotonic() - start:.3g} s: {str(error).strip()}"
        return self._driver.failure(_lib.local_failure(errors.ConnectError, detail))

    def _lend(self, timeout: Duration | None, owner: object | None) -> Any:
        hosted = self._hosted
        if hosted.reports:
            hosted.report()
        try:
            token, connection = hosted.acquire(timeout)
        except (errors.PoolTimeout, errors.ConnectError):
            if self.seconds(timeout) > 0:
                raise
            token, connection = self._lend_at_once()
        session: Session = connection._session
        session.pid = _process.pid
        session.loan.append(token)
        connection.__class__ = self._driver.lent
        connection._pool = self
        if self._status_when_lent is not None and self._status_when_lent(connection) != IDLE:
            session.reclaimed = True
        if owner is not None:
            session.borrower = Borrower(connection, token, owner)
        return connection

    def _lend_at_once(self) -> tuple[Any, Any]:
        try:
            return self._hosted.acquire_unless_all_are_lent()
        except errors.PoolTimeout as error:
            raise type(error)("connection pool exhausted") from None

    def seconds(self, timeout: Duration | None) -> float:
        """None = the pool's."""
        wanted = self._timeout if timeout is None else timeout
        return math.inf if wanted is None else milliseconds(wanted, "timeout", infinite=_FOR_EVER_MS) / 1000

    def _unfitness(self, connection: Any, seconds: float) -> Exception | None:
        """Why the connection is not to be handed out."""
        session: Session = connection._session
        limit = session.limit(connection, seconds)
        limit.start()
        try:
            if session.reclaimed:
                session.reclaimed = False
                if not self._reset(connection, session):
                    return self._driver.interface_error("the connection came back unusable")
            if self._test_query is not None:
                self._driver.run(connection, self._test_query)
        except self._driver.error as error:
            return error
        finally:
            is_in_time = limit.stop()
        return None if is_in_time else self._driver.interface_error("the connection gave no answer in time")

    # --------------------------------------------------------------------------------------------- giving back

    def putconn(self, connection: Any) -> None:
        """Give a connection back, in any state: an open transaction is rolled back; one that cannot be used again is
        closed. A loan from before a fork: nothing is done, it is the parent's.

        Raises: the driver's InterfaceError, as NotLeased: given back before; as ForeignConnection: of another pool.
        """
        token = self._end_loan(connection)
        if token is None:
            return
        try:
            is_fit = self._reset(connection, connection._session)
        except BaseException as error:
            is_alive = self._driver.status(connection) != UNKNOWN
            self._hosted.discard(token, connection)
            if not isinstance(error, self._driver.error):
                raise
            self._log_failed_reset(error, is_alive)
            return
        if is_fit:
            self._park(token, connection)
        else:
            self._hosted.discard(token, connection)

    def _log_failed_reset(self, error: Exception, is_alive: bool) -> None:
        """That a living session cannot be reset is the reset's fault: without a word the pool would keep none."""
        if is_alive and str(error) != self._reset_failure:
            self._reset_failure = str(error)
            _logger.warning("%s: a connection was closed, its reset failed: %s", self._hosted.label, error)
        else:
            _logger.info("%s: a connection was closed, its reset failed: %s", self._hosted.label, type(error).__name__)

    def discard(self, connection: Any) -> None:
        """Give back a connection that is broken or unfit: it is closed. Raises as `putconn`."""
        token = self._end_loan(connection)
        if token is not None:
            self._hosted.discard(token, connection)

    def report(self, connection: Any, sqlstate: str | None) -> None:
        """Tell what a query on a lent connection failed with. One that would only fail again is closed when it is given
        back: 25006 on a server that takes no writes; class 08, 57P.., 25P03 and 25P04; others change nothing.

        Not needed for errors that the connection's own cursors raised.
        """
        session = getattr(connection, "_session", None)
        if not isinstance(session, Session) or connection._pool is not self:
            self.fail(errors.ForeignConnection, "not a connection that this pool has lent")
        if not session.loan:
            self.fail(errors.NotLeased, "this connection was given back before")
        self.judge(connection, sqlstate)

    def judge(self, connection: Any, sqlstate: str | None, severity: str | None = None) -> None:
        """Called where an error of the driver passes: it must not raise one of its own."""
        if _verdicts.is_unfit(sqlstate, severity, functools.partial(self._driver.parameter, connection)):
            connection._session.is_unfit = True

    def _end_loan(self, connection: Any) -> Any:
        """The token, which only one caller gets; None in a forked child."""
        session = getattr(connection, "_session", None)
        if not isinstance(session, Session):
            self.fail(errors.ForeignConnection, "not a connection of a pool")
        if session.pid != _process.pid:
            return None
        pool = connection._pool
        if pool is not self and pool is not None:
            self.fail(errors.ForeignConnection, "the connection belongs to another pool")
        try:
            token = session.loan.pop()
        except IndexError:
            self.fail(errors.NotLeased, "this connection was given back before")
        borrower, session.borrower = session.borrower, None
        if borrower is not None:
            borrower.end()
        return token

    def fail(self, kind: type[errors.Error], detail: str) -> NoReturn:
        """Raises the driver's error of this kind."""
        raise self._driver.failure(_lib.local_failure(kind, detail))

    def _reset(self, connection: Any, session: Session) -> bool:
        """Whether the connection is as it was before its first loan."""
        driver = self._driver
        status = driver.status(connection)
        if status in (ACTIVE, UNKNOWN) or session.is_unfit or session.cancels:
            return False
        if status == IDLE and not session.has_named_cursor and self._reset_query is None:
            is_in_time = driver.restore(connection, session.state, self._reset_seconds)
        else:
            is_in_time = self._reset_by_server(connection, session, status)
        return is_in_time and driver.status(connection) == IDLE

    def _reset_by_server(self, connection: Any, session: Session, status: int) -> bool:
        """Whether in time."""
        driver = self._driver
        limit = session.limit(connection, self._reset_seconds)
        limit.start()
        try:
            if status != IDLE:
                connection.rollback()
                if driver.status(connection) != IDLE:
                    driver.run(connection, "ROLLBACK")  # begun by a BEGIN that the driver has not seen
            driver.restore(connection, session.state, self._reset_seconds)
            if session.has_named_cursor:
                session.has_named_cursor = False
                driver.run(connection, "CLOSE ALL")
            if self._reset_query is not None:
                self._run_reset_query(connection, self._reset_query)
                driver.recover(connection, session.state)
        finally:
            is_in_time = limit.stop()
        return is_in_time

    def _run_reset_query(self, connection: Any, query: str) -> None:
        began = time.monotonic()
        self._driver.run(connection, query)
        if time.monotonic() - began >= _SHORTEST_STATEMENT_TIMEOUT:
            # PostgreSQL may have a cancel by the borrower's own statement_timeout left over, for what is run next.
            self._driver.run(connection, "SELECT 1")

    def _park(self, token: Any, connection: Any) -> None:
        session: Session = connection._session
        if session.cursors:
            cursors, session.cursors = session.cursors, set()
            for reference in list(cursors):
                refuse_cursor(reference(), self._driver.interface_error)
        connection._pool = None
        connection.__class__ = self._parked
        self._hosted.release(token, connection)

    def reclaim(self, connection: Any, token: Any, reason: str) -> None:
        """Ends the loan of a borrower that is gone. Runs in finalizers: it must not wait, nor log."""
        session: Session = connection._session
        if session.pid != os.getpid():  # at a fork, before _process knows
            return
        try:
            session.loan.remove(token)
        except ValueError:
            return  # given back meanwhile
        session.borrower = None
        self._hosted.reports.append(f"a connection was not given back: {reason}")
        # An open transaction is not to wait for the next borrower: the server ends it with the session.
        if self._driver.status(connection) == IDLE and not session.is_unfit and not session.cancels:
            session.reclaimed = True
            self._park(token, connection)
        else:
            self._hosted.discard(token, connection)

    def guard(self, cursor: Any) -> None:
        """For cursors that the connection's `cursor` did not make."""
        watch_cursor(cursor.connection, cursor, is_named=True)

    # ---------------------------------------------------------------------------------------------- life of a pool

    def resize(self, min_size: int, max_size: int) -> None:
        """New limits; idle connections above max_size close now, lent ones when they are given back."""
        self._translated(self._hosted.resize, min_size, max_size)

    def reconnect(self) -> None:
        """All connections are renewed: idle ones now, lent ones when they are given back."""
        self._translated(self._hosted.reconnect)

    def pause(self) -> None:
        """From now on getconns queue until their deadline, then raise PoolPaused. Loans go on."""
        self._translated(self._hosted.pause)

    def resume(self) -> None:
        """End a pause, and serve those who wait."""
        self._translated(self._hosted.resume)

    def close(self) -> None:
        """Idle connections are closed now, lent ones when they are given back. Who waits gets PoolClosed."""
        if self._hosted.is_lending():
            gc.collect()  # owners that are garbage, in a cycle
        self._hosted.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._hosted.closed

    @property
    def name(self) -> str | None:
        """The name that was given."""
        return self._hosted.name

    def stats(self) -> PoolStats:
        """Counts and times. Raises PoolClosed."""
        found: PoolStats = self._translated(self._hosted.stats)
        return found

    def _translated(self, call: Callable[..., Any], *arguments: Any) -> Any:
        try:
            return call(*arguments)
        except errors.Error as error:
            raise self._driver.failure(error) from None

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a pool is not to be copied or pickled: share it between threads, make one in each process")

    def __repr__(self) -> str:
        return f"<dbpool.{type(self).__name__} {self._hosted.counts()}>"


def _share(seconds: float) -> float:
    """How long one check may take of what is left for all: another connection may do better."""
    return max(_LEAST_CHECK_SECONDS, min(_CHECK_SECONDS, seconds / 2 if seconds > 1 else seconds))


def notice(connection: Any, error: Any, sqlstate: str | None) -> None:
    """An error that a connection raises, lent or not."""
    pool = getattr(connection, "_pool", None)
    if pool is not None and sqlstate is not None:
        pool.judge(connection, sqlstate, error.diag.severity_nonlocalized)


def cancelling(connection: Any, request: Callable[..., Any], *arguments: Any, **options: Any) -> Any:
    """Makes a request to cancel what the connection does."""
    cancels = connection._session.cancels
    cancels.append(None)
    try:
        return request(*arguments, **options)
    finally:
        cancels.pop()


def watch_cursor(connection: Any, cursor: Any, is_named: bool) -> None:
    """At the end of the loan the cursor is refused, and what the server keeps for it is closed."""
    session: Session = connection._session
    if is_named:
        session.has_named_cursor = True
    session.cursors.add(weakref.ref(cursor, session.cursors.discard))
