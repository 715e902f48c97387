"""A password that changes while the pool lives, and what shows it."""

from __future__ import annotations

import functools
import logging
import pprint

import pytest
from drivers import driver_pool, pid, value
from support import eventually, shown

ROLE = "rotated_role"
CANARY = "canary-93b1"


@pytest.fixture
def admin():
    psycopg2 = pytest.importorskip("psycopg2")
    connection = psycopg2.connect("")
    connection.autocommit = True

    def run(sql):
        connection.cursor().execute(sql)

    run(f"DROP ROLE IF EXISTS {ROLE}")
    run(f"CREATE ROLE {ROLE} LOGIN PASSWORD 'first'")
    yield run
    run(f"SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE usename = '{ROLE}'")
    run(f"DROP ROLE {ROLE}")
    connection.close()


@pytest.fixture(params=["psycopg2", "psycopg", "psycopg2.pool"])
def make_pool(request):
    """With a connection at most: `make(parameters)`."""
    made = []

    def make(parameters):
        if request.param == "psycopg2.pool":
            pytest.importorskip("psycopg2")
            from dbpool import psycopg2_pool

            made.append(psycopg2_pool.ThreadedConnectionPool(0, 1, timeout=10, **parameters))
        else:
            made.append(driver_pool(request.param)(parameters, max_size=1, timeout=10))
        return made[-1]

    make.conninfo = "conninfo" if request.param == "psycopg" else "dsn"
    yield make
    for pool in made:
        (getattr(pool, "closeall", None) or pool.close)()


class Password:
    """The function, and how often it was asked."""

    def __init__(self, now):
        self.now = now
        self.asked = 0

    def __call__(self):
        self.asked += 1
        return self.now


def test_a_function_is_asked_before_each_connect(make_pool, admin):
    password = Password("first")
    pool = make_pool({"user": ROLE, "password": password})
    connection = pool.getconn()
    first = pid(connection)
    assert (value(connection, "SELECT current_user"), password.asked) == (ROLE, 1)
    connection.rollback()
    pool.putconn(connection)
    admin(f"ALTER ROLE {ROLE} PASSWORD 'second'")
    password.now = "second"
    admin(f"SELECT pg_terminate_backend({first}, 5000)")
    assert eventually(lambda: pool.stats().lost == 1)  # the watch hears of it a moment after us
    connection = pool.getconn()
    assert pid(connection) != first
    assert password.asked == 2
    pool.putconn(connection)


def test_a_function_that_fails_is_the_error_of_the_getconn(make_pool):
    pool = make_pool({"user": ROLE, "password": functools.partial(int, "no token")})
    for _ in range(2):
        with pytest.raises(ValueError, match="no token"):
            pool.getconn()
    assert pool.stats().in_use == 0


@pytest.mark.parametrize("is_function", [False, True])
def test_nothing_shows_the_password(make_pool, admin, caplog, is_function):
    caplog.set_level(logging.DEBUG)
    password = (lambda: CANARY) if is_function else CANARY
    pool = make_pool({"user": ROLE, "password": password})
    with pytest.raises(Exception, match="authentication failed") as caught:
        pool.getconn()
    said = [shown(caught.value, __file__), str(caught.value)]
    said += [repr(pool), pprint.pformat(vars(pool)), repr(pool.stats())]
    said += [repr(vars(part)) for part in vars(pool).values() if hasattr(part, "__dict__")]
    said += [record.getMessage() for record in caplog.records]
    assert not [text for text in said if CANARY in text]


def test_nothing_shows_the_password_in_a_conninfo(make_pool, admin):
    pool = make_pool({make_pool.conninfo: f"user={ROLE} password={CANARY}"})
    with pytest.raises(Exception, match="authentication failed") as caught:
        pool.getconn()
    said = [shown(caught.value, __file__), repr(pool), pprint.pformat(vars(pool))]
    assert not [text for text in said if CANARY in text]


def test_the_drop_in_that_cannot_open_its_first_shows_none(admin):
    pytest.importorskip("psycopg2")
    from dbpool import psycopg2_pool

    with pytest.raises(Exception, match="authentication failed") as caught:
        psycopg2_pool.ThreadedConnectionPool(1, 1, f"user={ROLE}", password=CANARY)
    assert CANARY not in shown(caught.value, __file__)


def test_a_password_that_changed_costs_one_refused_login_at_most(pool_with_provider, admin):
    pool, password = pool_with_provider
    with pool.connection():
        pass
    admin(f"ALTER ROLE {ROLE} PASSWORD 'second'")
    password.now = "second"
    pool.reconnect()
    with pool.connection(timeout=10):
        pass
    assert pool.stats().connect_failures <= 1


@pytest.fixture
def pool_with_provider(admin):
    import dbpool

    password = Password("first")
    provider = lambda: f"user={ROLE} password={password()}"  # noqa: E731
    with dbpool.Pool(conninfo_provider=provider, max_size=1) as pool:
        yield pool, password
