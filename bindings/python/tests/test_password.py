"""A password appears in no message, log line, statistic or repr."""

from __future__ import annotations

import traceback

import pytest
from support import eventually, query

import dbpool

CANARY = "canary-7f3a"


@pytest.fixture
def told():
    """All that was said; searched for the password at the end."""
    said = []
    yield said
    assert said
    assert not [text for text in said if CANARY in text]


def tell(told, pool):
    told += [repr(pool), str(pool), repr(vars(pool)), repr(pool._callbacks.__dict__)]


def test_of_a_pool_that_works(make_pool, told):
    pool = make_pool(f"password={CANARY} application_name=x", log=lambda level, message: told.append(message))
    tell(told, pool)
    told.append(repr(pool.stats()))


@pytest.mark.parametrize("form", ["user=nobody_at_all password={}", "postgresql://nobody_at_all:{}@/postgres"])
def test_of_a_refused_login(make_pool, told, form):
    pool = make_pool(form.format(CANARY), min_size=1, log=lambda level, message: told.append(message))
    for call in (lambda: pool.get(2), lambda: pool.wait(2)):
        with pytest.raises(dbpool.ConnectError) as caught:
            call()
        told += [str(caught.value), repr(caught.value)]
        told += traceback.format_exception_only(type(caught.value), caught.value)
    tell(told, pool)


@pytest.mark.parametrize(
    "conninfo",
    [
        f"password={CANARY} frobnicate=1",
        f"password='{CANARY}",
        f"password={CANARY} pool_max_size=-1",
        f"postgresql://user:{CANARY}@host:port:5/db?x",
        f"postgresql://user:{CANARY}%zz@host/db",
        f"postgresql://user:{CANARY}@host/db?frobnicate={CANARY}",
        f"password={CANARY}\0",
    ],
)
def test_of_a_conninfo_that_is_wrong(told, conninfo):
    with pytest.raises(dbpool.InvalidArgument) as caught:
        dbpool.Pool(conninfo)
    told += [str(caught.value), repr(caught.value)]


def test_of_a_provider(make_pool, told):
    lines = []
    pool = make_pool(
        conninfo_provider=lambda: f"password={CANARY} application_name=y", log=lambda _, message: lines.append(message)
    )
    try:
        with pool.connection(timeout=1) as conn:
            query(conn, "do $$ begin raise notice 'x'; end $$")
        eventually(lambda: lines)
    except dbpool.ConnectError as error:
        told.append(str(error))
    told += lines
    tell(told, pool)
