"""Throw-away PostgreSQL clusters, to be stopped, started, frozen and crashed at will."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import pq
from failures import QueryFailed

PATIENCE = 60
PASSWORD = "app password"
SETTINGS = {
    "listen_addresses": "127.0.0.1",
    "fsync": "off",
    "max_connections": "140",
    "superuser_reserved_connections": "5",
    "autovacuum": "off",
    "timezone": "UTC",
    "log_timezone": "UTC",
}
HBA = "local all all trust\nlocal replication all trust\nhost all all 127.0.0.1/32 scram-sha-256\n"

# PostgreSQL refuses to run as root.
AS_SERVER: dict[str, Any] = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
# A server ends with the thread that has started it: with this one, that is with the process.
_starter = ThreadPoolExecutor(max_workers=1)


def binaries() -> Path:
    """Debian keeps the programs of each version in a folder of its own, not on PATH."""
    found = list(Path("/usr/lib/postgresql").glob("*/bin/pg_ctl"))
    if not found:
        raise SystemExit("There is no /usr/lib/postgresql/*/bin/pg_ctl: .ci/setup postgres installs it")
    return max(found, key=lambda path: int(path.parts[4])).parent


def server_program(folder: Path, program: str, *arguments: object) -> str:
    """Runs one of PostgreSQL's programs as the server's user; what it printed."""
    # Into a file: a server keeps what it inherits open, and a pipe would never end.
    with tempfile.TemporaryFile("w+") as output:
        code = subprocess.run(
            [str(binaries() / program), *map(str, arguments)],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            cwd=folder,
            timeout=PATIENCE,
            **AS_SERVER,
        ).returncode
        output.seek(0)
        printed = output.read()
        assert code == 0, f"{program} ended with code {code}:\n{printed}"
        return printed


class Cluster:
    """`folder` holds `data`, the socket, and the log. Superuser `super` on the socket; `app` over TCP."""

    def __init__(self, folder: Path, port: int | None = None) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.port = port or free_port()
        self.settings = dict(SETTINGS)
        self._admin: pq.Connection | None = None

    # --------------------------------------------------------------------------------------------- life

    @classmethod
    def create(cls, folder: Path) -> Cluster:
        """With initdb, the role and database `app`; it runs afterwards."""
        cluster = cls(make_folder(folder))
        server_program(folder, "initdb", "-D", cluster.data, "-U", "super", "-A", "trust", "-N", "-E", "UTF8")
        (cluster.data / "pg_hba.conf").write_text(HBA)
        cluster.start()
        cluster.admin(f"CREATE ROLE app LOGIN PASSWORD '{PASSWORD}'")
        cluster.admin("CREATE DATABASE app OWNER app")
        cluster.admin("CREATE ROLE other; GRANT other TO app")
        return cluster

    @classmethod
    def copy_of(cls, template: Path, folder: Path) -> Cluster:
        """`template`: the data of a cluster that does not run."""
        cluster = cls(make_folder(folder))
        shutil.copytree(template, cluster.data, copy_function=_copy_owned)
        for path in [cluster.data, *cluster.data.rglob("*")]:
            if AS_SERVER and path.is_dir():
                shutil.chown(path, "postgres", "postgres")
        return cluster

    def start(self, wait: bool = True) -> None:
        """A child of this process, which ends with it whatever happens."""
        settings = {**self.settings, "port": str(self.port), "unix_socket_directories": str(self.folder)}
        options = [word for name, setting in settings.items() for word in ("-c", f"{name}={setting}")]
        command = ["setpriv", "--pdeathsig", "QUIT", "--", str(binaries() / "postgres"), "-D", str(self.data), *options]
        with open(self.folder / "log", "a") as log:
            start = partial(
                subprocess.Popen,
                command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                **AS_SERVER,
            )
            self.process: subprocess.Popen[Any] = _starter.submit(start).result()
        if wait:
            self.wait_until_up()

    def wait_until_up(self) -> None:
        """Until it accepts sessions."""
        end = time.monotonic() + PATIENCE
        while not self.is_up():
            is_alive = time.monotonic() < end and (not hasattr(self, "process") or self.process.poll() is None)
            assert is_alive, f"the server does not start:\n{self.log()}"
            time.sleep(0.005)

    def is_up(self) -> bool:
        try:
            pq.Connection(self.conninfo(user="super", dbname="postgres", over_tcp=False)).close()
        except QueryFailed:
            return False
        return True

    def stop(self, mode: str = "fast") -> None:
        """`fast`, `immediate` or `smart`; returns when it has stopped."""
        self.forget_admin()
        server_program(self.folder, "pg_ctl", "-D", self.data, "-w", "-m", mode, "-t", PATIENCE, "stop")
        if hasattr(self, "process"):
            self.process.wait(PATIENCE)

    def stop_soon(self, mode: str = "smart") -> None:
        """Asks it to stop, and does not wait."""
        self.forget_admin()
        server_program(self.folder, "pg_ctl", "-D", self.data, "-W", "-m", mode, "stop")

    def restart(self, mode: str = "fast") -> None:
        self.stop(mode)
        self.start()

    def remove(self) -> None:
        """Stops what runs, and removes all."""
        self.forget_admin()
        kill_server(self.data)
        shutil.rmtree(self.folder, ignore_errors=True)

    # --------------------------------------------------------------------------------------- from outside

    def conninfo(self, *, user: str = "app", dbname: str = "app", over_tcp: bool = True, **more: object) -> str:
        words: dict[str, object] = {"port": self.port, "user": user, "dbname": dbname}
        if over_tcp:
            words.update(host="127.0.0.1", password=PASSWORD)
        else:
            words.update(host=self.folder, application_name="admin")
        words.update(more)
        return conninfo_text(words)

    def admin(self, sql: str) -> list[tuple[str, ...]]:
        """As superuser, on a session outside of any pool."""
        for is_last in (False, True):
            if self._admin is None:
                self._admin = pq.Connection(self.conninfo(user="super", dbname="postgres", over_tcp=False))
            try:
                return self._admin.query(sql)
            except QueryFailed as error:
                if is_last or error.sqlstate not in ("", "57P01", "57P02"):
                    raise
                self.forget_admin()  # of before a restart
        raise AssertionError("not reached")

    def forget_admin(self) -> None:
        connection, self._admin = self._admin, None
        if connection is not None:
            connection.close()

    def sessions(self, application: str | None = None) -> list[int]:
        """The pids of the backends of clients, of those with this application_name."""
        where = f" AND application_name = '{application}'" if application is not None else ""
        found = self.admin(
            "SELECT pid FROM pg_stat_activity WHERE backend_type = 'client backend'"
            f" AND pid <> pg_backend_pid(){where} ORDER BY backend_start"
        )
        return [int(row[0]) for row in found]

    def terminate(self, application: str) -> int:
        """pg_terminate_backend() for all sessions of it; how many. They have ended when this returns."""
        found = self.admin(
            f"SELECT pid, pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = '{application}'"
        )
        left = ",".join(row[0] for row in found) or "0"
        while self.admin(f"SELECT 1 FROM pg_stat_activity WHERE pid IN ({left})"):
            pass
        return len(found)

    def postmaster(self) -> int:
        return int((self.data / "postmaster.pid").read_text().split()[0])

    def log(self, last: int = 30) -> str:
        return "\n".join((self.folder / "log").read_text(errors="replace").splitlines()[-last:])

    @contextlib.contextmanager
    def frozen(self, *pids: int) -> Any:
        """SIGSTOP, and SIGCONT in the end."""
        stopped: list[int] = []
        try:
            for pid in pids:
                os.kill(pid, signal.SIGSTOP)
                stopped.append(pid)
            yield
        finally:
            for pid in stopped:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)


def conninfo_text(words: dict[str, object]) -> str:
    def quoted(word: object) -> str:
        escaped = str(word).replace("\\", "\\\\").replace("'", "\\'")
        return f"'{escaped}'"

    return " ".join(f"{name}={quoted(word)}" for name, word in words.items())


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def make_folder(folder: Path) -> Path:
    folder.mkdir(parents=True)
    if AS_SERVER:
        shutil.chown(folder, "postgres", "postgres")
    return folder


def kill_server(data: Path) -> None:
    """Whatever state it is in."""
    try:
        pid = int((data / "postmaster.pid").read_text().split()[0])
    except (FileNotFoundError, IndexError, ValueError):
        return
    with contextlib.suppress(OSError):
        if str(data).encode() not in Path(f"/proc/{pid}/cmdline").read_bytes():
            return
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
        for child in map(int, children):
            with contextlib.suppress(ProcessLookupError):
                os.kill(child, signal.SIGCONT)
        os.kill(pid, signal.SIGCONT)
        os.kill(pid, signal.SIGQUIT)
        end = time.monotonic() + 10
        while Path(f"/proc/{pid}").exists() and time.monotonic() < end:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)
            time.sleep(0.005)


def _copy_owned(source: str, target: str) -> str:
    shutil.copyfile(source, target)
    shutil.copymode(source, target)
    if AS_SERVER:
        shutil.chown(target, "postgres", "postgres")
    return target
