"""A borrowed connection."""

from __future__ import annotations

import os
import sys
import warnings
from typing import TYPE_CHECKING, NoReturn

from . import _lib, _process
from ._callbacks import Connection
from .errors import ForeignConnection, NotLeased

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

    # `_pool`: the pool, in a list of one, so that taking it out is one step and happens once, whatever the threads do.
    __slots__ = ("_pid", "_pool")

    _pid: int
    _pool: list[Pool]

    def _release_from(self, pool: Pool) -> None:
        """Once, and only for its own pool: it may be put now."""
        try:
            if self._pool[0] is pool:
                self._pool.pop()
                return
        except IndexError:
            raise _lib.local_failure(NotLeased, "this loan was put back before") from None
        raise _lib.local_failure(ForeignConnection, "this loan belongs to another pool")

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
    # Without a pool is one that a signal handler's exception cut off on its way to or from the caller. The library
    # tells whose it is, and does not touch what is foreign.
    owners = getattr(loan, "_pool", None) or _process.pools()
    found = any(_lib.put(pool._handle, loan) == 0 for pool in owners)
    loan.value, address = None, loan.value
    loan._pool = []
    if found:
        warnings.warn(f"a loan was never put back: {address:#x}", ResourceWarning, stacklevel=3, source=loan)


_lib.lend_as(LiveLoan, Loan)
