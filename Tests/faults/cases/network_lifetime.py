"""Connections that were made together do not end together."""

from __future__ import annotations

import time

from calls import Users
from table import OURS, fault
from trial import Trial

COUNT = 100
LIFETIME = 10.0


@fault("F32", "max_lifetime of 100 connections made together", in_one_percent=COUNT // 10, waits=0, pools=OURS)
def lifetime(trial: Trial) -> None:
    pool = trial.pool(min_size=COUNT, max_size=COUNT, timeout=20, connect_timeout=10, full=False, max_lifetime=LIFETIME)
    trial.fill(pool, COUNT, 20)
    waits_before = pool.stats().waits
    seen: list[tuple[float, int]] = [(time.monotonic(), pool.stats().expired)]
    users = Users(1, lambda _number: (trial.calls.use(pool, timeout=2), time.sleep(0.002)) and None)
    end = time.monotonic() + LIFETIME * 1.1
    while time.monotonic() < end:
        time.sleep(LIFETIME / 1000)
        seen.append((time.monotonic(), pool.stats().expired))
    users.stop()
    trial.at_least("expired in all", seen[-1][1], COUNT)
    most = most_within(seen, LIFETIME / 100)
    trial.notes.append(f"at most {most} expired in 1 % of the lifetime")
    trial.at_most("expired in 1 % of the lifetime", most, trial.criteria["in_one_percent"])
    trial.at_most("gets that waited", pool.stats().waits - waits_before, trial.criteria["waits"])
    trial.at_most("errors", len(trial.calls.errors), 0)
    trial.settled(pool, COUNT)


def most_within(seen: list[tuple[float, int]], seconds: float) -> int:
    """The largest growth in a window so long."""
    most = 0
    first = 0
    for instant, count in seen:
        while seen[first][0] < instant - seconds:
            first += 1
        most = max(most, count - seen[first][1])
    return most
