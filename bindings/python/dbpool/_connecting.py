"""How a driver is called to connect: with time limits where the user set none, with a password that a function of the
user's tells, and with the password in nothing that is shown."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Mapping
from typing import Any, Callable

from . import _gate, _quoting
from ._quoting import Parse

# Those of a pool that connects by itself.
_DEFAULTS = {"keepalives_idle": 30, "keepalives_interval": 10, "keepalives_count": 3, "tcp_user_timeout": 30_000}
_CONNECT_TIMEOUT = 10
_LEAST_CONNECT_TIMEOUT = 2
# A shorter password is a word like others: the gaps would tell it, and garble the text.
_SHORTEST_BLANKED = 4

Open = Callable[..., Any]
Redact = Callable[[str], str]


class Parameters(dict):  # type: ignore[type-arg]
    """Arguments of a connect: what shows the objects that it meets (a log, a traceback with its local variables) sees
    their names alone."""

    def __repr__(self) -> str:
        return f"<{', '.join(map(str, self))}: not shown>"


class Arguments(tuple):  # type: ignore[type-arg]
    """As Parameters, without names."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"<{len(self)} not shown>"


def resolved(arguments: Mapping[str, Any]) -> Parameters:
    """The arguments of one attempt: a password that is a function is asked for."""
    found = Parameters(arguments)
    if callable(found.get("password")):
        found["password"] = found["password"]()
    return found


def connected(connect: Callable[..., Any], args: tuple[Any, ...], kwargs: Mapping[str, Any], parse: Parse) -> Any:
    """Calls the driver. Its error comes without the driver's frames, whose variables hold the password, and without
    what libpq could quote of it."""
    try:
        with _gate.calling():
            return connect(*args, **kwargs)
    except Exception as error:
        failed = _quoting.cleaned(error, args[0] if args else _conninfo(kwargs), parse)
    try:
        raise failed.with_traceback(None)
    finally:
        del failed  # its traceback has this frame


def _conninfo(arguments: Mapping[str, Any]) -> Any:
    """Each driver has a name for it, and refuses the other's."""
    return arguments.get("dsn", arguments.get("conninfo"))


def prepare(arguments: dict[str, Any], parse: Parse) -> tuple[Open, Redact, float | None]:
    """`open(connect, seconds, **more)` calls `connect` with the arguments; `redact(text)` blanks the password. Then how
    long a connect usually takes at most, with all its hosts; None = there is no limit.

    `parse` is the driver's, for the conninfo that is one of the arguments. A `password` that is a function is called
    before each attempt.
    """
    arguments = Parameters(arguments)
    parsed = _quoting.parsed(_conninfo(arguments), parse)
    given = Parameters({**parsed, **{name: value for name, value in arguments.items() if value is not None}})
    # A service file may set any of them.
    if "service" not in given and "PGSERVICE" not in os.environ:
        for name, value in _DEFAULTS.items():
            if name not in given:
                arguments[name] = value
    usual = connect_timeout(given, _CONNECT_TIMEOUT)
    # Of the last attempt; what is blanked is that of a moment ago.
    last = Parameters(password="" if callable(given.get("password")) else given.get("password"))

    def open_connection(connect: Callable[..., Any], seconds: float | None, **more: Any) -> Any:
        limit = usual
        if seconds is not None:
            limit = min(limit, max(_LEAST_CONNECT_TIMEOUT, math.ceil(seconds)))
        if limit != math.inf:
            more["connect_timeout"] = limit
        current = resolved(arguments)
        last["password"] = current.get("password") or last["password"]
        current.update(more)
        return connected(connect, (), current, parse)

    def redact(text: str) -> str:
        password = str(last["password"] or "")
        if len(password) < _SHORTEST_BLANKED:
            return text
        return re.sub(rf"(?<!\w){re.escape(password)}(?!\w)", "***", text)

    hosts = str(given.get("host") or given.get("hostaddr") or "").count(",") + 1
    return open_connection, redact, None if usual == math.inf else usual * hosts


def connect_timeout(given: Mapping[str, Any], default: float) -> float:
    """In seconds, for each address; libpq takes what is not above 0 for no limit."""
    value = given.get("connect_timeout", os.environ.get("PGCONNECT_TIMEOUT"))
    if value is None:
        return default
    try:
        seconds = int(value)
    except ValueError:
        return math.inf  # for libpq to refuse
    return seconds if seconds > 0 else math.inf
