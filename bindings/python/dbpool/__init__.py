"""A connection pool for PostgreSQL, over the native library libdbpool: see `Pool`."""

from __future__ import annotations

from ._callbacks import Connection
from ._lib import library_path, library_version
from ._stats import PoolStats
from ._values import Duration
from ._version import __version__
from .errors import (
    Canceled,
    ConnectError,
    Error,
    ForeignConnection,
    ForkedConnection,
    InternalError,
    InvalidArgument,
    NotLeased,
    OutOfMemory,
    PoolClosed,
    PoolPaused,
    PoolTimeout,
    SystemFailure,
    TooManyWaiting,
    WouldDeadlock,
)
from .loan import Loan
from .pool import Pool

__all__ = [
    "Canceled",
    "ConnectError",
    "Connection",
    "Duration",
    "Error",
    "ForeignConnection",
    "ForkedConnection",
    "InternalError",
    "InvalidArgument",
    "Loan",
    "NotLeased",
    "OutOfMemory",
    "Pool",
    "PoolClosed",
    "PoolPaused",
    "PoolStats",
    "PoolTimeout",
    "SystemFailure",
    "TooManyWaiting",
    "WouldDeadlock",
    "__version__",
    "library_path",
    "library_version",
]
