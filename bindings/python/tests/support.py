"""Queries through libpq, waits for events, and programs of their own."""

from __future__ import annotations

import ctypes
import importlib.util
import os
import subprocess
import sys
import textwrap
import threading
import time
import traceback
from unittest import SkipTest

_libpq = ctypes.CDLL("libpq.so.5")
for _name, _result, _arguments in (
    ("PQexec", ctypes.c_void_p, (ctypes.c_void_p, ctypes.c_char_p)),
    ("PQresultStatus", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQgetvalue", ctypes.c_char_p, (ctypes.c_void_p, ctypes.c_int, ctypes.c_int)),
    ("PQntuples", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQerrorMessage", ctypes.c_char_p, (ctypes.c_void_p,)),
    ("PQclear", None, (ctypes.c_void_p,)),
    ("PQtransactionStatus", ctypes.c_int, (ctypes.c_void_p,)),
    ("PQsendQuery", ctypes.c_int, (ctypes.c_void_p, ctypes.c_char_p)),
    ("PQbackendPID", ctypes.c_int, (ctypes.c_void_p,)),
):
    _function = getattr(_libpq, _name)
    _function.restype, _function.argtypes = _result, _arguments

_COMMAND_OK, _TUPLES_OK = 1, 2


def scaled(count):
    """Of a test that does the same many times: fewer where DBPOOL_TEST_SCALE says so."""
    return max(5, count // int(os.environ.get("DBPOOL_TEST_SCALE", "1")))


class QueryError(Exception):
    pass


def query(conn, sql):
    """The first value of the first row, as text; None if there is no row."""
    result = _libpq.PQexec(conn, sql.encode())
    try:
        if _libpq.PQresultStatus(result) not in (_COMMAND_OK, _TUPLES_OK):
            raise QueryError(_libpq.PQerrorMessage(conn).decode())
        return _libpq.PQgetvalue(result, 0, 0).decode() if _libpq.PQntuples(result) else None
    finally:
        _libpq.PQclear(result)


def is_idle(conn):
    return _libpq.PQtransactionStatus(conn) == 0


def backend_pid(conn):
    return _libpq.PQbackendPID(conn)


def send(conn, sql):
    """Leaves the result unread."""
    assert _libpq.PQsendQuery(conn, sql.encode()) == 1


def eventually(condition, seconds=5.0):
    """Waits for the event itself; the last value of the condition."""
    end = time.monotonic() + seconds
    while not (value := condition()) and time.monotonic() < end:
        time.sleep(0.002)
    return value


def shown(error, *without):
    """What a log with local variables tells of an error, but for the frames of these files."""
    told = traceback.TracebackException.from_exception(error, capture_locals=True)
    told.stack[:] = [frame for frame in told.stack if frame.filename not in without]
    return "".join(told.format())


class Thread(threading.Thread):
    """A started thread whose result, or exception, comes out of `finish`."""

    def __init__(self, function, *arguments):
        super().__init__(daemon=True)
        self._work = function, arguments
        self._outcome = None
        self.start()

    def run(self):
        function, arguments = self._work
        try:
            self._outcome = function(*arguments), None
        except BaseException as error:
            self._outcome = None, error

    def finish(self, seconds=10.0):
        self.join(seconds)
        assert not self.is_alive(), "the thread still runs"
        value, error = self._outcome
        if error is not None:
            raise error
        return value


_GREENLETS = {
    "gevent": """
        from gevent import monkey
        monkey.patch_all()
        from gevent import sleep, spawn
        result = lambda greenlet: greenlet.get(timeout=10)
    """,
    "eventlet": """
        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # that it is no longer developed
            import eventlet
        eventlet.monkey_patch()
        from eventlet import sleep, spawn
        result = lambda greenlet: greenlet.wait()
    """,
}


def under(kind):
    """How a program under gevent or eventlet begins: it has `spawn`, `sleep`, and `result` of what was spawned. Skips
    where that is not installed."""
    if importlib.util.find_spec(kind) is None:
        raise SkipTest(f"{kind} is not installed")
    return textwrap.dedent(_GREENLETS[kind])


def run_program(source, seconds=20.0, arguments=()):
    """Runs a program of its own: its standard output. It must end with 0 and write no error, and within one second
    after the line `END`, if it prints one."""
    process = subprocess.Popen(
        [sys.executable, *arguments, "-c", textwrap.dedent(source)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    killer = threading.Timer(seconds, process.kill)
    killer.start()
    output, ended = "", None
    try:
        for line in process.stdout:
            output += line
            if line == "END\n":
                ended = time.monotonic()
        errors = process.stderr.read()
        code = process.wait()
        took = 0 if ended is None else time.monotonic() - ended
    finally:
        killer.cancel()
        process.stdout.close()
        process.stderr.close()
        process.wait()
    assert (code, errors) == (0, ""), f"exit code {code}\n{output}\n{errors}"
    assert took <= 1.0, f"the end took {took:.2f} s"
    return output
