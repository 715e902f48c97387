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
    errors: list[QueryFailed] = []
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
            errors.append(error)
        finally:
            pool.put(connection)
        request.join()
    judge(trial, errors)
    trial.settled(pool, 1)


def judge(trial: Trial, errors: list[QueryFailed]) -> None:
    """Those of the next user: none was to be cancelled, nor to fail in any other way."""
    trial.errors = len(errors)
    cancelled = sum(error.sqlstate == "57014" for error in errors)
    trial.at_most("queries of the next that were cancelled", cancelled, trial.criteria["cancelled"])
    others = [str(error) for error in errors if error.sqlstate != "57014"]
    trial.check(not others, f"{len(others)} queries of the next fail: {others[:1]}")


@fault("F21w", "cancel that has ended before the connection is given back", quick=True, cancelled=0, pools=OURS)
def cancel_waited_for(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1)
    errors: list[QueryFailed] = []
    end = time.monotonic() + 1
    while time.monotonic() < end:
        connection = pool.get(TIMEOUT)
        cancel(pool, connection)
        pool.put(connection)
        connection = pool.get(TIMEOUT)
        try:
            pool.query(connection, "SELECT pg_sleep(0.01)")
        except QueryFailed as error:
            errors.append(error)
        pool.put(connection)
    judge(trial, errors)
