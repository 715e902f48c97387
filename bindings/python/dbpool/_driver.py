"""A Python driver, as a pool of its connections needs it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from .errors import Error

if TYPE_CHECKING:
    from ._hosted import Opening


# What psycopg2's `closed` is of a connection whose session has ended.
CLOSED_BY_OTHERS = 2


class Driver(Protocol):
    """What a hosted pool needs to know of a driver."""

    @property
    def transient(self) -> type[Exception]:
        """Of the errors of `connect` only these are worth another try before the deadline, and of them not those with
        an SQLSTATE that will not go away."""

    @property
    def usual_seconds(self) -> float | None:
        """How long a caller without a time of its own waits for a connect; None = as long as that takes."""

    @property
    def connects_in_caller(self) -> bool:
        """A connect has to run in the thread that wants the connection."""

    def connect(self, seconds: float | None) -> Any:
        """Opens and sets up a connection, on any thread; `seconds`: when its caller cannot give up, what is left until
        the deadline. Raises the driver's own errors, and then leaves nothing open."""

    def connect_here(self, opening: Opening) -> Any:
        """As `connect`, where `connects_in_caller`."""

    def feed(self, token: Any, connection: Any) -> None:
        """Called before a connection goes to the pool that nobody waits for any more."""

    def fileno(self, connection: Any) -> int:
        """The descriptor of the connection's socket."""

    def close(self, connection: Any) -> None:
        """Closes it; never raises, and does not wait for the network."""

    def is_lost(self, connection: Any) -> bool:
        """Whether it is broken, by the server's or the network's doing: not one that its user has closed."""

    def sqlstate(self, error: Exception) -> str | None:
        """Of a connect that failed, as far as it can be known; None where the server did not say."""

    def message(self, error: Exception) -> str | None:
        """The cause of a connect that failed, for others who wait: without a password. None = not to be told."""

    def failure(self, error: Error) -> Exception:
        """An error of the pool as the driver's own, with `code`."""


def is_permanent(sqlstate: str | None) -> bool:
    """Wrong password, no such role; no such database; not supported. As in the library."""
    return sqlstate is not None and (sqlstate[:2] == "28" or sqlstate in ("3D000", "0A000"))
