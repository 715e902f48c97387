"""A borrowed connection."""

from __future__ import annotations

import os
import sys
import warnings
from collections.abc import Iterator
from typing import TYPE_CHECKING, NoReturn

from . import _lib, _process
from ._callbacks import Connection
from .errors import NotLeased

if TYPE_CHECKING:
    from .pool import Pool


class Loan(Connection):
    """A connection borrowed from a pool: what `Pool.get` returns.

    It stands for the address of a `PGconn`: pass it to ctypes functions as it is, to others as `int(loan)`. It is
    given back once, with `Pool.put` or `Pool.discard`; afterwards it is false, ctypes functions get NULL from it, and
    `int(loan)` raises NotLeased. One that is forgotten goes back when it is garbage-collected, with a ResourceWarning;
    in a forked child and at the end of the interpreter nothing is done.

    A loan may be handed from thread to thread; the connection itself is for one thread at a time, as in libpq.
    """

    # `_once` yields the address, and is exhausted afterwards. `next(map(function, (handle,), loan._once), None)` takes
    # it and calls the library in one step of the interpreter: no other thread and no signal handler comes in between.
    __slots__ = ("_once", "_pid", "_pool")

    _once: Iterator[int]
    _pid: int
    _pool: Pool | None

    def _lent_by(self, pool: Pool, pid: int) -> None:
        self._pid = pid
        self._pool = pool
        self._once = iter((self.value or 0,))

    def __int__(self) -> int:
        address = self.value
        if not address:
            raise _lib.local_failure(NotLeased, "this loan was put back")
        return address

    __index__ = __int__

    def __repr__(self) -> str:
        address = self.value
        return f"<dbpool.Loan {address:#x}>" if address else "<dbpool.Loan, put back>"

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a loan is not to be copied: there is one connection")


class LiveLoan(Loan):
    """What the library's calls return. Giving it back turns it into a plain Loan, which has no finalizer: Python
    swallows the exception of a signal handler that happens to run in one, so they are for the lost only."""

    __slots__ = ()

    def __del__(self) -> None:
        if self:
            _give_back(self)


def _give_back(loan: Loan) -> None:
    if sys.is_finalizing() or getattr(loan, "_pid", _process.pid) != os.getpid():
        return
    address = loan.value
    pool = getattr(loan, "_pool", None)
    if pool is not None and hasattr(loan, "_once"):
        found = next(map(_lib.put, (pool._handle,), loan._once), None) == 0
    else:
        # A signal handler's exception cut it off before it knew its pool. The library tells whose it is, and does not
        # touch what is foreign.
        found = any(_lib.put(other._handle, loan) == 0 for other in _process.pools())
    loan._pool = None
    loan.value = None
    if found:
        warnings.warn(f"a loan was never put back: {address:#x}", ResourceWarning, stacklevel=3, source=loan)


_lib.lend_as(LiveLoan, Loan)
