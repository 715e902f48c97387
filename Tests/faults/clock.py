"""`clock.py POOL SIZE FILE WORDS`, under libfaketime: uses a pool while the clock of day jumps, and waits must
not notice. Prints JSON."""

from __future__ import annotations

import json
import select
import sys
import time
from pathlib import Path

import pools
from calls import Calls


def main() -> None:
    name, size_text, file, words = sys.argv[1:]
    size = int(size_text)
    pool = pools.make(
        name,
        json.loads(words),
        min_size=size,
        max_size=size,
        timeout=2,
        connect_timeout=2,
        checked=True,
        reset="rollback",
    )
    calls, complaints = Calls(2), []
    before = time.time()
    for jump in ("+86400", "-86400", "+0"):
        held = [pool.get(5) for _ in range(size)]
        Path(file).write_text(jump)
        call = calls.use(pool, timeout=1)
        if call.error is None or not 1000 <= call.get_ms <= 1250:
            complaints.append(f"clock {jump} s: a wait of 1 s took {call.get_ms:.0f} ms: {call.error}")
        calls.list.remove(call)
        for connection in held:
            pool.put(connection)
        for _ in range(20):
            calls.use(pool)
            select.select([], [], [], 0.02)  # libfaketime breaks time.sleep()
        if jump == "+86400" and time.time() < before + 80_000:
            complaints.append("the clock has not jumped")
    now = pool.stats()
    if now is not None and now.opened > size:
        complaints.append(f"{now.opened - size} sessions were replaced for a jump of the clock")
    pool.close()
    print(json.dumps({"errors": len(calls.errors), "worst_ms": calls.worst_ms(), "complaints": complaints}))


if __name__ == "__main__":
    main()
