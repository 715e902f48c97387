"""C: many threads on few connections."""

from __future__ import annotations

from statistics import median

from figures import Goal, Plot, Samples, Shown, Table, bars, best, by_round, chosen, names, ratios, spread, values

TITLE = "Contention in C"
HOW = """`bench/c/contention.c`: each thread borrows, works for the given processor time, gives back and begins
anew; the pools take turns, each for the same time. Waits are timed from the call of get to its return. "Least /
most" is how many loans the thread with the fewest had, for each loan of the one with the most: 1 is even, 0 is
starved. libzdb 3.1 does not wait when all are lent: the program asks again every 50 µs, as any program would
have to."""

CASES = ((32, 4, 100), (8, 4, 100), (32, 4, 0), (8, 4, 0))
OURS = "libdbpool"
# Who comes last may be served first.
BARGING = ("apr_reslist", "SOCI", "mutex and condition")
STARVED = 0.1


def measure(bench):
    rounds, seconds = bench.rounds(5, 15), 0.4 if bench.quick else 1.0
    for threads, size, hold in CASES:
        yield from bench.lines("contention", threads, size, hold, rounds, seconds)


def evenness(samples: Samples, pool: str, **case: int) -> list[float]:
    return [one["least"] / one["most"] for one in chosen(samples, pool=pool, **case)]


def not_starving(samples: Samples, **case: int) -> list[str]:
    return [
        pool
        for pool in names(chosen(samples, **case))
        if pool != OURS and median(evenness(samples, pool, **case)) >= STARVED
    ]


def table(samples: Samples, threads: int, hold: int) -> Table:
    case = {"threads": threads, "hold_us": hold}
    mine = chosen(samples, **case)
    rows = []
    for pool in names(mine):
        pace = ratios(by_round(mine, "loans_per_s", pool=pool), by_round(mine, "loans_per_s", pool=OURS))
        cells = [spread([value / 1000 for value in values(mine, "loans_per_s", pool=pool)]), spread(pace)]
        cells += [spread(values(mine, metric, pool=pool)) for metric in ("p50_us", "p99_us", "p999_us")]
        rows.append([pool, *cells, spread(evenness(mine, pool))])
    held = f"{hold / 1000:g} ms of work for each loan" if hold else "no work at all"
    head = [
        "pool of 4",
        "1000 loans/s",
        "compared with libdbpool",
        "wait p50, µs",
        "wait p99, µs",
        "wait p99.9, µs",
        "least / most",
    ]
    return Table(f"{threads} threads, {held}", head, rows, "min / median / max of the rounds")


def goals(samples: Samples) -> list[Goal]:
    busy, free = {"threads": 32, "hold_us": 100}, {"threads": 32, "hold_us": 0}
    p99 = by_round(samples, "p99_us", pool=OURS, **busy)
    pace = by_round(samples, "loans_per_s", pool=OURS, **busy)
    return [
        Goal(
            "32 threads, 0.1 ms: p99 of the wait / the best barging peer's",
            ratios(p99, best(samples, "p99_us", BARGING, min, **busy)),
            most=0.25,
        ),
        Goal("32 threads, 0.1 ms: least / most served", evenness(samples, OURS, **busy), least=0.95),
        Goal(
            "32 threads, 0.1 ms: throughput / the best peer that starves nobody",
            ratios(pace, best(samples, "loans_per_s", not_starving(samples, **busy), max, **busy)),
            least=0.95,
        ),
        Goal(
            "32 threads, no work: throughput / the best barging peer's",
            ratios(
                by_round(samples, "loans_per_s", pool=OURS, **free), best(samples, "loans_per_s", BARGING, max, **free)
            ),
            least=0.5,
        ),
        Goal("32 threads, no work: least / most served", evenness(samples, OURS, **free), least=STARVED),
    ]


def show(samples: Samples) -> Shown:
    shown = Shown(goals=goals(samples))
    for threads, _size, hold in CASES:
        shown.items.append(table(samples, threads, hold))
    mine = chosen(samples, threads=32, hold_us=100)
    waits = [[value / 1000 for value in values(mine, "p99_us", pool=pool)] for pool in names(mine)]
    shown.items.append(
        Plot(
            "p99 of the wait, 32 threads, pool of 4, 0.1 ms of work",
            lambda axes: bars(axes, names(mine), waits, "ms, logarithmic", logarithmic=True),
            "contention-p99",
        )
    )
    return shown
