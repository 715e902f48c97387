"""Pools of psycopg2 and psycopg connections in Python."""

from __future__ import annotations

from statistics import median

from figures import Goal, Plot, Samples, Shown, Table, bars, by_round, chosen, names, ratios, spread, values

TITLE = "Python"
HOW = """`bench/python/get_put.py`: getconn and putconn on an open connection, processor time, one thread, pools
of four; the pools take turns. `bench/python/contention.py`: threads on four connections, one `SELECT 1` for
each loan. The semaphore and the queue (first come, first served) are a few lines of Python over connections of
the same driver, and check nothing. "Least / most" is how many loans the thread with the fewest had, for each of
the one with the most. psycopg_pool lends connections of psycopg 3, which is slower than psycopg2 for so small a
query: compare it with the semaphore over psycopg 3."""

OURS, THEIRS = "dbpool.psycopg2_pool", "psycopg2.pool"
THREADS = (8, 32)


def measure(bench):
    bench.use_venvs()
    yield from bench.python("bench", "get_put.py", bench.rounds(9, 25))
    yield from bench.python("bench", "contention.py", bench.rounds(5, 12), 0.4 if bench.quick else 1.0)


def evenness(samples: Samples, pool: str) -> list[float]:
    return [one["least"] / one["most"] for one in chosen(samples, pool=pool)]


def contention_table(samples: Samples, threads: int) -> Table:
    mine = chosen(samples, test="contention", threads=threads)
    references = ("semaphore", "semaphore, psycopg 3")
    rows = []
    for pool in names(mine):
        pace = by_round(mine, "loans_per_s", pool=pool)
        against = [spread(ratios(pace, by_round(mine, "loans_per_s", pool=other))) for other in references]
        rows.append([pool, spread(list(pace.values())), *against, spread(evenness(mine, pool))])
    head = ["pool of 4", "loans/s", *(f"compared with the {other}" for other in references), "least / most"]
    return Table(f"{threads} threads, `SELECT 1` in each loan", head, rows, "min / median / max of the rounds")


def show(samples: Samples) -> Shown:
    calls = chosen(samples, test="get_put")
    reference = by_round(calls, "ns", pool=THEIRS)
    against = {pool: ratios(by_round(calls, "ns", pool=pool), reference) for pool in names(calls)}
    rows = [[pool, spread(values(calls, "ns", pool=pool)), spread(found)] for pool, found in against.items()]
    shown = Shown(
        [
            Table(
                "getconn and putconn",
                ["pool of 4", "ns", f"compared with {THEIRS}"],
                rows,
                "min / median / max of the rounds",
            )
        ],
        [Goal(f"getconn + putconn / {THEIRS}", against[OURS], most=0.75)],
    )
    for threads in THREADS:
        mine = chosen(samples, test="contention", threads=threads)
        shown.items.append(contention_table(samples, threads))
        pace = [by_round(mine, "loans_per_s", pool=pool) for pool in (OURS, "semaphore")]
        shown.goals += [
            Goal(f"Python, {threads} threads on 4: throughput / a semaphore", ratios(*pace), least=0.95),
            Goal(f"Python, {threads} threads on 4: least / most served", evenness(mine, OURS), least=0.95),
        ]
    others = sorted((pool for pool in against if pool != OURS), key=lambda pool: median(against[pool]))
    order = [OURS, *others]
    shown.items.append(
        Plot(
            "getconn and putconn of an open connection",
            lambda axes: bars(axes, order, [against[pool] for pool in order], f"× {THEIRS}"),
            "python",
            (7.0, 2.6),
        )
    )
    return shown
