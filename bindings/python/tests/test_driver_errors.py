"""What the text of a failed connect says."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dbpool import errors
from dbpool._driver_errors import sqlstate, subclasses, translated

HOST = 'connection to server at "127.0.0.1", port 5432 failed: '


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('FATAL:  password authentication failed for user "x"', "28P01"),
        ("fe_sendauth: no password supplied", "28P01"),
        ('FATAL:  no pg_hba.conf entry for host "1.2.3.4", user "x", database "y", no encryption', "28000"),
        ('FATAL:  role "x" does not exist', "28000"),
        ('FATAL:  role "x" is not permitted to log in', "28000"),
        ('FATAL:  Peer authentication failed for user "x"', "28000"),
        ('FATAL:  database "does not exist" does not exist', "3D000"),
        ('FATAL:  permission denied for database "x"', "42501"),
        ('FATAL:  database "x" is not currently accepting connections', "55000"),
        ("FATAL:  sorry, too many clients already", "53300"),
        ('FATAL:  too many connections for role "x"', "53300"),
        ("FATAL:  remaining connection slots are reserved for superusers", "53300"),
        ("FATAL:  the database system is starting up", "57P03"),
        ("Connection refused\n\tIs the server running on that host and accepting TCP/IP connections?", None),
        ("timeout expired", None),
        ("server closed the connection unexpectedly", None),
        ('FATAL:  Passwort-Authentifizierung für Benutzer "x" fehlgeschlagen', None),
    ],
)
def test_one_host(text, expected):
    assert sqlstate(HOST + text + "\n") == expected


def test_of_several_hosts_the_one_that_may_take_us_later_counts():
    refused = HOST + 'FATAL:  role "x" does not exist\n'
    starting = HOST + "FATAL:  the database system is starting up\n"
    full = HOST + "FATAL:  sorry, too many clients already\n"
    silent = HOST + "timeout expired\n"
    assert sqlstate(refused + refused) == "28000"
    assert sqlstate(refused + starting) == sqlstate(starting + refused) == "57P03"
    assert sqlstate(refused + full + starting) == "53300"
    assert sqlstate(refused + silent) is None


@pytest.mark.parametrize(
    "text",
    [
        'invalid sslmode value: "bogus"',
        'invalid integer value "x" for connection option "port"',
        "could not match 3 port numbers to 2 hosts",
        'definition of service "none" not found',
    ],
)
def test_what_libpq_itself_refuses_is_not_worth_another_try(text):
    assert sqlstate(text + "\n") == sqlstate("connection is bad: " + text) == "0A000"


@given(st.text())
def test_any_text_has_an_answer(text):
    assert sqlstate(text) in (None, "0A000", "28P01", "28000", "3D000", "42501", "53300", "55000", "57P03")


class Driver:
    class Error(Exception):
        pass

    class OperationalError(Error):
        pass

    class InterfaceError(Error):
        pass

    class ProgrammingError(Error):
        pass


def test_every_error_of_a_pool_has_a_subclass_of_the_drivers():
    kinds = subclasses("somewhere", Driver)
    assert set(kinds) == set(errors.BY_CODE.values())
    for kind, mine in kinds.items():
        error = translated(kind("why"), kinds)
        assert type(error) is mine
        assert isinstance(error, (kind, Driver.Error))
        assert (str(error), error.code) == ("why", kind.code)
        assert translated(error, kinds) is error
    assert issubclass(kinds[errors.PoolClosed], Driver.InterfaceError)
    assert issubclass(kinds[errors.PoolTimeout], Driver.OperationalError)


def test_a_code_of_a_later_library_is_kept():
    error = translated(errors.Error("new", -99), subclasses("somewhere", Driver))
    assert isinstance(error, Driver.OperationalError)
    assert error.code == -99
