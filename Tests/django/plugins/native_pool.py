"""A plugin of pytest: the tests run while a native pool has a session open in the same process, with the libpq that
libdbpool is linked with; the driver may have brought another. Afterwards that session still has to be there.
"""

from __future__ import annotations

import ctypes

import pytest


def backend(address: int) -> int:
    libpq = ctypes.CDLL("libpq.so.5")
    libpq.PQbackendPID.argtypes = [ctypes.c_void_p]
    return libpq.PQbackendPID(address)


@pytest.fixture(autouse=True, scope="session")
def native_pool():
    import dbpool

    with dbpool.Pool("application_name=native", min_size=1, max_size=1, max_lifetime=0) as pool:
        with pool.connection() as connection:
            before = backend(connection)
        yield pool
        with pool.connection() as connection:
            assert backend(connection) == before
