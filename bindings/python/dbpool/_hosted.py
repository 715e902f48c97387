"""A pool of connection objects that a Python driver makes: the library's hosted pool, with the objects by slot.

It knows no driver. What opens, watches and closes the objects is a `Driver`.
"""

from __future__ import annotations

import contextlib
import functools
import gc
import logging
import os
import sys
import threading
import time
import weakref
from collections import deque
from typing import Any, Callable, NoReturn

from . import _collector, _lib, _opening, _process, _stats, _waiting
from ._deadline import Deadline
from ._driver import Driver, is_permanent
from ._stats import PoolStats
from ._values import Duration, c_text, choice, integer, milliseconds
from .errors import ConnectError, Error, ForkedConnection, NotLeased, PoolClosed, PoolPaused, PoolTimeout

# Of a wait for what is under way.
_SLICE_MS, _LONGEST_TRY = 50, 20.0

_logger = logging.getLogger("dbpool.pool")

# connection_failure
_CONNECTION_FAILURE = b"08006"

# Which of them, nobody can tell from outside.
NO_ANSWER = "the name is not resolved yet, or the server has not finished the login"

_NEVER = 0
# Of a token: its slot, and the flags that make its object unfit to be lent as it is. Objects are kept by slot, with
# no flag, so that one look-up finds both what is lent and that it may be.
SLOT = _lib.TOKEN_SLOT
SLOT_AND_FLAGS = _lib.TOKEN_SLOT | _lib.TOKEN_FRESH
TOKEN = _lib.Token
# A wait without a deadline looks for lost loans after this time. Looks take at most one part in so many of the time.
_LOOK_AFTER_MS = 30_000
_LOOK_SHARE = 20
# A slot counts until the server has closed its end, which takes no longer while that is well.
_CLOSING_MS = 200

_pools: weakref.WeakValueDictionary[int, HostedPool] = weakref.WeakValueDictionary()
# What a forked child inherited: never freed, and so never closed.
_graveyard: list[object] = []


