"""No call outlasts its time, whatever the server does."""

import pytest
from django.db import OperationalError
from silence import Proxy, frozen, within
from support import eventually

import dbpool


def pid(wrapper):
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT pg_backend_pid()")
        return cursor.fetchone()[0]


@pytest.fixture
def proxy():
    proxy = Proxy()
    yield proxy
    proxy.close()


def test_connecting_to_a_silent_server_ends_with_the_timeout(add_database, proxy):
    wrapper = add_database(HOST="127.0.0.1", PORT=proxy.port, MAX_CONNS=1, TIMEOUT="300ms")
    proxy.dark = True
    with within(0.3), pytest.raises(OperationalError, match="connecting takes longer") as caught:
        wrapper.ensure_connection()
    assert isinstance(caught.value.__cause__, dbpool.ConnectError)
    proxy.dark = False
    pool = wrapper.pool
    assert eventually(lambda: pool.stats().idle == 1)
    assert pid(wrapper)
    assert proxy.accepted == 1
    wrapper.close()


@pytest.mark.parametrize("options", [{}, {"RESET": "discard_all"}])
def test_closing_ends_when_the_server_gives_no_answer(add_database, options):
    wrapper = add_database(MAX_CONNS=1, TIMEOUT=1, **options)
    wrapper.set_autocommit(bool(options))
    number, pool = pid(wrapper), wrapper.pool
    with frozen(number), within(1):
        wrapper.close()
    assert eventually(lambda: pool.stats().total == 0)
    assert pid(wrapper) != number
    wrapper.close()


def test_a_test_query_without_an_answer_ends_with_the_timeout(add_database):
    wrapper = add_database(MAX_CONNS=1, TIMEOUT="600ms", TEST_ON_BORROW=True)
    number = pid(wrapper)
    wrapper.close()
    with frozen(number), within(0.6), pytest.raises(OperationalError):
        wrapper.ensure_connection()
    assert eventually(lambda: wrapper.pool.stats().total == 0)
    assert pid(wrapper) != number
    wrapper.close()
