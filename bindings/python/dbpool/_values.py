"""From what Python callers write to what the C functions take. Errors name the argument."""

from __future__ import annotations

import datetime
import math
import re
from collections.abc import Mapping
from typing import Union

from ._lib import INT_MAX
from .errors import InvalidArgument

Duration = Union[int, float, str, datetime.timedelta]

_SECONDS = {"us": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "min": 60.0, "h": 3600.0, "d": 86400.0}
_TEXT = re.compile(r"\s*([0-9]+(?:\.[0-9]+)?|\.[0-9]+)\s*([a-z]+)\s*", re.ASCII)


def milliseconds(value: Duration, field: str, *, infinite: int | None = None, positive: bool = False) -> int:
    """Whole milliseconds, rounded up, so that a short wait does not become none.

    `infinite` stands for math.inf, which is refused without it. `positive` refuses zero.
    """
    seconds = _seconds(value, field)
    if math.isnan(seconds) or seconds < 0:
        raise InvalidArgument(f"{field}: {value!r} is not a duration: it must not be negative")
    if math.isinf(seconds):
        if infinite is None:
            raise InvalidArgument(f"{field}: must be finite")
        return infinite
    if positive and seconds == 0:
        raise InvalidArgument(f"{field}: must be above 0")
    # A product such as 1.1 * 1000 is a little too large: it is not to gain a millisecond.
    result = math.ceil(round(seconds * 1000, 6)) or math.ceil(seconds)
    if result > INT_MAX:
        raise InvalidArgument(f"{field}: {value!r} is above the limit of {INT_MAX / 1000} seconds")
    return result


def _seconds(value: Duration, field: str) -> float:
    if isinstance(value, datetime.timedelta):
        return value.total_seconds()
    if isinstance(value, str):
        return _seconds_of_text(value, field)
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{field}: must be seconds or a text such as '30m', not {type(value).__name__}")
    try:
        return float(value)
    except OverflowError:
        raise InvalidArgument(f"{field}: the number is above the limit of {INT_MAX / 1000} seconds") from None


def _seconds_of_text(value: str, field: str) -> float:
    match = _TEXT.fullmatch(value)
    unit = _SECONDS.get(match[2]) if match else None
    if match is None or unit is None:
        raise InvalidArgument(f"{field}: {value!r} is not a duration: a number and one of {', '.join(_SECONDS)}")
    return float(match[1]) * unit


def integer(value: int, field: str) -> int:
    """A C int; its range beyond that is the library's to check."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{field}: must be an int, not {type(value).__name__}")
    if not -INT_MAX - 1 <= value <= INT_MAX:
        raise InvalidArgument(f"{field}: {value} is out of range")
    return value


def choice(value: str | int, field: str, names: Mapping[str, int]) -> int:
    """A named value, or the number of dbpool.h."""
    if not isinstance(value, str):
        return integer(value, field)
    try:
        return names[value]
    except KeyError:
        raise InvalidArgument(f"{field}: {value!r} is not one of {', '.join(names)}") from None


def c_text(value: str | bytes, field: str) -> bytes:
    """A C string. The content stays out of the messages: it may hold a password."""
    if isinstance(value, str):
        try:
            value = value.encode("utf-8", "surrogateescape")
        except UnicodeEncodeError:
            raise InvalidArgument(f"{field}: cannot be written in UTF-8") from None
    if not isinstance(value, bytes):
        raise TypeError(f"{field}: must be str or bytes, not {type(value).__name__}")
    if b"\0" in value:
        raise InvalidArgument(f"{field}: must not contain a NUL")
    return value
