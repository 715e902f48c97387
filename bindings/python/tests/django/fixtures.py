import itertools
import threading

import pytest
from django.db import connections
from project import database

_numbers = itertools.count()


@pytest.fixture
def add_database():
    """Makes further aliases, of the same database, with a pool of their own: the wrapper of this thread."""
    aliases = []

    def add(**changes):
        alias = f"other{next(_numbers)}"
        options = {name: changes.pop(name) for name in list(changes) if name not in SETTINGS}
        connections.settings[alias] = {**DEFAULTS, **database(**options), **changes}
        aliases.append(alias)
        return connections[alias]

    yield add
    for alias in aliases:
        wrapper = connections[alias]
        # A test may have left it in a state in which Django does not close.
        wrapper.in_atomic_block = wrapper.closed_in_transaction = False
        wrapper.settings_dict["CONN_MAX_AGE"] = 0
        wrapper.close()
        # Django's own is closed by the test that made it.
        wrapper.settings_dict["OPTIONS"].pop("pool", None)
        wrapper.close_pool()
        del connections[alias]
        del connections.settings[alias]


DEFAULTS = {
    "ATOMIC_REQUESTS": False,
    "AUTOCOMMIT": True,
    "CONN_MAX_AGE": 0,
    "CONN_HEALTH_CHECKS": False,
    "TIME_ZONE": None,
    "TEST": {"CHARSET": None, "COLLATION": None, "MIGRATE": True, "MIRROR": None, "NAME": None},
}
SETTINGS = {*DEFAULTS, "ENGINE", "NAME", "USER", "PASSWORD", "HOST", "PORT"}


@pytest.fixture
def one(add_database):
    """An alias with one connection."""
    return add_database(MAX_CONNS=1, TIMEOUT=5)


@pytest.fixture
def two(add_database):
    """An alias with two connections."""
    return add_database(MAX_CONNS=2, TIMEOUT=5)


@pytest.fixture
def tables():
    """The tables of the app `stock`, empty."""
    from django.core.management import call_command
    from stock.models import Product, Sale

    call_command("migrate", verbosity=0)
    Sale.objects.all().delete()
    Product.objects.all().delete()
    yield
    connections["default"].close()


@pytest.fixture(autouse=True)
def all_given_back():
    """No test leaves a loan of the default pool behind, nor a thread."""
    before = threading.active_count()
    yield
    connections["default"].close()
    assert threading.active_count() <= before + 1  # the pools' own thread
