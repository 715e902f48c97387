"""With RESET discard_all nothing that a request leaves in its session reaches the next; a password may change."""

import pytest
from project import database
from test_loans import pid
from test_session_state import execute

KINDS = {
    "search_path": ("SET search_path TO pg_catalog", "SHOW search_path"),
    "temporary table": ("CREATE TEMP TABLE left_behind (n int)", "SELECT to_regclass('pg_temp.left_behind')::text"),
    "advisory lock": (
        "SELECT pg_advisory_lock(4715)",
        "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND pid = pg_backend_pid()",
    ),
    "listen": ("LISTEN isolation_channel", "SELECT count(*) FROM pg_listening_channels()"),
    "prepared statement": ("PREPARE left_behind AS SELECT 1", "SELECT count(*) FROM pg_prepared_statements"),
    "application_name": ("SET application_name TO 'left'", "SHOW application_name"),
    "role": ("SET ROLE pg_monitor", "SELECT current_user"),
}


def ask(wrapper, question):
    with wrapper.cursor() as cursor:
        cursor.execute(question)
        return cursor.fetchone()


@pytest.mark.parametrize("kind", KINDS)
def test_it_does_not_stay(add_database, kind):
    leave, question = KINDS[kind]
    wrapper = add_database(RESET="discard_all", MAX_CONNS=1)
    fresh, first = ask(wrapper, question), pid(wrapper)
    execute(wrapper, leave)
    assert ask(wrapper, question) != fresh
    wrapper.close()
    assert (ask(wrapper, question), pid(wrapper)) == (fresh, first)


def test_a_password_may_be_a_function(add_database):
    told = [database()["PASSWORD"]]
    wrapper = add_database(MAX_CONNS=1, PASSWORD=lambda: told[-1])
    first = pid(wrapper)
    wrapper.close()
    wrapper.pool.reconnect()
    assert pid(wrapper) != first
    with wrapper._nodb_cursor() as cursor:  # not from the pool
        cursor.execute("SELECT 1")
        assert cursor.fetchone() == (1,)
