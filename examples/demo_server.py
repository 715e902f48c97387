"""What the demonstration asks of its PostgreSQL server, through psql: databases, sessions, counters, books."""

import os
import subprocess
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PATIENCE = 30  # seconds that a single step may take longer than planned


class DemoError(Exception):
    """The demonstration cannot go on."""


def psql(database, *arguments):
    """Run psql; its output."""
    command = ["psql", "-XAtq", "-v", "ON_ERROR_STOP=1", "-d", database, *arguments]
    done = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        raise DemoError(f"psql: {done.stderr.strip()}")
    return done.stdout.strip()


def create_database(database, fill):
    """A database for each run: so the server's counters of that database are those of the run, and nothing else.

    `fill(database)` makes the tables; its sessions do not count."""
    psql(os.environ["PGDATABASE"], "-c", f"CREATE DATABASE {database}")
    fill(database)
    wait_until_left(database)
    return sessions_seen(database)[0]


def kill_sessions(database):
    query = f"SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = '{database}'"
    return int(psql(os.environ["PGDATABASE"], "-c", query))


def wait_until_left(database):
    """A session is in the statistics for certain when it has left the list of sessions."""
    query = f"SELECT count(*) FROM pg_stat_activity WHERE datname = '{database}'"
    end = time.monotonic() + PATIENCE
    while psql(os.environ["PGDATABASE"], "-c", query) != "0":
        if time.monotonic() > end:
            raise DemoError(f"sessions are left in {database} after its program has ended")


def sessions_seen(database):
    """The server's own count: sessions established, and sessions ended by pg_terminate_backend."""
    query = f"SELECT sessions, sessions_killed FROM pg_stat_database WHERE datname = '{database}'"
    established, killed = psql(os.environ["PGDATABASE"], "-c", query).split("|")
    return int(established), int(killed)
