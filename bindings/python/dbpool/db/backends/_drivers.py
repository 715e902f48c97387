"""What differs between the two drivers. Django has chosen; with both installed, since 4.2, it takes psycopg."""

from __future__ import annotations

from typing import Any

from django.db.backends.postgresql.base import Database

from ..._sessions import IDLE

IS_PSYCOPG3 = Database.__name__ == "psycopg"

Pool: Any
if IS_PSYCOPG3:
    from ..._psycopg import PsycopgPool

    Pool = PsycopgPool
else:
    from psycopg2.extras import register_default_jsonb

    from ..._psycopg2 import Psycopg2Pool

    Pool = Psycopg2Pool


def prepare(connection: Any) -> None:
    """What Django does to each new connection of the driver: its JSON fields decode for themselves."""
    if not IS_PSYCOPG3:
        register_default_jsonb(conn_or_curs=connection, loads=_as_it_is)


def _as_it_is(text: Any) -> Any:
    return text


def is_idle(connection: Any) -> bool:
    """Open, and out of any transaction."""
    if not IS_PSYCOPG3:
        return bool(connection.get_transaction_status() == IDLE)
    return bool(connection.pgconn.transaction_status == IDLE)


def time_zone(connection: Any) -> str | None:
    """As the server has reported it: no round trip."""
    if not IS_PSYCOPG3:
        name: str | None = connection.get_parameter_status("TimeZone")
        return name
    reported: bytes | None = connection.pgconn.parameter_status(b"TimeZone")
    return None if reported is None else reported.decode()
