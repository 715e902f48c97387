"""A PostgreSQL server of the test's own, to be stopped and started at will: that of .ci/with-postgres is shared."""

import os
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

PATIENCE = 60
SERVER_PATIENCE = 300  # on a machine that has a hundred other things to do
SETTINGS = "listen_addresses=127.0.0.1 fsync=off max_connections=100 superuser_reserved_connections=10"


def newest_binaries():
    """Debian keeps the programs of each version in a folder of its own, not on PATH."""
    folders = Path("/usr/lib/postgresql").glob("*/bin/pg_ctl")
    return max(folders, key=lambda path: int(path.parts[4])).parent


class Cluster:
    def __init__(self):
        self.folder = Path(tempfile.mkdtemp(prefix="dbpool-shop-", dir="/tmp"))  # a socket's path is short
        self.data = self.folder / "data"
        self.binaries = newest_binaries()
        # PostgreSQL refuses to run as root.
        self.user = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.getuid() == 0 else {}
        if self.user:
            shutil.chown(self.folder, "postgres", "postgres")
        password = self.folder / "password"
        password.write_text("shop password\n")
        self.run(
            "initdb", "-D", self.data, "-U", "super", "-A", "scram-sha-256", f"--pwfile={password}", "-N", "--no-sync"
        )
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.start()

    def run(self, program, *arguments):
        command = [str(self.binaries / program), *map(str, arguments)]
        # Into a file: the server keeps what it inherits open, and a pipe would never end.
        with tempfile.TemporaryFile("w+") as output:
            code = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                timeout=SERVER_PATIENCE,
                **self.user,
            ).returncode
            output.seek(0)
            assert code == 0, f"{program} ended with code {code}:\n{output.read()}"

    def start(self):
        """A child of this process, with which it ends, whatever happens."""
        settings = [*SETTINGS.split(), f"port={self.port}", f"unix_socket_directories={self.folder}"]
        options = [word for setting in settings for word in ("-c", setting)]
        server = str(self.binaries / "postgres")
        with open(self.folder / "log", "a") as log:
            self.process = subprocess.Popen(
                ["setpriv", "--pdeathsig", "QUIT", "--", server, "-D", str(self.data), *options],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                cwd=self.folder,
                start_new_session=True,
                **self.user,
            )
        question = [str(self.binaries / "pg_isready"), "-q", "-h", "127.0.0.1", "-p", str(self.port)]
        end = time.monotonic() + SERVER_PATIENCE
        while subprocess.run(question, timeout=SERVER_PATIENCE).returncode != 0:
            is_alive = self.process.poll() is None and time.monotonic() < end
            assert is_alive, f"the server does not start:\n{(self.folder / 'log').read_text()}"
            time.sleep(0.01)

    def stop(self, mode="fast"):
        try:
            self.run("pg_ctl", "-D", self.data, "-w", "-t", SERVER_PATIENCE - 10, "-m", mode, "stop")
        except AssertionError as error:
            raise AssertionError(f"{error}\n{self.state()}") from None
        self.process.wait(SERVER_PATIENCE)

    def state(self):
        """Of its processes and of all others of servers, and what it said last."""
        question = ["ps", "-eo", "pid,ppid,stat,wchan:20,etimes,args"]
        lines = subprocess.run(question, capture_output=True, text=True).stdout.splitlines()
        servers = "\n".join(line for line in lines if "postgres" in line)
        return f"server {self.process.pid} of {self.data}\n{servers}\n{(self.folder / 'log').read_text()[-4000:]}"

    def remove(self):
        try:
            if self.process.poll() is None:
                self.stop("immediate")
        finally:
            shutil.rmtree(self.folder)

    def environment(self, database):
        return {
            "PGHOST": "127.0.0.1",
            "PGPORT": str(self.port),
            "PGUSER": "super",
            "PGPASSWORD": "shop password",
            "PGDATABASE": database,
        }
