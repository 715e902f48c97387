"""PgBouncer in transaction mode, before a cluster."""

from __future__ import annotations

import shutil
import subprocess
import time
from pathlib import Path

import pq
from cluster import AS_SERVER, PASSWORD, Cluster, conninfo_text, free_port, make_folder
from failures import QueryFailed, Skip

PROGRAM = shutil.which("pgbouncer") or "/usr/sbin/pgbouncer"
PATIENCE = 20

SETTINGS = """
[databases]
app = host=127.0.0.1 port={server} dbname=app user=app password='{password}'

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = any
admin_users = super
pool_mode = transaction
default_pool_size = {size}
max_client_conn = 200
server_login_retry = 1
logfile = {folder}/log
pidfile = {folder}/pid
"""


class PgBouncer:
    """`port` is where it listens; `size` sessions at the server at most."""

    def __init__(self, cluster: Cluster, folder: Path, size: int = 3) -> None:
        if not Path(PROGRAM).exists():
            raise Skip("there is no pgbouncer: .ci/setup faults installs it")
        self.folder = make_folder(folder)
        self.port = free_port()
        configuration = self.folder / "pgbouncer.ini"
        configuration.write_text(
            SETTINGS.format(server=cluster.port, password=PASSWORD, port=self.port, size=size, folder=self.folder)
        )
        self.process = subprocess.Popen(
            [PROGRAM, "-q", str(configuration)],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=self.folder,
            **AS_SERVER,
        )
        self._wait()

    def _wait(self) -> None:
        end = time.monotonic() + PATIENCE
        while True:
            try:
                self.admin("SHOW VERSION")
                return
            except QueryFailed as error:
                is_alive = self.process.poll() is None and time.monotonic() < end
                assert is_alive, f"PgBouncer does not start: {error}\n{self.log()}"
                time.sleep(0.01)

    def admin(self, command: str) -> list[tuple[str, ...]]:
        """One of its console's: SHOW POOLS, KILL app, RESUME app, ..."""
        words: dict[str, object] = {"host": "127.0.0.1", "port": self.port, "user": "super", "dbname": "pgbouncer"}
        connection = pq.Connection(conninfo_text(words))
        try:
            return connection.query(command)
        finally:
            connection.close()

    def clients(self) -> int:
        """Its sessions, those of its console aside."""
        return sum(row[2] == "app" for row in self.admin("SHOW CLIENTS"))

    def log(self) -> str:
        path = self.folder / "log"
        return path.read_text(errors="replace") if path.exists() else ""

    def __enter__(self) -> PgBouncer:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.wait(PATIENCE)
