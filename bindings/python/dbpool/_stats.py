"""The statistics of a pool."""

from __future__ import annotations

from typing import NamedTuple

from . import _lib


class PoolStats(NamedTuple):
    """One consistent copy, with the names of dbpool.h.

    `min_size` to `paused` and `stuck_connectors` are counts of now, the others grow from the making of the pool (in a
    forked child: from its first use there). `..._us` are microseconds.
    """

    min_size: int
    max_size: int
    total: int
    idle: int
    in_use: int
    connecting: int
    resetting: int
    closing: int
    waiting: int
    paused: bool
    gets: int
    puts: int
    waits: int
    timeouts: int
    cancels: int
    rejected: int
    opened: int
    connect_failures: int
    lost: int
    expired: int
    idle_closed: int
    discarded: int
    resets: int
    reset_failures: int
    checks: int
    check_failures: int
    leaks: int
    log_drops: int
    internal_errors: int
    stuck_connectors: int
    wait_us: int
    wait_max_us: int
    use_us: int
    connect_us: int


def read(handle: int, retries: int) -> PoolStats:
    """`retries`: failed tries that were followed by a wait, which the library counts as timeouts."""
    native = _lib.read_stats(handle)
    result = PoolStats(*(getattr(native, name) for name in PoolStats._fields))
    return result._replace(paused=bool(result.paused), timeouts=max(0, result.timeouts - retries))
