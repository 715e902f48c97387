"""OPTIONS["pool"]: False is no pool, True or a dict is the pool of Django 5.1 and later."""

import django
import pytest
import server
from django.core.exceptions import ImproperlyConfigured
from support import eventually
from test_loans import pid

HAS_OWN_POOL = django.VERSION >= (5, 1)


def test_false_is_no_pool(add_database):
    wrapper = add_database(pool=False, MAX_CONNS=4, CONN_MAX_AGE=60)
    first = pid(wrapper)
    assert wrapper.pool is None
    wrapper.close()
    assert eventually(lambda: first not in server.sessions())
    assert pid(wrapper) != first


@pytest.mark.skipif(HAS_OWN_POOL, reason="Django has a pool of its own")
def test_true_is_refused_where_django_has_no_pool(add_database):
    with pytest.raises(ImproperlyConfigured, match=r"OPTIONS\['pool'\]"):
        add_database(pool=True).ensure_connection()


@pytest.mark.skipif(not HAS_OWN_POOL, reason="Django has no pool of its own")
@pytest.mark.skipif(server.DRIVER != "psycopg2", reason="refused by Django for psycopg2 only")
def test_djangos_own_pool_is_not_for_psycopg2(add_database):
    with pytest.raises(ImproperlyConfigured, match="psycopg >= 3"):
        add_database(pool=True).ensure_connection()


@pytest.mark.skipif(not HAS_OWN_POOL or server.DRIVER != "psycopg", reason="for psycopg, in Django 5.1 and later")
@pytest.mark.parametrize("value", [True, {"min_size": 1, "max_size": 2}])
def test_true_or_a_dict_is_djangos_own_pool(add_database, value):
    psycopg_pool = pytest.importorskip("psycopg_pool")
    wrapper = add_database(pool=value, MAX_CONNS=4)
    first = pid(wrapper)
    assert type(wrapper.pool) is psycopg_pool.ConnectionPool
    wrapper.close()
    assert wrapper.connection is None
    assert first in server.sessions()
    wrapper.close_pool()
    assert eventually(lambda: first not in server.sessions())
