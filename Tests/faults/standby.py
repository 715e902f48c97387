"""A hot standby of a cluster, made with pg_basebackup, which can be promoted."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pq
from cluster import Cluster, make_folder, server_program

PATIENCE = 30


class Standby(Cluster):
    """Follows `primary` by streaming over its Unix socket."""

    @classmethod
    def of(cls, primary: Cluster, folder: Path, start: bool = True, **settings: str) -> Standby:
        standby = cls(make_folder(folder))
        standby.settings = {**primary.settings, **settings}
        server_program(
            standby.folder,
            "pg_basebackup",
            *("-h", primary.folder, "-p", primary.port, "-U", "super"),
            *("-D", standby.data, "-R", "-X", "stream", "-c", "fast", "--no-sync"),
        )
        if start:
            standby.start()
        return standby

    def promote(self) -> float:
        """Returns when it takes writes: the instant (time.monotonic()) at which that was known."""
        assert self.admin(f"SELECT pg_promote(true, {PATIENCE})") == [("t",)], "it was not promoted"
        return time.monotonic()

    def follows(self, primary: Cluster, seconds: float = PATIENCE) -> None:
        """Waits until all that the primary has written is here."""
        written = primary.admin("SELECT pg_current_wal_flush_lsn()")[0][0]
        end = time.monotonic() + seconds
        while self.admin(f"SELECT pg_last_wal_replay_lsn() >= '{written}'") != [("t",)]:
            assert time.monotonic() < end, f"the standby does not follow:\n{self.log()}"
            time.sleep(0.01)


@contextlib.contextmanager
def pair(trial: Any) -> Iterator[tuple[Cluster, Standby]]:
    """The trial's own primary and a standby of it, both with a table `written`."""
    primary = trial.own_cluster()
    in_database(primary, "CREATE TABLE written (n int); GRANT ALL ON written TO app")
    standby = Standby.of(primary, trial.folder / "standby")
    try:
        standby.follows(primary)
        yield primary, standby
    finally:
        standby.remove()


def in_database(cluster: Cluster, sql: str) -> list[tuple[str, ...]]:
    """As superuser, in the database `app`."""
    connection = pq.Connection(cluster.conninfo(user="super", over_tcp=False))
    try:
        return connection.query(sql)
    finally:
        connection.close()
