"""Connections that lie in a pool, and cursors of a loan that has ended, refuse to be used.

Such an object changes its class for a subclass of the same layout, and a connection changes back when it is lent. What
is in use costs nothing for it.
"""

from __future__ import annotations

import functools
from typing import Any, NoReturn

# What can be read all the same: nobody would understand an error from `closed`.
_VISIBLE = frozenset({"_pool", "_session", "closed"})


def parked_class(lent: Any, refusal: Any) -> Any:
    """Of the connections of class `lent` while they lie in the pool."""
    return _refusing_class("ParkedConnection", lent, refusal, "the connection was given back to its pool")


def refuse_cursor(cursor: Any, refusal: Any) -> None:
    """From now on; its connection was given back. None is accepted."""
    if cursor is not None and not is_refusing(cursor):
        kind: Any = type(cursor)
        reason = "the cursor's connection was given back to its pool"
        try:
            cursor.__class__ = _refusing_class("StaleCursor", kind, refusal, reason)
        except TypeError:  # psycopg2's own, made by a subclass of its connection: closed, it refuses too
            if not cursor.name:
                cursor.close()


def is_refusing(thing: object) -> bool:
    return type(thing).__dict__.get("__getattribute__") is _look_up


@functools.cache
def _refusing_class(name: str, base: Any, refusal: Any, reason: str) -> Any:
    # All in the class itself: with a second base class the layout would be another.
    def refuse(*_args: Any, **_kwargs: Any) -> NoReturn:
        raise refusal(reason)

    names = {
        "__slots__": (),
        "_refuse": staticmethod(refuse),
        "__getattribute__": _look_up,
        "__setattr__": _assign,
        "__repr__": _describe,
        # Not the driver's, which would complain that nobody closed it.
        "__del__": _end,
        "closed": True,
        # These the interpreter looks up in the class, past __getattribute__.
        **dict.fromkeys(("__delattr__", "__enter__", "__exit__", "__iter__", "__next__"), refuse),
    }
    return type(name, (base,), names)


def _look_up(self: Any, name: str) -> Any:
    if name in _VISIBLE or name.startswith("__"):
        return object.__getattribute__(self, name)
    kind = type(self)
    if callable(getattr(kind, name, None)):
        return kind._refuse  # as in the drivers, it is the call that fails
    return kind._refuse()


def _assign(self: Any, name: str, value: Any) -> None:
    if name not in ("__class__", "_pool"):
        type(self)._refuse()
    object.__setattr__(self, name, value)


def _describe(self: Any) -> str:
    return f"<{type(self).__name__} at {id(self):#x}>"


def _end(self: Any) -> None:
    pass
