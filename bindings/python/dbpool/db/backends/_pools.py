"""The pools of the process: one for each alias, for as long as its settings stay the same."""

from __future__ import annotations

import logging
import threading
from typing import Any, Callable, NamedTuple

from ..._connecting import Parameters
from ._session import Session


class Key(NamedTuple):
    """All that a pool's connections depend on. The alias alone would not do: tests use an alias with another database,
    and a pool warmed before would run them in the real one."""

    parameters: Parameters
    # Django's adapters for psycopg 3, made of `session.timezone` and USE_TZ. Threads that ask for them at the same time
    # get objects of their own, so they are not compared.
    adapters: Any
    uses_timezones: bool
    options: dict[str, Any]
    health_checks: bool
    session: Session

    def is_for_the_same(self, other: Key) -> bool:
        # Member by member: asked at every loan, and three times as quick as to compare copies without `adapters`.
        return (
            self.parameters == other.parameters
            and self.options == other.options
            and self.session == other.session
            and self.uses_timezones == other.uses_timezones
            and self.health_checks == other.health_checks
        )


class Entry(NamedTuple):
    key: Key
    pool: Any
    logger: logging.Logger


_entries: dict[str, Entry] = {}
_lock = threading.RLock()  # a signal handler may use a connection


def pool_with(alias: str, key: Key) -> Any:
    """The pool of the alias while it is the one with this very key, else None."""
    entry = _entries.get(alias)
    return entry.pool if entry is not None and entry.key is key else None


def entry_for(alias: str, key: Key, make: Callable[[], Any], logger: logging.Logger) -> Entry:
    """The pool of the alias, and its key. When its settings have changed that is a new one; the old one is closed: its
    idle connections now, the lent ones when they are given back."""
    entry = _entries.get(alias)
    if entry is not None and entry.key.is_for_the_same(key):
        return entry
    with _lock:
        entry = _entries.get(alias)
        if entry is not None and entry.key.is_for_the_same(key):
            return entry
        made = Entry(key, make(), logger)
        # Who came here meanwhile, from a signal handler in this thread, has made one too.
        entry = _entries.get(alias)
        _entries[alias] = made
    if entry is not None:
        _close(alias, entry, "its settings have changed")
    return made


def is_current(alias: str, pool: Any) -> bool:
    entry = _entries.get(alias)
    return entry is not None and entry.pool is pool


def close_pool(alias: str) -> None:
    """The next use of the alias makes a new one."""
    with _lock:
        entry = _entries.pop(alias, None)
    if entry is not None:
        _close(alias, entry, "as asked")


def close_pools_of(database: str) -> None:
    """The pools of all aliases that are connected to this database, which is to be dropped or copied. The server, too,
    waits some seconds for the end of the sessions."""
    with _lock:
        found = [(alias, entry) for alias, entry in _entries.items() if _database(entry.key) == database]
        for alias, _ in found:
            del _entries[alias]
    for alias, entry in found:
        _close(alias, entry, f"database {database} is wanted for itself")


def _database(key: Key) -> Any:
    # Django 3.2 and psycopg2 have another name for it.
    return key.parameters.get("dbname", key.parameters.get("database"))


def _close(alias: str, entry: Entry, reason: str) -> None:
    entry.logger.info("Closing connection pool for db alias %s, %s: %r", alias, reason, entry.pool)
    entry.pool.close()


def start_in_child() -> None:
    """After a fork. The pools start empty by themselves; another thread may have held the lock."""
    global _lock
    _lock = threading.RLock()
