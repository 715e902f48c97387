"""In what states a borrower can leave a connection."""

from __future__ import annotations

import contextlib
from typing import Any, Callable

import pq

# Called with a PGconn's address.


def mid_copy_in(address: int) -> None:
    pq.query(address, "CREATE TEMP TABLE IF NOT EXISTS copied (x int)")
    pq.query(address, "COPY copied FROM STDIN")
    pq.put_copy_data(address, b"1\n", 2)


def mid_copy_out(address: int) -> None:
    pq.query(address, "COPY (SELECT generate_series(1, 100000)) TO STDOUT")


def mid_pipeline(address: int) -> None:
    assert pq.enter_pipeline_mode(address) == 1
    assert pq.send_query_params(address, b"SELECT 'of the pipeline'", 0, None, None, None, None, 0) == 1


def single_row(address: int) -> None:
    assert pq.send_query(address, b"SELECT generate_series(1, 100000)") == 1
    assert pq.set_single_row_mode(address) == 1
    pq.clear(pq.get_result(address))


def not_consumed(address: int) -> None:
    assert pq.send_query(address, b"SELECT 'of the one before'") == 1


def non_blocking(address: int) -> None:
    assert pq.set_nonblocking(address, 1) == 0


LEFT_BEHIND = (mid_copy_in, mid_copy_out, mid_pipeline, single_row, not_consumed, non_blocking)


# Called with a connection of the driver.


def busy_psycopg2() -> list[Callable[[Any], None]]:
    """It is synchronous, so that little can be left half done."""

    def half_read_cursor(connection: Any) -> None:
        connection.autocommit = False
        cursor = connection.cursor("left_behind")
        cursor.execute("SELECT generate_series(1, 100000)")
        cursor.fetchone()

    def copy_in_that_failed(connection: Any) -> None:
        class Broken:
            def read(self, _size: int = -1) -> str:
                raise ValueError("the file cannot be read")

        with connection.cursor() as cursor:
            cursor.execute("CREATE TEMP TABLE IF NOT EXISTS copied (x int)")
            with contextlib.suppress(Exception):
                cursor.copy_expert("COPY copied FROM STDIN", Broken())

    def copy_out_that_failed(connection: Any) -> None:
        class Full:
            def write(self, _text: str) -> None:
                raise ValueError("the disk is full")

        with connection.cursor() as cursor, contextlib.suppress(Exception):
            cursor.copy_expert("COPY (SELECT generate_series(1, 100000)) TO STDOUT", Full())

    return [half_read_cursor, copy_in_that_failed, copy_out_that_failed]


def busy_psycopg() -> list[Callable[[Any], None]]:
    """Through psycopg's own view of libpq."""

    def mid_copy_in(connection: Any) -> None:
        connection.pgconn.exec_(b"CREATE TEMP TABLE IF NOT EXISTS copied (x int)")
        connection.pgconn.exec_(b"COPY copied FROM STDIN")

    def mid_copy_out(connection: Any) -> None:
        connection.pgconn.exec_(b"COPY (SELECT generate_series(1, 100000)) TO STDOUT")

    def mid_pipeline(connection: Any) -> None:
        connection.pgconn.enter_pipeline_mode()
        connection.pgconn.send_query_params(b"SELECT 'of the pipeline'", None)

    def single_row(connection: Any) -> None:
        connection.pgconn.send_query(b"SELECT generate_series(1, 100000)")
        connection.pgconn.set_single_row_mode()
        connection.pgconn.get_result()

    def not_consumed(connection: Any) -> None:
        connection.pgconn.send_query(b"SELECT 'of the one before'")

    def half_read_cursor(connection: Any) -> None:
        connection.autocommit = False
        cursor = connection.cursor("left_behind")
        cursor.execute("SELECT generate_series(1, 100000)")
        cursor.fetchone()

    return [mid_copy_in, mid_copy_out, mid_pipeline, single_row, not_consumed, half_read_cursor]
