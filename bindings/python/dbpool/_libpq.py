"""libpq, as `python -m dbpool` asks it: the copy whose connections the pool lends."""

from __future__ import annotations

import ctypes
from typing import Any

from . import _lib
from .errors import ConnectError
from .loan import Loan

_TUPLES_OK = 2


class Libpq:
    """Raises OSError where there is none."""

    def __init__(self) -> None:
        self._library = _lib.libpq()
        self._exec = self._declare("PQexec", ctypes.c_void_p, ctypes.c_void_p, ctypes.c_char_p)
        self._result_status = self._declare("PQresultStatus", ctypes.c_int, ctypes.c_void_p)
        self._clear = self._declare("PQclear", None, ctypes.c_void_p)
        self._error_message = self._declare("PQerrorMessage", ctypes.c_char_p, ctypes.c_void_p)
        self._parameter = self._declare("PQparameterStatus", ctypes.c_char_p, ctypes.c_void_p, ctypes.c_char_p)

    def _declare(self, name: str, result: Any, *arguments: Any) -> Any:
        function = self._library[name]
        function.restype, function.argtypes = result, arguments
        return function

    @property
    def version(self) -> str:
        number = self._declare("PQlibVersion", ctypes.c_int)()
        return f"{number // 10000}.{number % 10000}"

    @property
    def file(self) -> str:
        return _lib.file_of(self._library["PQlibVersion"])

    def run(self, loan: Loan, sql: str) -> None:
        """Runs a query; raises the server's words."""
        result = self._exec(loan, sql.encode())
        try:
            if self._result_status(result) != _TUPLES_OK:
                raise ConnectError(_lib.text(self._error_message(loan)).strip())
        finally:
            self._clear(result)

    def describe(self, loan: Loan) -> str:
        """PostgreSQL 15.18, database shop, user app, at db:5432, with TLS."""
        version = _lib.text(self._parameter(loan, b"server_version"))
        database, user, host, port = (
            _lib.text(self._declare(name, ctypes.c_char_p, ctypes.c_void_p)(loan))
            for name in ("PQdb", "PQuser", "PQhost", "PQport")
        )
        tls = "with" if self._declare("PQsslInUse", ctypes.c_int, ctypes.c_void_p)(loan) else "without"
        return f"PostgreSQL {version}, database {database}, user {user}, at {host}:{port}, {tls} TLS"
