"""The arguments of a connect."""

from __future__ import annotations

import math

import pytest

from dbpool import _connecting


def arguments(given, parsed=None, seconds=None):
    opening, _, _ = _connecting.prepare(dict(given), lambda _dsn: parsed)
    return opening(lambda **found: found, seconds)


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch):
    for name in ("PGCONNECT_TIMEOUT", "PGSERVICE"):
        monkeypatch.delenv(name, raising=False)


def test_what_the_user_did_not_set_has_a_default():
    assert arguments({"host": "h"}) == {
        "host": "h",
        "keepalives_idle": 30,
        "keepalives_interval": 10,
        "keepalives_count": 3,
        "tcp_user_timeout": 30000,
        "connect_timeout": 10,
    }


def test_what_the_user_set_stays():
    found = arguments({"dsn": "...", "keepalives_idle": 7}, {"tcp_user_timeout": "5", "connect_timeout": "4"})
    assert (found["keepalives_idle"], found["connect_timeout"]) == (7, 4)
    assert "tcp_user_timeout" not in found


def test_a_service_may_set_them(monkeypatch):
    assert set(arguments({"service": "s"})) == {"service", "connect_timeout"}
    monkeypatch.setenv("PGSERVICE", "s")
    assert set(arguments({})) == {"connect_timeout"}


@pytest.mark.parametrize(
    ("given", "seconds", "expected"),
    [
        ({}, None, 10),
        ({}, 60, 10),
        ({}, 5.2, 6),
        ({}, 0.1, 2),
        ({"connect_timeout": 3}, 60, 3),
        ({"connect_timeout": "3"}, None, 3),
        ({"connect_timeout": 0}, None, 0),
        ({"connect_timeout": 0}, 7, 7),
        ({"connect_timeout": "soon"}, None, "soon"),
    ],
)
def test_a_connect_ends_with_the_deadline(given, seconds, expected):
    assert arguments(given, seconds=seconds)["connect_timeout"] == expected


def test_the_environment_counts(monkeypatch):
    monkeypatch.setenv("PGCONNECT_TIMEOUT", "4")
    assert arguments({})["connect_timeout"] == 4
    assert _connecting.connect_timeout({"connect_timeout": 0}, 10) == math.inf


def test_the_password_is_blanked_wherever_it_was_given():
    for given, parsed in (({"password": "se cret"}, {}), ({"dsn": "..."}, {"password": "se cret"})):
        _, redact, _ = _connecting.prepare(given, lambda _dsn, parsed=parsed: parsed)
        assert redact("no se cret here") == "no *** here"
    assert _connecting.prepare({}, dict)[1]("text") == "text"


@pytest.mark.parametrize("password", ["a", "fai", "aile", "0"])
def test_what_only_looks_like_the_password_stays(password):
    _, redact, _ = _connecting.prepare({"password": password}, dict)
    assert redact("a connect failed after 10 s") == "a connect failed after 10 s"
