"""The errors of a pool as subclasses of a driver's own, and what the text of a failed connect says."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from . import errors

_INTERFACE = (errors.PoolClosed, errors.NotLeased, errors.ForeignConnection, errors.ForkedConnection)

# libpq gives no SQLSTATE for a connect that failed. From what servers say in English; other languages are unknown.
_TEXTS = (
    ("28P01", r"password authentication failed|no password supplied|empty password returned"),
    ("28000", r"no pg_hba\.conf entry|pg_hba\.conf rejects|\w+ authentication failed|is not permitted to log in"),
    ("28000", r'role "[^"]*" does not exist|certificate authentication failed|connection requires a valid client'),
    ("3D000", r'database "[^"]*" does not exist'),
    ("42501", r"permission denied"),
    ("53300", r"too many (?:clients|connections)|remaining connection slots are reserved"),
    ("55000", r"is not currently accepting connections"),
    ("57P03", r"the database system is "),
)
_KNOWN = tuple((state, re.compile(text)) for state, text in _TEXTS)
# What libpq refuses before it asks any server.
_MISTAKE = re.compile(
    r"\A(?:connection is bad: )?(?:invalid |could not match \d|definition of service |service file |sslmode value )"
)
_NO_LOGIN = re.compile(r"FATAL:|no password supplied|empty password returned")
# The server answered, or nobody did: each attempt, of each host, has one such line.
_ATTEMPT = re.compile(
    r"^.*(?:FATAL:|connection to server|could not (?:connect|translate)|no password supplied).*$", re.MULTILINE
)


def subclasses(module: str, driver: Any) -> dict[type[errors.Error], type[Exception]]:
    """For each error of a pool a subclass of it and of the driver's OperationalError, InterfaceError (what is used is
    not a loan of an open pool) or ProgrammingError (a wrong argument)."""
    found: dict[type[errors.Error], type[Exception]] = {}
    for kind in errors.BY_CODE.values():
        base = driver.OperationalError
        if kind in _INTERFACE:
            base = driver.InterfaceError
        elif kind is errors.InvalidArgument:
            base = driver.ProgrammingError
        found[kind] = type(kind.__name__, (base, kind), {"__module__": module, "__doc__": kind.__doc__})
    return found


def translated(error: errors.Error, kinds: Mapping[type[errors.Error], type[Exception]]) -> Exception:
    if isinstance(error, tuple(kinds.values())):
        return error
    kind = kinds.get(type(error))
    if kind is None:  # a code that this version does not know
        kind = kinds[errors.InternalError]
    result = kind(str(error))
    result.code = error.code  # type: ignore[attr-defined]
    return result


def sqlstate(text: str) -> str | None:
    """Of a connect that failed. Where several hosts, or one with and without TLS, were tried, one that may take us
    later outweighs a refusal. A parameter that libpq cannot use is worth another try as little as what a server does
    not support."""
    if _MISTAKE.match(text):
        return "0A000"
    states = [_sqlstate_of_line(line) for line in _ATTEMPT.findall(text)]
    if not states:
        return None
    if "53300" in states:
        return "53300"
    return next((state for state in states if not _is_refusal(state)), states[0])


def _sqlstate_of_line(line: str) -> str | None:
    if not _NO_LOGIN.search(line):
        return None
    return next((state for state, text in _KNOWN if text.search(line)), None)


def _is_refusal(state: str | None) -> bool:
    return state is not None and (state[:2] == "28" or state == "3D000")
