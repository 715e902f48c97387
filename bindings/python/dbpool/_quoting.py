"""What an error may quote of a conninfo: nothing that could be a part of a password.

libpq quotes what it stumbled over, and of a mistyped conninfo that may be the rest of a password. As in the library.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable

Parse = Callable[[str], Mapping[str, Any]]

_URI = re.compile(r"postgres(?:ql)?://(?:[^@/]*@)?")
_MARKS = "\"'`"
_UNTELLABLE = "invalid connection string (what is wrong could quote the password)"
_HINT = " (in a URI the password's own @ is written %40, its / as %2F)"


def parsed(text: object, parse: Parse) -> dict[str, Any]:
    """A text that cannot be understood is for the driver to refuse, at the first connect."""
    try:
        return dict(parse(text)) if text and isinstance(text, str) else {}
    except Exception:
        return {}


def cleaned(error: Exception, text: object, parse: Parse) -> Exception:
    """The error of a connect with this conninfo, or one like it that quotes less."""
    if not isinstance(text, str) or not text.strip() or error.args != (str(error),):
        return error
    words = str(error)
    try:
        found = parse(text)
    except Exception:
        told = _without_all_quoted(words) if _may_hold_password(text) else words
    else:
        told = _without_all_quoted(words) if _has_semicolon(found) else _without_strayed(words, text)
    return error if told == words else type(error)(told)


def _has_semicolon(found: Mapping[str, Any]) -> bool:
    """In another option than a password: to libpq it separates nothing, and what follows may be one."""
    return any(";" in str(value) for name, value in found.items() if "password" not in name)


def _may_hold_password(text: str) -> bool:
    return bool(re.search(r"p[aw]|%|@|://.*:", text, re.IGNORECASE | re.DOTALL))


def _without_all_quoted(words: str) -> str:
    """From the first mark of quotation to the last: what is quoted may itself hold some."""
    if not words.isascii():
        return _UNTELLABLE  # in the user's language, with other marks
    places = [index for index, letter in enumerate(words) if letter in _MARKS]
    return f'{words[: places[0]]}"..."{words[places[-1] + 1 :]}' if len(places) > 1 else words


def _without_strayed(words: str, text: str) -> str:
    """Of a URI that libpq understood in its way: the password's own @ or / ends the password, and the rest of it is
    taken for a host, a port or a database."""
    start, end = _strayed(text)
    if start == end:
        return words
    if not words.isascii() or any(mark in text[start:end] for mark in _MARKS):
        return _without_all_quoted(words) + _HINT
    kept = re.sub(r"\"([^\"]+)\"|'([^']+)'", lambda found: _told(found, text, start, end), words)
    return kept.rstrip() + _HINT


def _strayed(text: str) -> tuple[int, int]:
    uri = _URI.match(text)
    if uri is None:
        return 0, 0
    start = uri.end()
    query = text.find("?", start)
    return start, max(start, text.rfind("@", start, len(text) if query < 0 else query))


def _told(found: re.Match[str], text: str, start: int, end: int) -> str:
    quoted = found.group(1) or found.group(2)
    places = [place.start() for place in re.finditer(f"(?={re.escape(quoted)})", text)]
    is_apart = places and all(place + len(quoted) <= start or place >= end for place in places)
    return found.group() if is_apart else '"..."'
