"""What an error quotes of a conninfo: nothing of a password, and all else."""

from __future__ import annotations

import importlib

import pytest
from drivers import driver_pool
from support import shown

CANARY = "caNary"
HOST = "127.0.0.1:1"


@pytest.fixture(params=["psycopg2", "psycopg", "psycopg2_pool"])
def connect(request):
    """Of a pool: makes it open a connection with this conninfo."""
    if request.param == "psycopg2_pool":
        pytest.importorskip("psycopg2")
        module = importlib.import_module("dbpool.psycopg2_pool")
        return lambda text: module.ThreadedConnectionPool(1, 2, text)
    name = {"psycopg2": "dsn", "psycopg": "conninfo"}[request.param]
    pool = driver_pool(request.param)
    return lambda text: pool({name: text}, timeout=0.2).getconn()


def told(connect, text):
    with pytest.raises(Exception, match=r".") as caught:
        connect(text)
    error = caught.value
    while error is not None:
        yield str(error)
        error = error.__cause__ or error.__context__
    yield shown(caught.value, __file__)


@pytest.mark.parametrize(
    "text",
    [
        f"postgresql://u:{CANARY}%zz@{HOST}/db",
        f"postgresql://u:{CANARY}/x@{HOST}/db",
        f"postgresql://u:1/{CANARY}@no.such.invalid/db",
        f"postgresql://u:x@{CANARY}@{HOST}/db",
        f"postgresql://u:x@y%41{CANARY}@{HOST}/db",
        f"postgresql://u:x@{CANARY}/y@{HOST}/db",
        f'postgresql://u:x@a"{CANARY}"b@{HOST}/db',
        f"postgresql://u:x@{CANARY}?y@{HOST}/db",
        f"postgresql://u:[{CANARY}@{HOST}/db",
        f"postgresql://u@{HOST}/db?password={CANARY}%zz",
        f"postgresql://u@{HOST}/db?password=a=b{CANARY}",
        f"postgresql://u@{HOST}/db?password=x&{CANARY}",
        f"host=h password='{CANARY}",
        f"host=h password=x {CANARY}",
        f"host=h password=x {CANARY}=y",
        f'host=h password=x a"b {CANARY}"',
        f"host=no.such.invalid;password={CANARY}",
        f"host=127.0.0.1 port=1;password={CANARY}",
        f"postgresql+psycopg2://u:{CANARY}@{HOST}/db",
    ],
)
def test_nothing_of_a_password_is_quoted(connect, text):
    assert not [words for words in told(connect, text) if CANARY in words]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("host=h sslmod=require", "sslmod"),
        ("host=no.such.invalid password=x", "no.such.invalid"),
        ("postgresql://u:x@no.such.invalid/db", "no.such.invalid"),
        ("postgresql://u:no@no.such.invalid/db?application_name=a@b", "no.such.invalid"),
        ("postgresql://127.0.0.1:1/db?user=u@v", "127.0.0.1"),
        ("postgresql://%40abstract/db", "@abstract"),
    ],
)
def test_all_else_is_quoted(connect, text, words):
    assert words in next(told(connect, text))


def test_a_password_with_an_at_sign_is_named_as_the_cause(connect):
    assert "%40" in next(told(connect, f"postgresql://u:x@{CANARY}@{HOST}/db"))
