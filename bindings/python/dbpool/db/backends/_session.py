"""The state that Django wants every session to start with."""

from __future__ import annotations

from typing import Any, NamedTuple

from . import _drivers


class Session(NamedTuple):
    """No reference to a wrapper: pools keep these, and a wrapper that nobody uses must become garbage."""

    time_zone: str | None
    role: str | None

    def configure(self, connection: Any) -> None:
        """Once for each new connection, in autocommit mode."""
        _drivers.prepare(connection)
        self.restore(connection, role_is_lost=True)

    def restore(self, connection: Any, *, role_is_lost: bool) -> bool:
        """At each loan: a time zone that an earlier borrower, or RESET, has changed. No round trip otherwise. Whether
        anything was executed."""
        zone, role = self.time_zone, self.role if role_is_lost else None
        if zone and _drivers.time_zone(connection) == zone:
            zone = None
        if not zone and not role:
            return False
        wanted = {name: text for name, text in (("TimeZone", zone), ("role", role)) if text}
        calls = ", ".join("set_config(%s, %s, false)" for _ in wanted)
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT {calls}", [text for pair in wanted.items() for text in pair])
        return True
