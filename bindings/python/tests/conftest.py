"""The tests run on a real server, which the usual environment variables of libpq name (PGHOST, PGUSER, ...)."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1]
PROJECT = PACKAGE.parents[1]
BUILT_LIBRARY = PROJECT / "build" / "lib" / "libdbpool.so.0"

if "DBPOOL_LIBRARY" not in os.environ and BUILT_LIBRARY.exists():
    os.environ["DBPOOL_LIBRARY"] = str(BUILT_LIBRARY)
# Hypothesis keeps what it found, and writes it into the current folder otherwise.
os.environ.setdefault("HYPOTHESIS_STORAGE_DIRECTORY", str(PROJECT / "build" / "hypothesis"))
# The programs that tests start find the same package and helpers.
os.environ["PYTHONPATH"] = os.pathsep.join([str(PACKAGE), str(PACKAGE / "tests")])
sys.path[:0] = [str(PACKAGE), str(PACKAGE / "tests")]


@pytest.fixture
def make_pool():
    """Makes pools, and closes them after the test."""
    import dbpool

    pools = []

    def make(conninfo="", **options):
        pools.append(dbpool.Pool(conninfo, **options))
        return pools[-1]

    yield make
    for pool in pools:
        pool.close()


@pytest.fixture
def pool(make_pool):
    """One connection at most, open."""
    pool = make_pool(min_size=1, max_size=1, acquire_timeout=10)
    pool.wait(timeout=10)
    return pool
