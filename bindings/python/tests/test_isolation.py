"""With discard_all nothing that a borrower leaves reaches the next one: each kind of state is seen to be there, and
looked for by the next borrower of the same session."""

from __future__ import annotations

import contextlib

import pytest
from drivers import driver_pool, pid, value

KINDS = {
    "search_path": ("SET search_path TO pg_catalog", "SHOW search_path"),
    "temporary table": ("CREATE TEMP TABLE left_behind (n int)", "SELECT to_regclass('pg_temp.left_behind')::text"),
    "advisory lock": (
        "SELECT pg_advisory_lock(4714)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "listen": ("LISTEN isolation_channel", "SELECT count(*) FROM pg_listening_channels()"),
    "prepared statement": ("PREPARE left_behind AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    "application_name": ("SET application_name TO 'left'", "SHOW application_name"),
    "role": ("SET ROLE pg_monitor", "SELECT current_user"),
}


@pytest.fixture(params=["psycopg2", "psycopg"])
def pool(request):
    kind = driver_pool(request.param)
    autocommit = lambda connection: setattr(connection, "autocommit", True)  # noqa: E731
    pool = kind({}, max_size=1, reset="discard_all", configure=autocommit)
    yield pool
    pool.close()


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_stay(pool, kind):
    leave, question = KINDS[kind]
    connection = pool.getconn(timeout=10)
    connection.autocommit = True
    fresh, first = value(connection, question), pid(connection)
    connection.cursor().execute(leave)
    assert value(connection, question) != fresh
    pool.putconn(connection)
    connection = pool.getconn(timeout=10)
    assert (value(connection, question), pid(connection)) == (fresh, first)
    pool.putconn(connection)


@pytest.mark.parametrize("state", ["SELECT 1/0", "BEGIN; SELECT 1/0", "COPY pg_class TO STDOUT"])
def test_nor_after_a_query_that_went_wrong(pool, state):
    connection = pool.getconn(timeout=10)
    connection.autocommit = True
    connection.cursor().execute("SET search_path TO pg_catalog")
    with contextlib.suppress(Exception):
        connection.cursor().execute(state)
    pool.putconn(connection)
    connection = pool.getconn(timeout=10)
    assert value(connection, "SHOW search_path") == '"$user", public'
    pool.putconn(connection)


def test_the_borrowers_own_timeout_hits_nobody_else(pool):
    """PostgreSQL canceled the next borrower's first query, when DISCARD ALL had taken longer than the statement_timeout
    that it took away."""
    connection = pool.getconn(timeout=10)
    connection.autocommit = True
    tables = "; ".join(f"CREATE TEMP TABLE left_behind_{number} (n int)" for number in range(100))
    connection.cursor().execute(tables)
    connection.cursor().execute("SET statement_timeout TO 1")
    pool.putconn(connection)
    connection = pool.getconn(timeout=10)
    assert value(connection, "SELECT 4711") == 4711
    assert value(connection, "SELECT count(*) FROM pg_class WHERE relname LIKE 'left_behind%'") == 0
    pool.putconn(connection)
