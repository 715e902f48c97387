"""A PostgreSQL server of the test's own, and what happens to it."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import psycopg2

sys.path.append(str(Path(__file__).resolve().parent.parent / "django_shop"))
from cluster import Cluster

KINDS = ("terminate", "kill", "freeze", "restart_fast", "restart_immediate", "change_password", "crowd")
FREEZE_SECONDS = 5.0


class Server:
    """`app` is the role whose sessions suffer; its password lies in two files, as both change together."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.counts = dict.fromkeys(KINDS, 0)
        # When each goes on. That is a thread's business: one that is frozen with a lock of the server's holds up every
        # login, ours too.
        self._frozen: dict[int, float] = {}
        self._lock = threading.Lock()
        threading.Thread(target=self._thaw_in_time, daemon=True).start()
        self._cluster = Cluster()
        self._folder = self._cluster.folder
        self._write_password("first")
        self._run("CREATE ROLE app LOGIN PASSWORD 'first'")
        # Who may see all pids may look for sessions that should not be there.
        self._run("GRANT pg_read_all_stats TO app")
        self._run("CREATE TABLE leftover (tag text)")
        self._run("GRANT SELECT, INSERT ON leftover TO app")

    def environment(self) -> dict[str, str]:
        found = {**os.environ, **self._cluster.environment("postgres")}
        del found["PGPASSWORD"]
        found.update(
            PGUSER="app",
            PGPASSFILE=str(self._folder / "passfile"),
            ORACLE_PASSWORD_FILE=str(self._folder / "password.app"),
            PYTHONDONTWRITEBYTECODE="1",
        )
        return found

    def _run(self, sql: str) -> list[tuple[Any, ...]]:
        """Each on a session of its own, as any event may end it."""
        with contextlib.closing(self._connect()) as connection, connection.cursor() as cursor:
            cursor.execute(sql)
            return cursor.fetchall() if cursor.description else []

    def _connect(self) -> Any:
        words = self._cluster.environment("postgres")
        end = time.monotonic() + 60
        while True:
            try:
                connection = psycopg2.connect(
                    host=words["PGHOST"],
                    port=words["PGPORT"],
                    user=words["PGUSER"],
                    password=words["PGPASSWORD"],
                    dbname=words["PGDATABASE"],
                )
                connection.autocommit = True
                return connection
            except psycopg2.OperationalError:
                if time.monotonic() > end:
                    raise
                time.sleep(0.02)  # it recovers from a crash

    def _write_password(self, password: str) -> None:
        for name, text in (("password.app", password), ("passfile", f"*:*:*:app:{password}")):
            new = self._folder / f"{name}.new"
            new.write_text(text + "\n")
            new.chmod(0o600)
            new.rename(self._folder / name)

    def _backends(self) -> list[int]:
        found = [row[0] for row in self._run("SELECT pid FROM pg_stat_activity WHERE usename = 'app'")]
        self.random.shuffle(found)
        return found

    @staticmethod
    def _signal(pid: int, number: signal.Signals) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)

    # -------------------------------------------------------------------------------------------------- events

    def terminate(self) -> None:
        for pid in self._backends()[: self.random.choice([1, 3, 1000])]:
            self._run(f"SELECT pg_terminate_backend({pid})")

    def kill(self) -> None:
        """The server ends all sessions then, and recovers."""
        self._thaw_all()
        for pid in self._backends()[:1]:
            self._signal(pid, signal.SIGKILL)

    def freeze(self) -> None:
        for pid in self._backends()[: self.random.choice([1, 1, 4])]:
            seconds = self.random.uniform(0.1, FREEZE_SECONDS)
            with self._lock:
                self._signal(pid, signal.SIGSTOP)
                self._frozen[pid] = time.monotonic() + seconds

    def restart_fast(self) -> None:
        self._restart("fast")

    def restart_immediate(self) -> None:
        self._restart("immediate")

    def _restart(self, mode: str) -> None:
        self._thaw_all()
        self._cluster.stop(mode)
        time.sleep(self.random.uniform(0, 0.3))
        self._cluster.start()

    def change_password(self) -> None:
        password = f"password {self.random.randrange(10**6)}"
        self._write_password(password)
        self._run(f"ALTER ROLE app PASSWORD '{password}'")
        for pid in self._backends():
            self._run(f"SELECT pg_terminate_backend({pid})")

    def crowd(self) -> None:
        """For a moment there is room for a few sessions only: 53300."""
        self._run(f"ALTER ROLE app CONNECTION LIMIT {self.random.randrange(6)}")
        for pid in self._backends()[: self.random.choice([0, 3])]:
            self._run(f"SELECT pg_terminate_backend({pid})")
        time.sleep(self.random.uniform(0.2, 1))
        self._run("ALTER ROLE app CONNECTION LIMIT -1")

    # ------------------------------------------------------------------------------------------------- healing

    def _thaw_in_time(self) -> None:
        while True:
            time.sleep(0.02)
            self._thaw(time.monotonic())

    def _thaw(self, now: float) -> None:
        with self._lock:
            for pid in [pid for pid, end in self._frozen.items() if end <= now]:
                del self._frozen[pid]
                self._signal(pid, signal.SIGCONT)

    def _thaw_all(self) -> None:
        self._thaw(float("inf"))

    def heal(self) -> None:
        """Nothing happens any more, and it answers."""
        self._thaw_all()
        self._run("SELECT 1")

    def remove(self) -> None:
        self._thaw_all()
        self._cluster.remove()
