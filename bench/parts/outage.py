"""Sessions killed, and a server that is away, under load."""

from __future__ import annotations

from figures import Goal, Samples, Shown, Table, chosen, names, spread

TITLE = "Outages"
THREADS = 8
HOW = """`bench/python/outage.py`, on the server and the pools of `Tests/faults`: eight threads borrow, `SELECT
1` and give back, from a pool of twelve, while all sessions of the pool are killed, or while the server is
stopped and started again three seconds later. Errors are failed gets and failed queries; those of later calls
began after the kill, or when the server had stopped. "Tested at each get" is `check=ping`, or
`TEST_ON_BORROW`. "All served" is when the last of the threads has had its
first success after the server accepted logins again. docs/reliability.md has the other faults."""

EVENTS = {"killed": "All sessions killed", "restarted": "The server is away for three seconds"}
HEAD = ["pool", "errors", "errors of later calls", "first served, ms", "all served, ms"]
METRICS = ("errors", "errors_of_later_calls", "first_served_ms", "all_served_ms")


def measure(bench):
    bench.use_venvs()
    yield from bench.python("bench", "outage.py", bench.rounds(1, 3), bench.root / "Tests" / "faults")


def known(samples: Samples, metric: str, **where: str) -> list[float]:
    """A thread that was never served has no time."""
    return [one[metric] for one in chosen(samples, **where) if one[metric] is not None]


def show(samples: Samples) -> Shown:
    shown = Shown()
    for event, title in EVENTS.items():
        rows = [
            [pool, *(spread(known(samples, metric, event=event, pool=pool)) for metric in METRICS)]
            for pool in names(samples)
        ]
        shown.items.append(Table(title, HEAD, rows, "min / median / max of the rounds"))
    for pool in ("libdbpool, tested at each get", "dbpool, psycopg2, tested at each get"):
        later = known(samples, "errors_of_later_calls", event="killed", pool=pool)
        errors = known(samples, "errors", event="restarted", pool=pool)
        served = known(samples, "all_served_ms", event="restarted", pool=pool)
        shown.goals += [
            Goal(f"errors of calls that began after all sessions were killed: {pool}", later, most=0),
            Goal(f"errors of a restart, 8 calls under way: {pool}", errors, most=THREADS),
            Goal(f"all served after the server's return, ms: {pool}", served, most=250),
        ]
    return shown