class Opening:
    """The way from an empty slot to a connection: what can take long runs on a thread of its own. Once the borrower has
    given up (`is_left`) the slot is that thread's, until it comes back."""

    def __init__(self, pool: HostedPool, token: _lib.Token, patience: Deadline) -> None:
        self.token = token
        self.is_left = False
        self._pool = weakref.ref(pool)  # a connect that hangs does not keep it
        self._driver = pool._driver
        self.patience = patience

    def connect(self) -> Any:
        """By the driver."""
        driver = self._driver
        if not _opening.is_possible():
            return driver.connect(self.seconds_left())
        try:
            return self.run(functools.partial(driver.connect, None), self._leave)
        except _opening.NoThread:
            return driver.connect(self.seconds_left())

    def seconds_left(self) -> float | None:
        return self.patience.seconds_left()

    def run(self, work: Callable[[], Any], leave: _opening.Leave) -> Any:
        """`work()` on another thread. Raises what it raises, or GivenUp: then `leave` gets the outcome and the slot."""
        if self.is_left:
            raise _opening.GivenUp(0)
        attempt = _opening.Attempt(work, leave)
        self._note()
        try:
            return attempt.result(self.seconds_left())
        finally:
            self.is_left = attempt.is_left
            if not self.is_left:
                self._forget()

    def _note(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool.attempts[self] = time.monotonic()

    def _forget(self) -> None:
        pool = self._pool()
        if pool is not None:
            pool.attempts.pop(self, None)

    def _leave(self, connection: Any, error: BaseException | None) -> None:
        self._forget()
        pool = self._pool()
        if pool is None:
            if connection is not None:
                self._driver.close(connection)
        elif error is None:
            pool.feed(self.token, connection)
        elif isinstance(error, Exception):
            pool.failed(self.token, error)
        else:
            self.give_back()

    def give_back(self) -> None:
        """The slot, empty."""
        self._forget()
        pool = self._pool()
        if pool is not None:
            _lib.discard(pool.handle, self.token)
        self.token.__class__ = TOKEN


class HostedPool:
    """A pool of objects. Durations are seconds, or texts such as "30m"; every method may be called by every thread.

    In a forked child it starts empty, and what was lent before is forgotten there.

    `acquire` and `release` lose no slot, whatever exception cuts them off, or their callers. To those for whom they are
    too dear, `handle`, `objects` (the idle ones, by slot), `token(value)`, `acquire_slowly`, `answered` and `lost` are
    what they are made of.
    """

    def __init__(
        self,
        driver: Driver,
        *,
        name: str | None = None,
        min_size: int = 0,
        max_size: int = 10,
        max_waiting: int = 0,
        acquire_timeout: Duration | None = 30,
        max_lifetime: Duration | None = 1800,
        idle_timeout: Duration | None = 600,
        queue_mode: str = "lifo",
        connect_concurrency: int = 0,
    ) -> None:
        self._closed = True
        self._driver = driver
        self._name = name
        self._timeout_ms = _limit(acquire_timeout, "acquire_timeout", _lib.TIMEOUT_INFINITE)
        options = _lib.new_options()
        options.name = None if name is None else c_text(name, "name")
        options.min_size = integer(min_size, "min_size")
        options.max_size = integer(max_size, "max_size")
        options.max_waiting = integer(max_waiting, "max_waiting")
        options.acquire_timeout_ms = self._timeout_ms
        options.max_lifetime_ms = _limit(max_lifetime, "max_lifetime", _NEVER)
        options.idle_timeout_ms = _limit(idle_timeout, "idle_timeout", _NEVER)
        options.queue_mode = choice(queue_mode, "queue_mode", _lib.QUEUE_MODES)
        options.connect_concurrency = integer(connect_concurrency, "connect_concurrency")
        self.objects: dict[int, Any] = {}
        # What finalizers have to say: they must not log.
        self.reports: deque[str] = deque()
        self._start_counting()
        self._pid = _process.pid
        self.handle = _lib.create_hosted(options)
        self._declare_calls()
        self._closed = False
        _pools[id(self)] = self

    def _declare_calls(self) -> None:
        self.token = _live_token(self)
        self._tries, self._get, self._get_wait, self._put = _lib.hosted_calls(self.handle, self.token)

    def _start_counting(self) -> None:
        # Of the last attempt to connect, if it failed.
        self._last_cause: str | None = None
        self._retries = 0
        self._retries_lock = threading.RLock()  # a signal handler may use the pool
        self._collecting = _collector.original("_thread", "RLock")()
        # When attempts to connect began that are under way.
        self.attempts: dict[Opening, float] = {}

    def _start_in_child(self) -> None:
        _graveyard.append(self.objects)
        self.objects = {}
        self.reports.clear()
        self._start_counting()
        self._pid = _process.pid
        self._declare_calls()

    # ------------------------------------------------------------------------------------------------ borrowing

    def acquire(self, timeout: Duration | None = None) -> tuple[_lib.Token, Any]:
        """Borrow: `(token, connection)`. The pool holds neither while they are lent: a token that is dropped ends the
        loan. Keep it beside the connection, or in it.

        timeout: None = acquire_timeout; 0 = only what is there at once, or can be opened; math.inf = no deadline. A
        connect that failed for a time is tried again until the deadline, then the driver's error is raised; one that
        will not go away is raised at once. Errors of the pool: `driver.failure(error)`.
        """
        for token in self._tries:  # noqa: B007 - the call and the name in one step: nothing comes in between
            break
        if token:
            connection = self.objects.pop(token.value & SLOT_AND_FLAGS, None)
            if connection is not None:
                return token, connection
        return self.acquire_slowly(token, timeout)

    def acquire_slowly(self, token: _lib.Token, timeout: Duration | None = None) -> tuple[_lib.Token, Any]:
        """What `acquire` does with a token that is null or fresh."""
        if self.reports:
            self.report()
        timeout_ms = self._timeout_ms
        if timeout is not None:
            timeout_ms = milliseconds(timeout, "timeout", infinite=_lib.TIMEOUT_INFINITE)
        deadline = Deadline(timeout_ms)
        patience = deadline if timeout_ms else Deadline.of(self._driver.usual_seconds)
        return self._acquire(token, deadline, patience)

    def _acquire(self, token: _lib.Token, deadline: Deadline, patience: Deadline) -> tuple[_lib.Token, Any]:
        """`patience`: of a connect of its own."""
        failed: Exception | None = None
        try:
            while True:
                if not token:
                    token = self._wait(deadline, failed)
                connection = self.objects.pop(token.value & SLOT_AND_FLAGS, None)
                if connection is not None:
                    return token, connection
                if not token.value & _lib.TOKEN_FRESH:
                    # Its object was taken away by a late put of a loan that had ended: it is closed, or will be.
                    _lib.discard(self.handle, token)
                    token = next(self._tries)
                    continue
                if token.value & _lib.TOKEN_OCCUPIED and self._vacates(token, deadline):
                    token = _lib.NO_TOKEN
                    continue
                opening = Opening(self, token, patience)
                try:
                    return token, self._open(opening)
                except _opening.GivenUp as error:
                    raise self._given_up(opening, error.seconds, failed) from failed
                except Exception as error:
                    if opening.is_left:
                        raise
                    if not self._may_try_again(token, error) or deadline.is_over():
                        raise
                    failed, token = error, _lib.NO_TOKEN
        finally:
            failed = None  # its traceback has this frame

    def acquire_unless_all_are_lent(self) -> tuple[_lib.Token, Any]:
        """`acquire` for who does not want to wait for borrowers, but for what is under way: a closed connection has its
        place until the server has closed its end, and of a server not known to answer one is opened at a time. For each
        place that is not lent one caller waits."""
        usual = self._driver.usual_seconds
        limit = time.monotonic() + (_LONGEST_TRY if usual is None else min(_LONGEST_TRY, usual))
        while time.monotonic() < limit:
            try:
                now = self.stats()
            except Error as error:
                raise self._driver.failure(error) from None
            if now.waiting >= now.max_size - now.in_use:
                break
            is_something_under_way = now.connecting + now.closing > 0
            try:
                wait_ms = _SLICE_MS if is_something_under_way else 0
                return self._acquire(next(self._tries), Deadline(wait_ms), Deadline.of(usual))
            except PoolTimeout:
                continue
            except ConnectError as error:
                if not is_something_under_way or isinstance(error.__context__, _opening.GivenUp):
                    raise
        return self.acquire(0)

    def release(self, token: _lib.Token, connection: Any) -> None:
        """Give back an idle connection, out of any transaction; closed here when the pool says so, or is closed.
        A loan from before a fork: nothing is done. Raises driver.failure(NotLeased) when given back before."""
        if token.__class__ is TOKEN:  # ended before: another loan's object may have the slot by now
            raise self._driver.failure(_lib.local_failure(NotLeased, "this connection was given back before"))
        self.objects[token.value & SLOT] = connection  # before the put: then it is the next borrower's
        code = self._put(token)
        if code:
            self.answered(token, code)
        token.__class__ = TOKEN

    def discard(self, token: _lib.Token, connection: Any) -> None:
        """Give back a broken connection: it is closed here. As `release`."""
        code = self.ends(token, connection)
        if code:
            self._refused(code)
        else:
            self._driver.close(connection)
        token.__class__ = TOKEN

    def ends(self, token: _lib.Token | int, connection: Any) -> int:
        """Ends the loan of what is to be closed; the library's answer. Told that the session is lost, the library lets
        one caller at a time connect until it knows of the server: at the beginning of an outage all come at once."""
        if connection is not None and self._driver.is_lost(connection):
            _lib.report(self.handle, token, _CONNECTION_FAILURE)
        code: int = _lib.discard(self.handle, token)
        return code

    def report_error(self, token: _lib.Token, sqlstate: str) -> bool:
        """Tell of an error of the server on a lent connection. True: it is closed when it is given back, because its
        session ends or its server takes no writes."""
        code = _lib.report(self.handle, token, sqlstate.encode("ascii", "replace"))
        if code < 0:
            self._refused(code)
        return bool(code == _lib.CLOSE)

    def answered(self, token: _lib.Token, code: int) -> None:
        """Does what the library answered to a put."""
        if code == ForkedConnection.code:
            _graveyard.append(self.objects.pop(token.value & SLOT, None))
        elif code < 0:
            self._refused(code)
        elif code & _lib.CLOSE:
            self._close_object(token)

    def _refused(self, code: int) -> None:
        if code != ForkedConnection.code:
            raise self._driver.failure(_lib.failure(code))

    def _close_object(self, token: _lib.Token) -> None:
        self._close_old(token)
        _lib.discard(self.handle, token)

    def lost(self, token: _lib.Token) -> None:
        """Of a token that is garbage: ends the loan, unless it has ended. Runs in finalizers, so it must not wait."""
        connection = self.objects.get(token.value & SLOT)
        if _lib.discard(self.handle, token) == 0:
            self.reports.append("a connection was dropped, not given back")
            if connection is not None:
                self._driver.close(connection)

    def report(self) -> None:
        """Logs what finalizers had to say."""
        while self.reports:
            with contextlib.suppress(IndexError):  # another thread was quicker
                _logger.warning("%s: %s", self.label, self.reports.popleft())

    # -------------------------------------------------------------------------------------------- waiting, opening

    def _wait(self, deadline: Deadline, failed: Exception | None) -> _lib.Token:
        """The next grant. What the driver said when this caller's own connect failed counts for more than what the
        library knows."""
        left_ms = deadline.left_ms()
        if left_ms == 0 and failed:
            raise failed
        try:
            self._count_retry()
            if left_ms == 0:
                granted: _lib.Token = self._get(0)
                return granted
            return self._queue(deadline, left_ms)
        except (PoolTimeout, ConnectError) as error:
            raise failed or self._driver.failure(self._explained(error)) from None
        except Error as error:
            raise self._driver.failure(error) from None

    def _explained(self, error: Error) -> Error:
        """With what is known of attempts that others began."""
        starts = list(self.attempts.values())
        if not starts or not isinstance(error, ConnectError):
            return error
        return ConnectError(f"{error}; an attempt takes {time.monotonic() - min(starts):.3g} s by now: {NO_ANSWER}")

    def _queue(self, deadline: Deadline, left_ms: int) -> _lib.Token:
        if left_ms == _lib.TIMEOUT_INFINITE:
            return self._queue_without_end()
        try:
            return self._borrow(left_ms)
        except PoolTimeout:
            if not self._finds_garbage() or not deadline.extend(_CLOSING_MS):
                raise
        self._count_retry()
        return self._borrow(_CLOSING_MS)

    def _queue_without_end(self) -> _lib.Token:
        while True:
            try:
                return self._borrow(_LOOK_AFTER_MS)
            except (PoolTimeout, ConnectError, PoolPaused):
                self._finds_garbage()
                self._count_retry()

    def _borrow(self, wait_ms: int) -> _lib.Token:
        if _waiting.may_block():
            granted: _lib.Token = self._get(wait_ms)
        else:
            granted = _waiting.borrow_by(self._get_wait, self.handle, wait_ms)
        return granted

    def _finds_garbage(self) -> bool:
        """Whether there were loans that are garbage, in a cycle. Their slots come free when the server has closed its
        end."""
        self.report()
        _collect_garbage()
        return bool(self.reports)

    def _count_retry(self) -> None:
        with self._retries_lock:
            self._retries += 1

    def _vacates(self, token: _lib.Token, deadline: Deadline) -> bool:
        """True: the object of an occupied slot is closed, and the slot given back, which counts until the server has
        closed its end: it never has one session too many. The caller's turn comes again."""
        if deadline.is_over() and not deadline.extend(_CLOSING_MS):
            return False
        self._close_object(token)
        token.__class__ = TOKEN
        return True

    def _close_old(self, token: _lib.Token) -> None:
        """The object that the slot has, if any."""
        before = self.objects.pop(token.value & SLOT, None)
        if before is not None:
            self._driver.close(before)

    def _open(self, opening: Opening) -> Any:
        _collector.watch(self)
        driver, token = self._driver, opening.token
        self._close_old(token)
        connection = None
        try:
            connection = driver.connect_here(opening) if driver.connects_in_caller else opening.connect()
            self._adopt(token, driver.fileno(connection))
        except BaseException as error:
            if connection is not None:
                driver.close(connection)
            if not isinstance(error, Exception) and not opening.is_left:
                _lib.discard(self.handle, token)
            raise
        return connection

    def _given_up(self, opening: Opening, seconds: float | None, failed: Exception | None) -> Exception:
        if seconds is None:
            return self._driver.failure(_lib.local_failure(ConnectError, "the process was forked meanwhile"))
        return self._driver.failure(self.cut_off(opening, seconds, failed))

    def cut_off(self, opening: Opening, seconds: float, failed: Exception | None = None) -> Error:
        """A connect takes longer than the `seconds` that the caller had left for it. Told with the failure of the
        attempt before, this caller's or another's: when the time left was short, that is all there is to know."""
        given = opening.patience.given_seconds
        detail = f"no connection in {given:g} s: connecting takes longer than the {seconds:.3g} s left: {NO_ANSWER}"
        cause = self._last_cause if failed is None else self._driver.message(failed)
        if cause:
            detail = f"{detail}; the attempt before: {cause}"
        return _lib.local_failure(ConnectError, detail)

    def feed(self, token: _lib.Token, connection: Any) -> None:
        """A connection whose borrower has given up goes to the pool."""
        try:
            self._adopt(token, self._driver.fileno(connection))
            self._driver.feed(token, connection)
            self.release(token, connection)
        except Exception as error:
            self._driver.close(connection)
            _lib.discard(self.handle, token)
            token.__class__ = TOKEN
            _logger.info("%s: a connection that came late was closed: %s", self.label, type(error).__name__)

    def failed(self, token: _lib.Token, error: Exception) -> None:
        """The connect of a borrower that has given up has failed."""
        self._may_try_again(token, error)

    def _adopt(self, token: _lib.Token, descriptor: int) -> None:
        try:
            _lib.adopt(self.handle, token, descriptor)
            self._last_cause = None
        except Error as error:
            raise self._driver.failure(error) from None

    def _may_try_again(self, token: _lib.Token, error: Exception) -> bool:
        """Gives back the slot of a connection that could not be opened."""
        sqlstate = self._driver.sqlstate(error)
        self._last_cause = self._driver.message(error)
        _lib.fail(self.handle, token, _encoded(sqlstate), _encoded(self._last_cause))
        token.__class__ = TOKEN
        return isinstance(error, self._driver.transient) and not is_permanent(sqlstate)

    # ---------------------------------------------------------------------------------------------- life of a pool

    def resize(self, min_size: int, max_size: int) -> None:
        """New limits; idle connections above max_size close now, lent ones when they are given back."""
        _lib.resize(self.handle, integer(min_size, "min_size"), integer(max_size, "max_size"))
        self.collect()

    def reconnect(self) -> None:
        """All connections are renewed: idle ones now, lent ones when they are given back."""
        _lib.reconnect(self.handle)
        self.collect()

    def drain(self, timeout: Duration = 30) -> None:
        """Pause, close what is idle or is given back, wait until none is left. Raises PoolTimeout, Canceled."""
        _waiting.drained(self.handle, milliseconds(timeout, "timeout", infinite=_lib.TIMEOUT_INFINITE))

    def pause(self) -> None:
        """From now on acquires queue until their deadline. Loans go on."""
        _lib.pause(self.handle)

    def resume(self) -> None:
        """End a pause or drain."""
        _lib.resume(self.handle)

    def close(self) -> None:
        """Idle connections are closed before this returns, lent ones when they are given back."""
        self._closed = True
        with contextlib.suppress(PoolClosed):
            _lib.close(self.handle)
        self.collect()

    def is_lending(self) -> bool:
        return not self._closed and self.stats().in_use > 0

    def collect(self) -> int:
        """Closes the idle objects that the library wants closed; how many there were."""
        found = 0
        with self._collecting:  # so that `close` returns when all are closed
            while tokens := _lib.collect_now(self.handle):
                for token in tokens:
                    self._close_object(token)
                found += len(tokens)
        return found

    def __del__(self) -> None:
        if not getattr(self, "_closed", True) and self._pid == os.getpid() and not sys.is_finalizing():
            self.close()

    @property
    def closed(self) -> bool:
        """Whether `close` was called."""
        return self._closed

    @property
    def name(self) -> str | None:
        """The name that was given."""
        return self._name

    @property
    def label(self) -> str:
        """For the log."""
        return "pool" if self._name is None else f"pool {self._name!r}"

    def stats(self) -> PoolStats:
        """Counts and times. Raises PoolClosed."""
        if self._closed:
            raise _lib.local_failure(PoolClosed, "there are no statistics any more")
        return _stats.read(self.handle, self._retries)

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a pool is not to be copied or pickled: share it between threads, make one in each process")

    def __repr__(self) -> str:
        return f"<dbpool.HostedPool {self.counts()}>"

    def counts(self) -> str:
        """The name and the gauges, for a repr."""
        name = "" if self._name is None else f"{self._name!r} "
        try:
            now = self.stats()
        except Error:
            return f"{name}closed"
        return f"{name}idle={now.idle} in_use={now.in_use} waiting={now.waiting} total={now.total} max={now.max_size}"


_next_look = 0.0


def _collect_garbage() -> None:
    """Not all the time, however many waits fail: it stops all threads."""
    global _next_look
    start = time.monotonic()
    if start >= _next_look:
        gc.collect()
        _next_look = start + _LOOK_SHARE * (time.monotonic() - start)


def _live_token(pool: HostedPool) -> type[_lib.Token]:
    """The class of the pool's tokens. It has a finalizer, so that no loan is lost, and knows the pool by itself, so
    that nothing has to be told to a token. `release` makes a plain one of it: Python swallows the exception of a signal
    handler that happens to run in a finalizer, so they are for the lost only.

    A forked child has a class of its own: what its parent has borrowed is not lost there, and must not wake the
    library, which starts its threads with its first call."""
    reference, home = weakref.ref(pool), os.getpid()

    class LiveToken(_lib.Token):
        __slots__ = ()

        def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
            pool = None if is_finalizing() or not self or os.getpid() != home else reference()
            if pool is not None:
                pool.lost(self)

    return LiveToken


def _after_fork_in_child() -> None:
    for pool in list(_pools.values()):
        pool._start_in_child()


os.register_at_fork(after_in_child=_after_fork_in_child)


def _encoded(text: str | None) -> bytes | None:
    return None if text is None else text.encode("utf-8", "replace")


def _limit(value: Duration | None, field: str, none: int) -> int:
    """A duration that may be absent."""
    return none if value is None else milliseconds(value, field, infinite=none)
