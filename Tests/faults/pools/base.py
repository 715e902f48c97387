"""What the cases want of a pool."""

from __future__ import annotations

from typing import Any, Callable

from failures import Skip


class BasePool:
    """`make(name, words, min_size=, max_size=, timeout=, connect_timeout=, checked=, reset=)`.

    `checked`: the pool's own check of a connection at each get, where it has one; `reset`: "rollback" or "full".
    """

    # Whether it opens connections by itself to keep min_size; otherwise the borrowers do, on demand.
    refills = True
    # libpq's functions work on what it lends.
    lends_pgconn = False
    is_open = True

    def get(self, timeout: float) -> Any:
        """Raises GetFailed."""
        raise NotImplementedError

    def put(self, connection: Any) -> None:
        """In any state."""
        raise NotImplementedError

    def discard(self, connection: Any) -> None:
        raise NotImplementedError

    def close(self) -> None:
        """Once: not all can be closed again."""
        if self.is_open:
            self.is_open = False
            self._close()

    def _close(self) -> None:
        raise NotImplementedError

    def query(self, connection: Any, sql: str) -> list[tuple[str, ...]]:
        """In autocommit mode. Raises QueryFailed."""
        raise NotImplementedError

    def begin(self, connection: Any) -> None:
        """A transaction, as those who use this pool begin one."""
        self.query(connection, "BEGIN")

    def stats(self) -> Any:
        """idle, in_use, waiting, total, connecting, opened, connect_failures, lost; None where it has none."""
        return None

    def attempts(self) -> int:
        """To connect, that have ended, since the start."""
        now = self.stats()
        return 0 if now is None else int(now.opened + now.connect_failures)

    def busy_states(self) -> list[Callable[[Any], None]]:
        """Functions that leave a connection in the midst of something."""
        raise Skip("libpq is out of reach behind this pool")

    def socket(self, connection: Any) -> int:
        raise NotImplementedError

    def backend_pid(self, connection: Any) -> int:
        return int(self.query(connection, "SELECT pg_backend_pid()")[0][0])
