"""A forked child: its wrappers have borrowed nothing."""

from __future__ import annotations

import os
import weakref
from typing import Any

from . import _pools

_wrappers: weakref.WeakValueDictionary[int, Any] = weakref.WeakValueDictionary()


def watch(wrapper: Any) -> None:
    _wrappers[id(wrapper)] = wrapper


def _after_fork_in_child() -> None:
    _pools.start_in_child()
    # A copy made in one step: the fork may have come in the middle of another thread's iteration.
    for wrapper in [reference() for reference in _wrappers.valuerefs()]:
        if wrapper is not None:
            wrapper.forget_loan()


os.register_at_fork(after_in_child=_after_fork_in_child)
