"""A Python driver, as a pool of its connections needs it."""

from __future__ import annotations

from typing import Any, Protocol

from .errors import Error


class Driver(Protocol):
    """What a hosted pool needs to know of a driver."""

    @property
    def transient(self) -> type[Exception]:
        """Of the errors of `connect` only these are worth another try before the deadline, and of them not those with
        an SQLSTATE that will not go away."""

    def connect(self, seconds: float | None) -> Any:
        """Opens and sets up a connection; `seconds` are left until the caller's deadline, None = as long as usual.
        Raises the driver's own errors, and then leaves nothing open."""

    def fileno(self, connection: Any) -> int:
        """The descriptor of the connection's socket."""

    def close(self, connection: Any) -> None:
        """Closes it; never raises, never waits for the network."""

    def sqlstate(self, error: Exception) -> str | None:
        """Of a connect that failed, as far as it can be known; None where the server did not say."""

    def message(self, error: Exception) -> str | None:
        """The cause of a connect that failed, for others who wait: without a password. None = not to be told."""

    def failure(self, error: Error) -> Exception:
        """An error of the pool as the driver's own, with `code`."""


def is_permanent(sqlstate: str | None) -> bool:
    """Wrong password, no such role; no such database; not supported. As in the library."""
    return sqlstate is not None and (sqlstate[:2] == "28" or sqlstate in ("3D000", "0A000"))
