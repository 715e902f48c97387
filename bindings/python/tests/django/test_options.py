"""OPTIONS and the other settings of an alias."""

import pytest
from django.core.exceptions import ImproperlyConfigured

from dbpool.db.backends._options import KNOWN, PoolOptions, ours, parse


def options(health_checks=False, **given):
    return parse(given, alias="default", health_checks=health_checks)


def test_the_defaults_are_those_of_django_db_pool_and_of_the_pool():
    assert options() == PoolOptions(
        min_size=1, max_size=1, test_query=None, timeout=30, max_lifetime=1800, max_idle=600, reset="rollback"
    )


def test_min_conns_is_max_conns_by_default():
    assert options(MAX_CONNS=7).min_size == 7
    assert options(MAX_CONNS=7, MIN_CONNS=0).min_size == 0


@pytest.mark.parametrize(
    ("given", "query"),
    [
        ({}, None),
        ({"TEST_ON_BORROW_QUERY": "SELECT 2"}, None),
        ({"TEST_ON_BORROW": True}, "SELECT 1"),
        ({"TEST_ON_BORROW": True, "TEST_ON_BORROW_QUERY": "SELECT 2"}, "SELECT 2"),
        ({"health_checks": True}, "SELECT 1"),
    ],
)
def test_the_test_query(given, query):
    assert options(**given).test_query == query


@pytest.mark.parametrize(
    ("value", "seconds"), [(2, 2), (0.25, 0.25), ("250ms", 0.25), ("30m", 1800), (None, None), (float("inf"), None)]
)
def test_times_are_seconds_or_texts(value, seconds):
    given = options(TIMEOUT=value, MAX_LIFETIME=value, MAX_IDLE=value)
    assert (given.timeout, given.max_lifetime, given.max_idle) == (seconds, seconds, seconds)


def test_timeout_0_is_kept():
    assert options(TIMEOUT=0).timeout == 0


@pytest.mark.parametrize("value", ["rollback", "discard_all", "DISCARD PLANS; RESET ALL"])
def test_resets(value):
    assert options(RESET=value).reset == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("MAX_CONNS", 0),
        ("MAX_CONNS", -1),
        ("MAX_CONNS", "8"),
        ("MAX_CONNS", True),
        ("MAX_CONNS", None),
        ("MIN_CONNS", -1),
        ("MIN_CONNS", 2),
        ("TEST_ON_BORROW", 1),
        ("TEST_ON_BORROW", "yes"),
        ("TEST_ON_BORROW_QUERY", ""),
        ("TEST_ON_BORROW_QUERY", 5),
        ("TIMEOUT", -1),
        ("TIMEOUT", "5"),
        ("TIMEOUT", True),
        ("MAX_LIFETIME", "long"),
        ("MAX_IDLE", float("nan")),
        ("RESET", "discardall"),
        ("RESET", ""),
        ("RESET", True),
    ],
)
def test_a_wrong_value_names_its_option(name, value):
    with pytest.raises(ImproperlyConfigured, match=f"DATABASES\\['default'\\].*{name}"):
        options(**{name: value})


def test_an_unknown_upper_case_key_is_named_with_the_known_ones():
    with pytest.raises(ImproperlyConfigured) as caught:
        options(MAX_CONS=4)
    assert "MAX_CONS" in str(caught.value)
    assert all(name in str(caught.value) for name in KNOWN)


def test_lower_case_keys_are_the_drivers():
    assert ours({"MAX_CONNS": 2, "application_name": "x", "sslmode": "require"}) == {"MAX_CONNS": 2}


def test_the_driver_gets_its_options_and_none_of_ours(add_database):
    wrapper = add_database(MAX_CONNS=2, TIMEOUT=1, application_name="engine test", connect_timeout=7)
    parameters = wrapper.get_connection_params()
    assert not [name for name in parameters if name.isupper()]
    assert parameters["connect_timeout"] == 7
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT current_setting('application_name')")
        assert cursor.fetchone() == ("engine test",)


def test_an_unknown_key_of_the_driver_is_the_drivers_error(add_database):
    wrapper = add_database(no_such_option=1)
    with pytest.raises(Exception, match="no_such_option"):
        wrapper.ensure_connection()


@pytest.mark.parametrize("age", [60, None, 1.5])
def test_conn_max_age_is_refused_when_the_connection_is_first_used(add_database, age):
    wrapper = add_database(CONN_MAX_AGE=age)
    with pytest.raises(ImproperlyConfigured, match="remove CONN_MAX_AGE; the pool keeps connections"):
        wrapper.ensure_connection()


def test_a_wrong_option_is_refused_when_the_connection_is_first_used(add_database):
    wrapper = add_database(MAXCONNS=3)
    with pytest.raises(ImproperlyConfigured, match=r"DATABASES\['other\d+'\]\['OPTIONS'\]: unknown option MAXCONNS"):
        wrapper.ensure_connection()


def test_what_the_pool_itself_refuses_is_refused_alike(add_database):
    wrapper = add_database(MAX_CONNS=2**30)
    with pytest.raises(ImproperlyConfigured, match=r"DATABASES.*max_size"):
        wrapper.ensure_connection()


def test_dbshell_gets_none_of_our_options(one):
    arguments, environment = one.client.settings_to_cmd_args_env(one.settings_dict, ["-c", "SELECT 1"])
    assert arguments[0] == "psql"
    assert "MAX_CONNS" not in f"{arguments} {environment}"


def test_cursor_factory_is_used(add_database):
    import server

    base = server.Database.ClientCursor if server.DRIVER == "psycopg" else server.Database.extensions.cursor

    class Cursor(base):
        def shout(self):
            return "loud"

    wrapper = add_database(cursor_factory=Cursor)
    for _ in range(2):
        with wrapper.cursor() as cursor:
            assert cursor.shout() == "loud"
            cursor.execute("SELECT 1")
            assert cursor.fetchone() == (1,)
        wrapper.close()
