"""`exiting.py POOL WORDS`: asks for a connection. When its input has ended and libpq has computed for a while, it
prints the instant, and exits."""

from __future__ import annotations

import json
import sys
import threading
import time
from typing import Any

import built  # noqa: F401 - the library is found by it
import pools
from failures import GetFailed


def ask(pool: Any) -> None:
    try:
        pool.get(60)
    except GetFailed:
        pass


def main() -> None:
    name, words = sys.argv[1:]
    options: dict[str, Any] = {"timeout": 60, "connect_timeout": 2, "checked": False, "reset": "rollback"}
    pool = pools.make(name, json.loads(words), min_size=0, max_size=1, **options)
    threading.Thread(target=ask, args=(pool,), daemon=True).start()
    sys.stdin.read()
    computed = time.process_time() + 0.2
    while time.process_time() < computed:
        time.sleep(0.02)
    print(time.monotonic(), flush=True)


if __name__ == "__main__":
    main()
