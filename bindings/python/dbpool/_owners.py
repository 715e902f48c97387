"""Loans whose borrower is gone come back by themselves: its thread has ended, or the object that holds the loan, its
owner, is garbage.

The end of a thread is seen at once: an object in its `threading.local` is finalized (under gevent or eventlet that of
a greenlet is). Finalizers run anywhere, also in the middle of another call of the pool, so what they do must not wait.
"""

from __future__ import annotations

import sys
import threading
import weakref
from typing import Any, Callable

from ._waiting import is_eventlet_at_work

# Made at the first loan: gevent or eventlet may replace threading.local after this module is imported.
_threads: threading.local | None = None


class Borrower:
    """Who has a loan. Keeps neither the connection nor the owner alive; the connection keeps this."""

    __slots__ = ("_connection", "_loans", "_owner", "_thread", "_token")

    _connection: Callable[[], Any]
    _owner: Callable[[], object]

    def __init__(self, connection: Any, token: Any, owner: object) -> None:
        self._thread = threading.current_thread().name
        self._loans = _loans_of_this_thread() if _lives_here(owner) else set()
        self._connection = weakref.ref(connection, self._forget)
        self._token = weakref.ref(token)
        self._owner = weakref.ref(owner, self._owner_is_gone)
        self._loans.add(self)

    def _forget(self, _reference: object = None) -> None:
        self._loans.discard(self)

    def end(self) -> None:
        """The loan was given back."""
        self._loans.discard(self)
        self._owner = self._connection = _nothing

    def _owner_is_gone(self, _reference: object) -> None:
        self._reclaim("its owner is garbage")

    def thread_ended(self) -> None:
        if not getattr(self._owner(), "keeps_loan", False):
            self._reclaim("the thread has ended")

    def _reclaim(self, reason: str) -> None:
        connection, token = self._connection(), self._token()
        pool = None if connection is None or token is None else connection._pool
        if pool is not None:
            pool.reclaim(connection, token, f"lent in thread {self._thread!r}, {reason}")


def _nothing() -> None:
    return None


def _lives_here(owner: object) -> bool:
    """Django's connections belong to the thread that made them; one of another thread is shared, and outlives this."""
    return getattr(owner, "_thread_ident", None) in (None, threading.get_ident())


class _Loans:
    """Of one thread. Lives in its locals alone."""

    def __init__(self) -> None:
        self.borrowers: set[Borrower] = set()

    def __del__(self, is_finalizing: Callable[[], bool] = sys.is_finalizing) -> None:
        if is_finalizing():
            return
        for borrower in list(self.borrowers):
            borrower.thread_ended()


def _loans_of_this_thread() -> set[Borrower]:
    place = _locals()
    loans: _Loans | None = getattr(place, "_dbpool_loans", None)
    if loans is None:
        loans = place._dbpool_loans = _Loans()
    return loans.borrowers


def _locals() -> Any:
    global _threads
    if is_eventlet_at_work():
        # Its `threading.local` keeps what a greenlet had until another one comes to look.
        return sys.modules["eventlet"].getcurrent()
    if _threads is None:
        _threads = threading.local()
    return _threads
