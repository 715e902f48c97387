"""What a borrower finds, whatever the one before did."""

import pytest
import server
from django.db import Error, connections, transaction
from support import Thread
from test_loans import pid


def show(wrapper, name):
    with wrapper.cursor() as cursor:
        cursor.execute(f"SHOW {name}")
        return cursor.fetchone()[0]


def execute(wrapper, sql):
    with wrapper.cursor() as cursor:
        cursor.execute(sql)


def test_the_time_zone_is_set_once_per_session_and_again_if_it_was_changed(one):
    assert show(one, "TimeZone") == "UTC"
    execute(one, "SET TIME ZONE 'Asia/Tokyo'")
    first = pid(one)
    one.close()
    assert show(one, "TimeZone") == "UTC"
    assert pid(one) == first


def test_time_zone_of_the_alias(add_database):
    wrapper = add_database(TIME_ZONE="Europe/Rome")
    for _ in range(2):
        assert show(wrapper, "TimeZone") == "Europe/Rome"
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT '2024-07-01 12:00+00'::timestamptz")
            assert str(cursor.fetchone()[0].tzinfo) == "Europe/Rome"
        wrapper.close()


def test_an_idle_connection_costs_no_round_trip_to_lend(one):
    first = pid(one)
    one.close()
    # The server's clock of the last statement of that session: nothing has been said to it since.
    seen = "SELECT query_start, query FROM pg_stat_activity WHERE pid = %s"
    before = server.query(seen, first)
    one.ensure_connection()
    assert server.query(seen, first) == before
    one.close()
    assert server.query(seen, first) == before


def test_autocommit_is_restored(one):
    one.set_autocommit(False)
    execute(one, "CREATE TEMPORARY TABLE left_behind (n int)")
    first = pid(one)
    one.close()
    one.ensure_connection()
    assert one.get_autocommit()
    assert one.connection.autocommit
    with one.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_behind'), pg_backend_pid()")
        assert cursor.fetchone() == (None, first)


def test_an_alias_without_autocommit(add_database):
    wrapper = add_database(AUTOCOMMIT=False, TIME_ZONE="Europe/Rome")
    for _ in range(2):
        assert not wrapper.get_autocommit()
        assert show(wrapper, "TimeZone") == "Europe/Rome"
        wrapper.rollback()
        assert show(wrapper, "TimeZone") == "Europe/Rome"
        wrapper.close()


def test_isolation_level_of_options_holds_for_each_loan(add_database):
    level = server.LEVELS.SERIALIZABLE
    wrapper = add_database(isolation_level=level)
    for _ in range(2):
        with transaction.atomic(using=wrapper.alias):
            assert show(wrapper, "transaction_isolation") == "serializable"
        wrapper.close()


def test_an_isolation_level_of_one_loan_is_not_the_next_ones(one):
    one.ensure_connection()
    one.connection.isolation_level = server.LEVELS.SERIALIZABLE
    with transaction.atomic(using=one.alias):
        assert show(one, "transaction_isolation") == "serializable"
    one.close()
    with transaction.atomic(using=one.alias):
        assert show(one, "transaction_isolation") == "read committed"


def test_an_open_transaction_is_rolled_back(one):
    execute(one, "CREATE TABLE IF NOT EXISTS notes (n int); DELETE FROM notes")
    one.set_autocommit(False)
    execute(one, "INSERT INTO notes VALUES (1)")
    one.close()
    with one.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM notes")
        assert cursor.fetchone() == (0,)


def test_discard_all_clears_the_session_and_django_sets_it_up_again(add_database):
    wrapper = add_database(RESET="discard_all", TIME_ZONE="Europe/Rome")
    execute(wrapper, "CREATE TEMPORARY TABLE left_behind (n int); SET statement_timeout = '7s'")
    first = pid(wrapper)
    wrapper.close()
    with wrapper.cursor() as cursor:
        cursor.execute("SELECT to_regclass('left_behind'), current_setting('statement_timeout'), pg_backend_pid()")
        assert cursor.fetchone() == (None, "0", first)
    assert show(wrapper, "TimeZone") == "Europe/Rome"


def test_a_reset_of_ones_own(add_database):
    wrapper = add_database(RESET="RESET statement_timeout")
    execute(wrapper, "SET statement_timeout = '7s'")
    wrapper.close()
    assert show(wrapper, "statement_timeout") == "0"


@pytest.mark.parametrize("reset", ["rollback", "discard_all"])
@pytest.mark.skipif(not server.HAS_ROLES, reason="Django 4.2 has brought assume_role")
def test_assume_role(add_database, reset):
    role = f"role_of_{reset}"
    if not server.query("SELECT 1 FROM pg_roles WHERE rolname = %s", role):
        server.query(f"CREATE ROLE {role}")
    wrapper = add_database(assume_role=role, RESET=reset)
    for _ in range(2):
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT current_user")
            assert cursor.fetchone() == (role,)
        wrapper.close()


@pytest.mark.skipif(server.DRIVER != "psycopg", reason="psycopg prepares statements by itself, psycopg2 does not")
@pytest.mark.parametrize("reset", ["rollback", "discard_all"])
def test_prepared_statements_are_remembered_or_cleared_with_those_of_the_server(add_database, reset):
    wrapper = add_database(server_side_binding=True, prepare_threshold=0, RESET=reset)
    for number in range(3):
        with wrapper.cursor() as cursor:
            cursor.execute("SELECT %s::int", [number])
            assert cursor.fetchone() == (number,)
            cursor.execute("SELECT count(*) FROM pg_prepared_statements")
            assert cursor.fetchone()[0] >= 1
        wrapper.close()


def test_json_is_decoded_by_the_field_alone(tables):
    from stock.models import Product

    Product.objects.create(name="lamp", details={"watt": 5})
    connections["default"].close()
    assert Product.objects.get().details == {"watt": 5}
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT details FROM stock_product")
        assert cursor.fetchone() == ('{"watt": 5}',)


def test_a_cursor_of_an_earlier_loan_refuses_work(one):
    one.ensure_connection()
    cursor = one.connection.cursor()
    cursor.execute("SELECT 1")
    one.close()
    one.ensure_connection()
    with pytest.raises(one.Database.InterfaceError):
        cursor.execute("SELECT 2")


def test_a_connection_in_the_pool_refuses_work(one):
    one.ensure_connection()
    kept = one.connection
    one.close()
    with pytest.raises(one.Database.InterfaceError):
        kept.cursor()


def test_an_unfinished_iterator_leaves_nothing_to_the_next_thread(tables, two):
    from stock.models import Product

    def fill():
        Product.objects.bulk_create(Product(name=f"p{number}") for number in range(50))

    fill()
    two.settings_dict["OPTIONS"]["MAX_CONNS"] = 1

    def begin():
        rows = Product.objects.using(two.alias).order_by("pk").iterator(chunk_size=2)
        next(rows)
        process = pid(connections[two.alias])
        connections[two.alias].close()
        return rows, process

    rows, first = Thread(begin).finish()

    def other():
        wrapper = connections[two.alias]
        try:
            with transaction.atomic(using=two.alias):
                with pytest.raises(Error):
                    list(rows)
                with wrapper.cursor() as cursor:  # the transaction is not disturbed
                    cursor.execute("SELECT count(*), pg_backend_pid() FROM pg_cursors")
                    left, process = cursor.fetchone()
            return left, process, len(list(Product.objects.using(two.alias).iterator(chunk_size=10)))
        finally:
            wrapper.close()

    assert Thread(other).finish() == (0, first, 50)
