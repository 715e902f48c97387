"""Whether costs grow with the pool, or with the queue."""

from __future__ import annotations

from statistics import median

from figures import Goal, Plot, Samples, Shown, Table, by_round, names, ratios, spread, values

TITLE = "Large pools and long queues"
HOW = """`bench/c/scale.c`: **the connections are stand-ins**. The program is linked with the library's objects
and replaces libpq's functions by ones that do nothing; all else is the library's. Get and put: one connection
is borrowed while all others lie idle. Upkeep: processor time of the library's own thread, in a second, while
connections are borrowed and at rest. Put: the median of one put that serves the oldest of so many waiters; the
whole turn is that put, taking the connection, and joining the queue again."""

SIZES = (10, 100, 1000, 10000)
SLOTS = {"ns": "get + put, ns", "upkeep_us_per_s": "upkeep in use, µs/s", "rest_us_per_s": "upkeep at rest, µs/s"}
WAITERS = {"put_ns": "put with waiters, ns", "cycle_ns": "the whole turn, ns"}


def measure(bench):
    for kind in ("slots", "waiters"):
        for size in SIZES:
            yield from bench.lines("scale", kind, size, bench.rounds(5, 15))


def table(samples: Samples, key: str, metrics: dict[str, str]) -> Table:
    mine = [one for one in samples if key in one]
    rows = [
        [f"{size:,}", *(spread(values(mine, metric, **{key: size})) for metric in metrics)] for size in names(mine, key)
    ]
    title = {"slots": "Connections in the pool", "waiters": "Callers in the queue"}[key]
    return Table(title, [key, *metrics.values()], rows, "min / median / max of the rounds")


def growth(samples: Samples, key: str, metric: str) -> list[float]:
    """The largest compared with the smallest."""
    sizes = sorted(one[key] for one in samples if key in one)
    large, small = (by_round(samples, metric, **{key: size}) for size in (sizes[-1], sizes[0]))
    return ratios(large, small)


def show(samples: Samples) -> Shown:
    def draw(axes) -> None:
        for key, metric, label in (("slots", "ns", "get + put"), ("waiters", "cycle_ns", "a turn with waiters")):
            mine = [one for one in samples if key in one]
            sizes = names(mine, key)
            axes.plot(sizes, [median(values(mine, metric, **{key: size})) for size in sizes], "o-", label=label)
        axes.set_xscale("log")
        axes.set_ylim(bottom=0)
        axes.set_xlabel("connections, or callers that wait")
        axes.set_ylabel("ns of processor time")
        axes.legend(frameon=False)

    return Shown(
        [
            table(samples, "slots", SLOTS),
            table(samples, "waiters", WAITERS),
            Plot("Cost against size, stand-in connections", draw, "scale", (7.0, 3.0)),
        ],
        [
            Goal("get + put with 10,000 slots / with 10", growth(samples, "slots", "ns"), most=1.5),
            Goal("upkeep at rest, 10,000 slots / 10", growth(samples, "slots", "rest_us_per_s"), most=4),
            Goal("put with 10,000 waiters / with 10", growth(samples, "waiters", "cycle_ns"), most=1.5),
        ],
    )
