"""The thread that closes what lies idle in hosted pools for too long, or has lost its server.

One for the process. It sleeps inside the library, without Python's lock, until a pool has such objects. It is a real
thread also where gevent or eventlet has replaced those of the standard library, so it takes no lock of the standard
library: no logging, no queue. Nobody joins it: at the end of the interpreter it sleeps on.
"""

from __future__ import annotations

import importlib
import sys
import weakref
from typing import TYPE_CHECKING, Any, Callable

from . import _lib, _process

if TYPE_CHECKING:
    from ._hosted import HostedPool

_pools: dict[int, weakref.ref[HostedPool]] = {}
_pid_of_thread = 0


def watch(pool: HostedPool) -> None:
    """From now on the idle objects of the pool are closed in time. The pool is not kept alive by this."""
    global _pid_of_thread
    number = id(pool)
    if number not in _pools:
        _pools[number] = weakref.ref(pool, lambda _: _pools.pop(number, None))
    if _pid_of_thread != _process.pid:
        _pid_of_thread = _process.pid
        try:
            original("_thread", "start_new_thread")(_run, (original("time", "sleep"),))
        except BaseException:
            _pid_of_thread = 0
            raise


def original(module: str, name: str) -> Any:
    """Of the standard library, also after gevent or eventlet has replaced it."""
    gevent, eventlet = sys.modules.get("gevent.monkey"), sys.modules.get("eventlet.patcher")
    if gevent is not None:
        return gevent.get_original(module, name)
    if eventlet is not None and eventlet.is_monkey_patched(module.lstrip("_")):
        return getattr(eventlet.original(module), name)
    return getattr(importlib.import_module(module), name)


def _run(sleep: Callable[[float], object]) -> None:
    from . import _gate  # which needs this module

    global _pid_of_thread
    try:
        while True:
            _lib.collect(None, None, 0, _lib.TIMEOUT_INFINITE)
            with _gate.inside():
                found = _collect_all()
            if not found:
                # Somebody else was quicker, or is about to close a pool that is garbage.
                sleep(0.01)
    finally:
        _pid_of_thread = 0  # an error, which Python reports: the next connection starts another thread


def _collect_all() -> int:
    found = 0
    for reference in list(_pools.values()):
        pool = reference()
        if pool is not None:
            found += pool.collect()
    return found
