"""A request to cancel that is still on its way when its connection is given back."""

from __future__ import annotations

import ctypes
import threading
import time
from typing import Any

import pq
from failures import QueryFailed
from table import OURS, fault
from trial import TIMEOUT, Trial

DELAY = 0.3
ROUNDS = 5


def cancel(pool: Any, connection: Any) -> None:
    """As a user would; returns when the server has taken the request."""
    if hasattr(connection, "cancel"):
        connection.cancel()
        return
    library = pq.library
    library.PQgetCancel.restype, library.PQgetCancel.argtypes = ctypes.c_void_p, (ctypes.c_void_p,)
    library.PQcancel.argtypes = (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_int)
    library.PQfreeCancel.argtypes = (ctypes.c_void_p,)
    request = library.PQgetCancel(connection)
    library.PQcancel(request, ctypes.create_string_buffer(256), 256)
    library.PQfreeCancel(request)


@fault("F21", "late cancel: the connection is given back before it has arrived", cancelled=0, pools=OURS)
def late_cancel(trial: Trial) -> None:
    """The native pool lends a bare PGconn and cannot see a PQcancel: there its user says pool_discard."""
    proxy = trial.proxy()
    pool = trial.pool(proxy, min_size=1, max_size=1)
    cancelled = 0
    for _ in range(ROUNDS):
        connection = pool.get(TIMEOUT)
        pool.query(connection, "SELECT 1")
        proxy.mode("delay", "new", seconds=DELAY)
        before = len(proxy.attempts())
        request = threading.Thread(target=cancel, args=(pool, connection))
        request.start()
        assert trial.until(lambda: len(proxy.attempts()) > before, 5) is not None, "no request to cancel"  # noqa: B023
        proxy.mode("pass", "new")
        if pool.lends_pgconn:
            pool.discard(connection)
        else:
            pool.put(connection)
        try:
            connection = pool.get(TIMEOUT)
            pool.query(connection, f"SELECT pg_sleep({DELAY * 2})")
        except QueryFailed as error:
            cancelled += error.sqlstate == "57014"
        finally:
            pool.put(connection)
        request.join()
    trial.errors = cancelled
    trial.at_most("queries of the next that were cancelled", cancelled, trial.criteria["cancelled"])
    trial.settled(pool, 1)


@fault("F21w", "cancel that has ended before the connection is given back", quick=True, cancelled=0, pools=OURS)
def cancel_waited_for(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1)
    cancelled = 0
    end = time.monotonic() + 1
    while time.monotonic() < end:
        connection = pool.get(TIMEOUT)
        cancel(pool, connection)
        pool.put(connection)
        connection = pool.get(TIMEOUT)
        try:
            pool.query(connection, "SELECT pg_sleep(0.01)")
        except QueryFailed as error:
            cancelled += error.sqlstate == "57014"
        pool.put(connection)
    trial.errors = cancelled
    trial.at_most("queries of the next that were cancelled", cancelled, trial.criteria["cancelled"])
