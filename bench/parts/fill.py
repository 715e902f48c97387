"""Opening many connections to a server that is slow to answer."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median

from figures import Goal, Plot, Samples, Shown, Table, bars, by_round, chosen, names, ratios, spread, values

TITLE = "Filling a pool"
COUNT, DELAY = 20, 0.05
HOW = f"""{COUNT} connections through a proxy that forwards each new one {DELAY * 1000:g} ms late, each time in a
fresh process: `bench/c/fill.c`, for psycopg_pool `bench/python/fill.py`. "20 threads of libpq" is {COUNT}
threads with a `PQconnectdb` each: nothing can be faster. Meanwhile, where that is said, one thread borrows a
connection that was open before, ten thousand times a second at most."""

OURS, FLOOR = "libdbpool", "threads"
POOLS = (OURS, FLOOR, "libzdb", "psycopg_pool")
FLOOR_NAME = "20 threads of libpq"


@contextmanager
def slow_server(bench) -> Iterator:
    """The environment is that of the proxy meanwhile."""
    sys.path.append(str(bench.root / "Tests" / "faults"))
    from proxy import Proxy

    port, proxy = os.environ["PGPORT"], Proxy(int(os.environ["PGPORT"]))
    os.environ["PGPORT"] = str(proxy.port)
    try:
        yield proxy
    finally:
        os.environ["PGPORT"] = port
        proxy.close()


def command(bench, pool: str, *arguments: str) -> list[str]:
    if pool == "psycopg_pool":
        return [str(bench.interpreter("bench")), str(bench.root / "bench" / "python" / "fill.py"), *arguments]
    return [str(bench.program("fill")), *(arguments or (pool,))]


def watched(bench, proxy, pool: str) -> dict[str, float]:
    """A fill, and gets of an idle connection meanwhile."""
    proxy.mode("pass")
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen([*command(bench, pool, "meanwhile"), str(COUNT)], text=True, **pipes) as process:
        if not process.stdout.readline():
            raise SystemExit(f"bench: {pool} has not opened its first connection")
        proxy.mode("delay", scope="new", seconds=DELAY)
        process.stdin.write("\n")
        process.stdin.flush()
        found = process.stdout.readline()
    return {"meanwhile": True, **json.loads(found)}


def measure(bench):
    bench.use_venvs()
    with slow_server(bench) as proxy:
        for number in range(bench.rounds(5, 15)):
            proxy.mode("delay", seconds=DELAY)
            turn = number % len(POOLS)
            for pool in POOLS[turn:] + POOLS[:turn]:
                for sample in bench.output([*command(bench, pool), COUNT]):
                    yield {"round": number, **sample, "pool": FLOOR_NAME if pool == FLOOR else pool}
            for pool in (OURS, "psycopg_pool"):
                yield {"round": number, **watched(bench, proxy, pool)}


def show(samples: Samples) -> Shown:
    whole = [one for one in samples if "meanwhile" not in one]
    meanwhile = chosen(samples, meanwhile=True)
    floor = by_round(whole, "ms", pool=FLOOR_NAME)
    rows = [
        [pool, spread(values(whole, "ms", pool=pool)), spread(ratios(by_round(whole, "ms", pool=pool), floor))]
        for pool in names(whole)
    ]
    head = ["pool", "ms", f"compared with {FLOOR_NAME}"]
    gets = [
        [pool, *(spread(values(meanwhile, metric, pool=pool)) for metric in ("gets", "p50_us", "p99_us", "worst_us"))]
        for pool in names(meanwhile)
    ]
    note = "min / median / max of the rounds"
    return Shown(
        [
            Table(f"{COUNT} connections, each {DELAY * 1000:g} ms late", head, rows, note),
            Table(
                "A get of an idle connection meanwhile",
                ["pool", "gets", "p50, µs", "p99, µs", "worst, µs"],
                gets,
                note,
            ),
            Plot(
                f"Opening {COUNT} connections",
                lambda axes: bars(axes, names(whole), [values(whole, "ms", pool=pool) for pool in names(whole)], "ms"),
                "fill",
                (7.0, 2.4),
            ),
        ],
        [
            Goal(f"fill of {COUNT} / {FLOOR_NAME}", ratios(by_round(whole, "ms", pool=OURS), floor), most=1.1),
            Goal(
                "p99 of a get of an idle connection meanwhile, ms",
                [median(values(meanwhile, "p99_us", pool=OURS)) / 1000],
                most=1,
            ),
        ],
    )
