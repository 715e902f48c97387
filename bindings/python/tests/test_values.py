from __future__ import annotations

import datetime
import math

import pytest

from dbpool import InvalidArgument
from dbpool._values import c_text, choice, integer, milliseconds


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (0, 0),
        (1, 1000),
        (0.25, 250),
        (1.1, 1100),
        (0.29, 290),
        (0.0001, 1),
        (1e-300, 1),
        ("250ms", 250),
        ("30m", 1_800_000),
        ("30min", 1_800_000),
        ("1.5s", 1500),
        (".5 s", 500),
        ("2h", 7_200_000),
        ("1d", 86_400_000),
        ("1us", 1),
        ("0s", 0),
        (datetime.timedelta(minutes=1), 60_000),
        (2147483.647, 2**31 - 1),
    ],
)
def test_durations(value, expected):
    assert milliseconds(value, "max_lifetime") == expected


@pytest.mark.parametrize(
    "value",
    [
        -1,
        -0.001,
        math.nan,
        math.inf,
        -math.inf,
        1e300,
        10**400,
        2147483.648,
        "",
        "5",
        "s",
        "-5s",
        "5 parsecs",
        "1e3s",
        "٣s",
        datetime.timedelta(seconds=-1),
        "9" * 400 + "d",
    ],
)
def test_what_is_no_duration_is_refused_by_name(value):
    with pytest.raises(InvalidArgument, match="max_lifetime"):
        milliseconds(value, "max_lifetime")


@pytest.mark.parametrize("value", [True, None, b"5s", [], 1j])
def test_what_has_no_type_of_a_duration_is_refused_by_name(value):
    with pytest.raises(TypeError, match="max_lifetime"):
        milliseconds(value, "max_lifetime")


def test_infinity_is_only_where_it_is_meant():
    assert milliseconds(math.inf, "timeout", infinite=-2) == -2
    with pytest.raises(InvalidArgument, match="above 0"):
        milliseconds(0, "connect_timeout", positive=True)


def test_integers():
    assert integer(-5, "min_size") == -5
    for value in (2**31, -(2**31) - 1, 10**30):
        with pytest.raises(InvalidArgument, match="min_size"):
            integer(value, "min_size")
    for value in (1.0, "1", True, None):
        with pytest.raises(TypeError, match="min_size"):
            integer(value, "min_size")


def test_choices():
    assert choice("b", "check", {"a": 0, "b": 1}) == 1
    assert choice(7, "check", {}) == 7
    with pytest.raises(InvalidArgument, match="check: 'c' is not one of a, b"):
        choice("c", "check", {"a": 0, "b": 1})


def test_texts():
    assert c_text("ä\udcff", "name") == b"\xc3\xa4\xff"
    for value in ("a\0b", b"\0", "\ud800"):
        with pytest.raises(InvalidArgument, match="name"):
            c_text(value, "name")
    with pytest.raises(TypeError, match="name"):
        c_text(5, "name")
