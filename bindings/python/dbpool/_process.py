"""What belongs to the process: its pools, its fork and its end."""

from __future__ import annotations

import atexit
import os
import time
import weakref
from typing import TYPE_CHECKING

from . import _callbacks

if TYPE_CHECKING:
    from .pool import Pool

EXIT_SECONDS = 0.3

pid = os.getpid()
_pools: weakref.WeakValueDictionary[int, Pool] = weakref.WeakValueDictionary()


def remember(pool: Pool) -> None:
    _pools[id(pool)] = pool


def pools() -> list[Pool]:
    """The pools that are alive, closed ones included. A copy made in one step: other threads may add."""
    return [pool for pool in (reference() for reference in _pools.valuerefs()) if pool is not None]


def _after_fork_in_child() -> None:
    global pid
    pid = os.getpid()
    for pool in pools():
        pool._start_in_child()


def _before_exit() -> None:
    """No thread of the library may enter an interpreter that is being taken apart: the pools that call into Python
    are closed, and their last calls awaited, but not for long."""
    for pool in pools():
        if pool._calls_python and not pool.closed:
            pool.close()
    deadline = time.monotonic() + EXIT_SECONDS
    while _callbacks.any_active() and time.monotonic() < deadline:
        time.sleep(0.001)


os.register_at_fork(after_in_child=_after_fork_in_child)
atexit.register(_before_exit)
