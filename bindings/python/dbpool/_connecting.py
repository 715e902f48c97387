"""How a driver is called to connect: with time limits where the user set none, and no attribute that holds the
password."""

from __future__ import annotations

import math
import os
from collections.abc import Mapping
from typing import Any, Callable

# Those of a pool that connects by itself.
_DEFAULTS = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_CONNECT_TIMEOUT = 10
_LEAST_CONNECT_TIMEOUT = 2

Open = Callable[..., Any]
Redact = Callable[[str], str]


def prepare(arguments: dict[str, Any], parsed: Mapping[str, Any]) -> tuple[Open, Redact]:
    """`open(connect, seconds, **more)` calls `connect` with the arguments; `redact(text)` blanks the password.

    `parsed`: the parameters in the conninfo that is one of the arguments.
    """
    given = {**parsed, **{name: value for name, value in arguments.items() if value is not None}}
    # A service file may set any of them.
    if "service" not in given and "PGSERVICE" not in os.environ:
        for name, value in _DEFAULTS.items():
            if name not in given:
                arguments[name] = value
    usual = _usual_connect_timeout(given)
    password = str(given.get("password") or "")

    def open_connection(connect: Callable[..., Any], seconds: float | None, **more: Any) -> Any:
        limit = usual
        if seconds is not None:
            limit = min(limit, max(_LEAST_CONNECT_TIMEOUT, math.ceil(seconds)))
        if limit != math.inf:
            more["connect_timeout"] = limit
        return connect(**{**arguments, **more})

    def redact(text: str) -> str:
        return text.replace(password, "***") if password else text

    return open_connection, redact


def _usual_connect_timeout(given: Mapping[str, Any]) -> float:
    """In seconds; libpq takes what is not above 0 for no limit."""
    value = given.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT"))
    if value is None:
        return _CONNECT_TIMEOUT
    try:
        seconds = int(value)
    except ValueError:
        return math.inf  # for libpq to refuse
    return seconds if seconds > 0 else math.inf
