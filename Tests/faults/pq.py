"""The part of libpq that the faults need, through ctypes: for native pools, and for looking at the server."""

from __future__ import annotations

import ctypes
from ctypes import c_char_p, c_int, c_void_p
from typing import Any

from failures import QueryFailed

library = ctypes.CDLL("libpq.so.5")

CONNECTION_OK = 0
COMMAND_OK, TUPLES_OK, COPY_OUT, COPY_IN, EMPTY_QUERY = 1, 2, 3, 4, 0
FINE = (EMPTY_QUERY, COMMAND_OK, TUPLES_OK, COPY_OUT, COPY_IN)
SQLSTATE = ord("C")


def _declare(name: str, result: Any, *arguments: Any) -> Any:
    function = library[name]
    function.restype, function.argtypes = result, arguments
    return function


connectdb = _declare("PQconnectdb", c_void_p, c_char_p)
finish = _declare("PQfinish", None, c_void_p)
status = _declare("PQstatus", c_int, c_void_p)
error_message = _declare("PQerrorMessage", c_char_p, c_void_p)
socket = _declare("PQsocket", c_int, c_void_p)
backend_pid = _declare("PQbackendPID", c_int, c_void_p)
transaction_status = _declare("PQtransactionStatus", c_int, c_void_p)
execute = _declare("PQexec", c_void_p, c_void_p, c_char_p)
result_status = _declare("PQresultStatus", c_int, c_void_p)
error_field = _declare("PQresultErrorField", c_char_p, c_void_p, c_int)
result_message = _declare("PQresultErrorMessage", c_char_p, c_void_p)
rows = _declare("PQntuples", c_int, c_void_p)
columns = _declare("PQnfields", c_int, c_void_p)
value = _declare("PQgetvalue", c_char_p, c_void_p, c_int, c_int)
clear = _declare("PQclear", None, c_void_p)
send_query = _declare("PQsendQuery", c_int, c_void_p, c_char_p)
send_query_params = _declare(
    "PQsendQueryParams", c_int, c_void_p, c_char_p, c_int, c_void_p, c_void_p, c_void_p, c_void_p, c_int
)
get_result = _declare("PQgetResult", c_void_p, c_void_p)
set_single_row_mode = _declare("PQsetSingleRowMode", c_int, c_void_p)
set_nonblocking = _declare("PQsetnonblocking", c_int, c_void_p, c_int)
enter_pipeline_mode = _declare("PQenterPipelineMode", c_int, c_void_p)
put_copy_data = _declare("PQputCopyData", c_int, c_void_p, c_char_p, c_int)


def text(content: bytes | None) -> str:
    return (content or b"").decode("utf-8", "replace").strip()


def query(connection: int, sql: str) -> list[tuple[str, ...]]:
    """The rows as text. Raises QueryFailed."""
    result = execute(connection, sql.encode())
    try:
        if result_status(result) not in FINE:
            raise QueryFailed(text(error_field(result, SQLSTATE)), text(error_message(connection)))
        return [tuple(text(value(result, i, k)) for k in range(columns(result))) for i in range(rows(result))]
    finally:
        clear(result)


class Connection:
    """One of our own, outside of any pool."""

    def __init__(self, conninfo: str) -> None:
        self.address = connectdb(conninfo.encode())
        if status(self.address) != CONNECTION_OK:
            message = text(error_message(self.address))
            self.close()
            raise QueryFailed("", message)

    def query(self, sql: str) -> list[tuple[str, ...]]:
        return query(self.address, sql)

    def close(self) -> None:
        address, self.address = self.address, None
        if address:
            finish(address)
