"""The server seen from outside, past every pool, by the driver that Django uses."""

import contextlib
import platform

import django
import project
from django.db.backends.postgresql.base import Database

DRIVER = Database.__name__
CONNECTION = Database.Connection if DRIVER == "psycopg" else Database.extensions.connection


@contextlib.contextmanager
def session(database=None):
    settings = project.database()
    connection = Database.connect(
        dbname=database or "postgres",
        user=settings["USER"],
        password=settings["PASSWORD"],
        host=settings["HOST"],
        port=settings["PORT"],
    )
    connection.autocommit = True
    try:
        yield connection
    finally:
        connection.close()


def query(sql, *values):
    """The rows."""
    with session() as connection:
        cursor = connection.cursor()
        cursor.execute(sql, values)
        return cursor.fetchall() if cursor.description else []


def sessions(database=None):
    """The process numbers of the sessions in a database."""
    rows = query("SELECT pid FROM pg_stat_activity WHERE datname = %s", database or project.NAME)
    return {pid for (pid,) in rows}


def terminate(pid):
    return query("SELECT pg_terminate_backend(%s)", pid)


def databases():
    return {name for (name,) in query("SELECT datname FROM pg_database")}


def create_database():
    query(f'CREATE DATABASE "{project.NAME}"')


def drop_database():
    query(f'DROP DATABASE IF EXISTS "{project.NAME}" WITH (FORCE)')


def report():
    if DRIVER == "psycopg":
        driver = f"psycopg {Database.__version__} ({Database.pq.__impl__}), libpq {Database.pq.version()}"
    else:
        driver = f"psycopg2 {Database.__version__}, libpq {Database.extensions.libpq_version()}"
    return f"Python {platform.python_version()}, Django {django.get_version()}, {driver}"


HAS_ROLES = django.VERSION >= (4, 2)
if HAS_ROLES:
    from django.db.backends.postgresql.psycopg_any import IsolationLevel as LEVELS  # noqa: N814
else:

    class LEVELS:
        SERIALIZABLE = Database.extensions.ISOLATION_LEVEL_SERIALIZABLE
