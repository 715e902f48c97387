"""`forking.py POOL ENDING SIZE WORDS`: forks with a full pool; the child uses it and ends in the given way, and the
parent's sessions must be what they were. A process of its own, since a child that ends as usual runs all that follows
its end. Code 0: all is well."""

from __future__ import annotations

import ctypes
import json
import os
import sys
from typing import Any

import pools


def backends(pool: Any, size: int) -> set[int]:
    """The sessions of a full pool; each must work."""
    connections = [pool.get(5) for _ in range(size)]
    found = {pool.backend_pid(connection) for connection in connections}
    for connection in connections:
        pool.put(connection)
    return found


def child(pool: Any, size: int, ending: str, of_parent: set[int]) -> None:
    """Returns where the program is to end by itself."""
    own = backends(pool, min(size, 2))
    assert not own & of_parent, "the child uses sessions of the parent"
    if ending == "close":
        pool.close()
        os._exit(0)
    if ending == "exit()":
        ctypes.CDLL(None).exit(0)
    if ending == "_exit()":
        os._exit(0)


def main() -> int:
    name, ending, size_text, words = sys.argv[1:]
    size = int(size_text)
    pool = pools.make(
        name,
        json.loads(words),
        min_size=size,
        max_size=size,
        timeout=2,
        connect_timeout=2,
        checked=False,
        reset="rollback",
    )
    before = backends(pool, size)
    pid = os.fork()
    if pid == 0:
        child(pool, size, ending, before)
        return 0
    _, status = os.waitpid(pid, 0)
    assert status == 0, f"the child ended with status {status}"
    after = backends(pool, size)
    assert after == before, f"{len(before - after)} sessions of the parent are gone"
    pool.close()
    return 0


if __name__ == "__main__":
    sys.exit(main())
