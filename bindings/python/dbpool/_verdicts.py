"""What an error of a borrower's query says of the session: whether the next borrower would only meet it again."""

from __future__ import annotations

from typing import Callable

_READ_ONLY = "25006"
# Time-outs that end the session, beside the classes below.
_ENDED = frozenset({"25P03", "25P04"})
_CONNECTION, _SHUTDOWN = "08", "57P"


def is_unfit(sqlstate: str | None, severity: str | None, parameter: Callable[[str], str | None]) -> bool:
    """`severity`: untranslated, None where it is not known. `parameter(name)`: as the server has reported it, None
    where it has not; no round trip.

    A write that was refused is the session's fault where the whole server is read-only: after a failover another one
    takes writes. A borrower's own read-only transaction is not. As in the library, an ERROR of class 08 is about a
    session of dblink or postgres_fdw.
    """
    if sqlstate is None:
        return False
    if sqlstate == _READ_ONLY:
        # Servers before 14 report neither.
        return parameter("in_hot_standby") != "off" or parameter("default_transaction_read_only") == "on"
    if severity in ("FATAL", "PANIC") or sqlstate in _ENDED or sqlstate.startswith(_SHUTDOWN):
        return True
    return sqlstate.startswith(_CONNECTION) and severity != "ERROR"
