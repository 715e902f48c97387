"""The upper-case keys of OPTIONS: the pool's. The others are the driver's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, NamedTuple

from django.core.exceptions import ImproperlyConfigured

from ..._values import integer, milliseconds

KNOWN = (
    "MAX_CONNS",
    "MIN_CONNS",
    "TEST_ON_BORROW",
    "TEST_ON_BORROW_QUERY",
    "TIMEOUT",
    "MAX_LIFETIME",
    "MAX_IDLE",
    "RESET",
)
TEST_QUERY = "SELECT 1"


class PoolOptions(NamedTuple):
    """As the pools take them; times in seconds, None = without limit."""

    min_size: int
    max_size: int
    test_query: str | None
    timeout: float | None
    max_lifetime: float | None
    max_idle: float | None
    reset: str


def names(options: Mapping[str, Any]) -> list[str]:
    return [name for name in options if isinstance(name, str) and name.isupper()]


def ours(options: Mapping[str, Any]) -> dict[str, Any]:
    return {name: options[name] for name in names(options)}


def parse(given: Mapping[str, Any], *, alias: str, health_checks: bool) -> PoolOptions:
    """Raises ImproperlyConfigured, which names the alias and the option."""
    try:
        return _parse(given, health_checks)
    except (TypeError, ValueError) as error:
        raise ImproperlyConfigured(f"DATABASES[{alias!r}]['OPTIONS']: {error}") from error


def _parse(given: Mapping[str, Any], health_checks: bool) -> PoolOptions:
    unknown = sorted(set(given) - set(KNOWN))
    if unknown:
        raise ValueError(f"unknown option {', '.join(unknown)}; known are {', '.join(KNOWN)}")
    max_size = _count(given, "MAX_CONNS", 1, at_least=1)
    min_size = _count(given, "MIN_CONNS", max_size, at_least=0)
    if min_size > max_size:
        raise ValueError(f"MIN_CONNS: {min_size} is above MAX_CONNS, which is {max_size}")
    query = _text(given, "TEST_ON_BORROW_QUERY", TEST_QUERY)
    return PoolOptions(
        min_size=min_size,
        max_size=max_size,
        test_query=query if _flag(given, "TEST_ON_BORROW") or health_checks else None,
        timeout=_seconds(given, "TIMEOUT", 30),
        max_lifetime=_seconds(given, "MAX_LIFETIME", 1800),
        max_idle=_seconds(given, "MAX_IDLE", 600),
        reset=_reset(given),
    )


def _count(given: Mapping[str, Any], name: str, default: int, *, at_least: int) -> int:
    value = integer(given.get(name, default), name)
    if value < at_least:
        raise ValueError(f"{name}: must be at least {at_least}, not {value}")
    return value


def _flag(given: Mapping[str, Any], name: str) -> bool:
    value = given.get(name, False)
    if not isinstance(value, bool):
        raise TypeError(f"{name}: must be True or False, not {value!r}")
    return value


def _text(given: Mapping[str, Any], name: str, default: str) -> str:
    value = given.get(name, default)
    if not isinstance(value, str):
        raise TypeError(f"{name}: must be a text, not {type(value).__name__}")
    if not value.strip():
        raise ValueError(f"{name}: must not be empty")
    return value


def _seconds(given: Mapping[str, Any], name: str, default: float) -> float | None:
    value = given.get(name, default)
    if value is None or value == math.inf:
        return None
    return milliseconds(value, name) / 1000


def _reset(given: Mapping[str, Any]) -> str:
    value = _text(given, "RESET", "rollback").strip()
    # No statement that resets a session is one word: a mistake would fail at every return of a connection.
    if value not in ("rollback", "discard_all") and " " not in value:
        raise ValueError(f"RESET: {value!r} is neither 'rollback' nor 'discard_all' nor a statement of SQL")
    return value
