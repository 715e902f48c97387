"""The table: what a case is, and the list of all."""

from __future__ import annotations

import importlib
import pkgutil
from dataclasses import dataclass, field
from typing import Any, Callable

OURS = ("native", "psycopg2", "psycopg")
EVERY_POOL = ("*",)


@dataclass(frozen=True)
class Fault:
    id: str
    what: str
    run: Callable[[Any], None]
    quick: bool = False
    # A server of its own, for what stops, freezes or reconfigures it.
    own_server: bool = False
    # EVERY_POOL includes the peers.
    pools: tuple[str, ...] = EVERY_POOL
    # The whole case, in seconds: beyond that it hangs.
    limit: float = 60
    # Why the end state is not looked at: idle = min, no waiter, the server sees exactly the pool's sessions.
    unsettled: str = ""
    # Milliseconds and counts of the pass criterion, by name.
    criteria: dict[str, float] = field(default_factory=dict)

    def concerns(self, pool: str) -> bool:
        return self.pools == EVERY_POOL or pool in self.pools


_table: dict[str, Fault] = {}


def fault(id: str, what: str, **more: Any) -> Callable[[Callable[[Any], None]], Callable[[Any], None]]:
    """`@fault("F01", "all idle sessions killed", quick=True, worst_ms=250)`: the case is the function, called with a
    Trial. What is not an attribute of Fault is a criterion, `trial.criteria["worst_ms"]`."""

    def register(function: Callable[[Any], None]) -> Callable[[Any], None]:
        known = {name: more.pop(name) for name in list(more) if name in Fault.__dataclass_fields__}
        assert id not in _table, f"two cases are called {id}"
        _table[id] = Fault(id, what, function, criteria=more, **known)
        return function

    return register


def one_fault(id: str, module: str) -> Fault:
    """Only what this case needs is imported."""
    importlib.import_module(module)
    return _table[id]


def all_faults() -> list[Fault]:
    """In the order of their ids. Every file of the folder `cases` is part of the table."""
    import cases

    for module in sorted(found.name for found in pkgutil.iter_modules(cases.__path__)):
        importlib.import_module(f"cases.{module}")
    return [_table[id] for id in sorted(_table)]
