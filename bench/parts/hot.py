"""C: get and put on an open connection, one thread."""

from __future__ import annotations

import re
import subprocess

from figures import Goal, Plot, Samples, Shown, Table, bars, by_round, chosen, names, ratios, spread, values
from logins import cheap_login

TITLE = "Get and put in C"
HOW = """`bench/c/hot.c`: one thread, an open connection, default options, while a second thread is alive, and 0
or 63 others of the pool are lent. Nanoseconds are processor time, the pools take turns. Instructions are those
that callgrind counts in 21,000 pairs: the same on every run. The mutex pairs are uncontended
`pthread_mutex_lock` and `_unlock`; the compare-and-swaps are what a lock-free list takes at least."""

OURS, FLOOR = "libdbpool", "two mutex pairs"
FLOORS = ("two compare-and-swaps", FLOOR)
# Counted, and done before by hot.c.
TURNS, WARMING = 20000, 1000


def instructions(bench, pool: str, held: int, environment: dict[str, str]) -> float:
    command = ["valgrind", "--tool=callgrind", "--callgrind-out-file=/dev/null", "--toggle-collect=turns_*"]
    command += [str(bench.program("hot")), pool, str(TURNS), str(held)]
    bench.note(command)
    done = subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    found = re.search(r"Collected : (\d+)", done.stderr)
    if done.returncode or not found:
        raise SystemExit(f"bench: {' '.join(command)}: {done.stderr}")
    return int(found[1]) / (TURNS + WARMING)


def measure(bench):
    rounds, turns = bench.rounds(9, 25), 50000 if bench.quick else 200000
    found = []
    for sample in bench.lines("hot", "time", rounds, turns):
        found.append(sample)
        yield sample
    environment = cheap_login()
    for held in (0, 63):
        for pool in names(found):
            if not (held and pool in FLOORS):
                yield {"held": held, "pool": pool, "instructions": instructions(bench, pool, held, environment)}


def table(samples: Samples, held: int) -> Table:
    timed = [one for one in chosen(samples, held=held) if "ns" in one]
    counted = [one for one in samples if "instructions" in one]
    rows = []
    for pool in names(timed):
        counts = values(counted, "instructions", pool=pool, held=held) or values(counted, "instructions", pool=pool)
        against = ratios(by_round(timed, "ns", pool=pool), by_round(timed, "ns", pool=FLOOR))
        rows.append([pool, spread_of_one(counts), spread(values(timed, "ns", pool=pool)), spread(against)])
    title = f"Get and put, {held} others lent" if held else "Get and put"
    return Table(title, ["pool", "instructions", "ns", f"ns / {FLOOR}"], rows, "min / median / max of the rounds")


def spread_of_one(counts: list[float]) -> str:
    return f"{counts[0]:.0f}" if counts else "-"


def show(samples: Samples) -> Shown:
    timed = [one for one in samples if "ns" in one]
    counted = [one for one in samples if "instructions" in one]
    shown = Shown([table(samples, 0), table(samples, 63)])
    for held in (0, 63):
        against = ratios(by_round(timed, "ns", pool=OURS, held=held), by_round(timed, "ns", pool=FLOOR, held=held))
        counts = values(counted, "instructions", pool=OURS, held=held)
        shown.goals += [
            Goal(f"get + put, {held} others lent: instructions", counts, most=100),
            Goal(f"get + put, {held} others lent: ns / two mutex pairs", against, most=0.8),
        ]
    pools = names(timed)
    floor = by_round(timed, "ns", pool=FLOOR, held=0)
    shown.items.append(
        Plot(
            "Get and put, compared with two mutex pairs",
            lambda axes: bars(
                axes,
                pools,
                [ratios(by_round(timed, "ns", pool=pool, held=0), floor) for pool in pools],
                "× two uncontended mutex pairs",
            ),
            "hot",
        )
    )
    return shown
