"""In what states a borrower can leave a connection; each function is called with the address of a PGconn."""

from __future__ import annotations

import pq


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
