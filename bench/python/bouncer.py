"""PgBouncer before the server of the environment: databases `session` and `transaction`, named after their modes."""

import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

SETTINGS = """
[databases]
session = host={PGHOST} port={PGPORT} dbname={PGDATABASE} pool_mode=session
transaction = host={PGHOST} port={PGPORT} dbname={PGDATABASE} pool_mode=transaction

[pgbouncer]
listen_addr = 127.0.0.1
listen_port = {port}
unix_socket_dir =
auth_type = scram-sha-256
auth_file = {folder}/users
default_pool_size = {size}
max_client_conn = 200
logfile = {folder}/log
pidfile = {folder}/pid
"""
PATIENCE = 10


def free_port():
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


def prepare(folder, peers, port, size):
    """It refuses to be root, and who it is then may not be able to read below build/."""
    folder.chmod(0o755)
    for path in (peers / "usr" / "sbin" / "pgbouncer", *(peers / "usr" / "lib").glob("*/lib[ce][av][re]*.so.*")):
        shutil.copy(path, folder / path.name)
    (folder / "ini").write_text(SETTINGS.format(**os.environ, folder=folder, port=port, size=size))
    users = folder / "users"
    users.write_text(f'"{os.environ["PGUSER"]}" "{os.environ["PGPASSWORD"]}"\n')
    users.chmod(0o600)
    if os.getuid() != 0:
        return {}
    server = pwd.getpwnam("postgres")
    for path in (folder, *folder.iterdir()):
        os.chown(path, server.pw_uid, server.pw_gid)
    return {"user": server.pw_uid, "group": server.pw_gid, "extra_groups": []}


@contextmanager
def running(peers, size):
    """The port of one with so many sessions at the server for each database."""
    with tempfile.TemporaryDirectory(prefix="dbpool-bouncer.") as name:
        folder, port = Path(name), free_port()
        who = prepare(folder, Path(peers), port, size)
        environment = {**os.environ, "LD_LIBRARY_PATH": str(folder)}
        process = subprocess.Popen([folder / "pgbouncer", "-q", folder / "ini"], env=environment, **who)
        try:
            end = time.monotonic() + PATIENCE
            while not answers(port):
                if process.poll() is not None or time.monotonic() > end:
                    log = folder / "log"
                    raise SystemExit(f"PgBouncer does not start: {log.read_text() if log.exists() else ''}")
                time.sleep(0.05)
            yield port
        finally:
            process.terminate()
            process.wait(PATIENCE)
