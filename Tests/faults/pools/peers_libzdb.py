"""libzdb through ctypes, in a process without another copy of libpq."""

from __future__ import annotations

import ctypes
import os
import threading
from ctypes import CFUNCTYPE, POINTER, byref, c_char_p, c_int, c_void_p
from typing import Any, Callable
from urllib.parse import quote

from failures import GetFailed, QueryFailed, Skip

from pools.base import BasePool

Handler = CFUNCTYPE(None, c_char_p)


def load() -> ctypes.CDLL:
    try:
        library = ctypes.CDLL(os.environ.get("LIBZDB", "libzdb.so.11"))
    except OSError as error:
        raise Skip(f"libzdb is not to be loaded (apt-get install libzdb11): {error}") from None
    for name, result, *arguments in (
        ("URL_new", c_void_p, c_char_p),
        ("ConnectionPool_new", c_void_p, c_void_p),
        ("ConnectionPool_setInitialConnections", None, c_void_p, c_int),
        ("ConnectionPool_setMaxConnections", None, c_void_p, c_int),
        ("ConnectionPool_setAbortHandler", None, c_void_p, Handler),
        ("ConnectionPool_start", None, c_void_p),
        ("ConnectionPool_stop", None, c_void_p),
        ("ConnectionPool_free", None, POINTER(c_void_p)),
        ("ConnectionPool_getConnection", c_void_p, c_void_p),
        ("Connection_close", None, c_void_p),
        ("Connection_getLastError", c_char_p, c_void_p),
        ("Connection_beginTransaction", None, c_void_p),
        ("Connection_execute", None, c_void_p, c_char_p, c_char_p),
        ("Connection_executeQuery", c_void_p, c_void_p, c_char_p, c_char_p),
        ("ResultSet_next", c_int, c_void_p),
        ("ResultSet_getColumnCount", c_int, c_void_p),
        ("ResultSet_getString", c_char_p, c_void_p, c_int),
    ):
        function = library[name]
        function.restype, function.argtypes = result, arguments
        setattr(library, name, function)
    return library


class LibzdbPeer(BasePool):
    refills = False

    def __init__(self, words: dict[str, Any], **options: Any) -> None:
        self.library = load()
        text = (
            f"postgresql://{words['host']}:{words['port']}/{words['dbname']}?user={quote(words['user'])}"
            f"&password={quote(words['password'])}&application-name={quote(words['application_name'])}"
            f"&connect-timeout={int(options['connect_timeout'])}"
        )
        self.pool = c_void_p(self.library.ConnectionPool_new(self.library.URL_new(text.encode())))
        self.library.ConnectionPool_setInitialConnections(self.pool, options["min_size"])
        self.library.ConnectionPool_setMaxConnections(self.pool, options["max_size"])
        # An exception that nobody catches comes here, and the function that threw it then returns.
        self.said = threading.local()
        self.handler = Handler(self._note)
        self.library.ConnectionPool_setAbortHandler(self.pool, self.handler)
        self.library.ConnectionPool_start(self.pool)

    def _note(self, message: bytes) -> None:
        self.said.message = (message or b"").decode(errors="replace")

    def get(self, timeout: float) -> Any:  # it has no timeout
        connection = self.library.ConnectionPool_getConnection(self.pool)
        if not connection:
            raise GetFailed("timeout", "NULL")
        return connection

    def put(self, connection: Any) -> None:
        self.library.Connection_close(connection)

    discard = put

    def _close(self) -> None:
        self.library.ConnectionPool_stop(self.pool)
        self.library.ConnectionPool_free(byref(self.pool))

    def begin(self, connection: Any) -> None:
        self._told(lambda: self.library.Connection_beginTransaction(connection))

    def _told(self, call: Callable[[], Any]) -> Any:
        """Its result. Raises QueryFailed for the exception that it threw."""
        self.said.message = ""
        result = call()
        if self.said.message:
            raise QueryFailed("", self.said.message)
        return result

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        if not sql.startswith(("SELECT", "SHOW")):
            self._told(lambda: self.library.Connection_execute(connection, b"%s", sql.encode()))
            return []
        result = self._told(lambda: self.library.Connection_executeQuery(connection, b"%s", sql.encode()))
        if not result:
            raise QueryFailed("", str(self.library.Connection_getLastError(connection)))
        rows = []
        while self.library.ResultSet_next(result):
            count = self.library.ResultSet_getColumnCount(result)
            values = (self.library.ResultSet_getString(result, i + 1) for i in range(count))
            rows.append(tuple((value or b"").decode() for value in values))
        return rows


def make(_name: str, words: dict[str, Any], **options: Any) -> LibzdbPeer:
    return LibzdbPeer(words, **options)
