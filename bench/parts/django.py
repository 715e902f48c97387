"""Requests of a Django view."""

from __future__ import annotations

from figures import Goal, Plot, Samples, Shown, Table, bars, by_round, chosen, middle, names, ratios, spread, values

TITLE = "Django"
HOW = """`bench/python/views.py`: a view with one `SELECT 1`, called as a WSGI server would, with all of Django's
signals but without a network to the browser; server on the same machine, TCP, TLS and SCRAM, as Debian's
PostgreSQL offers them. Contestants take turns. The connection part is a request less one of a view without a
database, one thread, processor time of the process. "A list of connections" is Django's engine with a list in
place of a pool (`bench/python/kept`): no pool in Django takes less. PgBouncer has eight sessions for each mode,
and clients log in to it with SCRAM, without TLS."""

KEEPING, OPENING, NOTHING = "CONN_MAX_AGE=None", "CONN_MAX_AGE=0", "no database"
OURS, OURS_OF_8, NATIVE = "dbpool, MAX_CONNS 4", "dbpool, MAX_CONNS 8", "Django's own pool of 4"
DRIVERS = {"bench": "psycopg", "bench-psycopg2": "psycopg2"}


def measure(bench):
    bench.use_venvs()
    for venv in DRIVERS:
        yield from bench.python(venv, "views.py", bench.rounds(4, 12), bench.build / "peers")


def connection_part(samples: Samples, pool: str, driver: str) -> dict[int, float]:
    """µs of processor time."""
    case = {"driver": driver, "threads": 1}
    nothing = by_round(samples, "processor_us", pool=NOTHING, **case)
    return {
        number: value - nothing[number]
        for number, value in by_round(samples, "processor_us", pool=pool, **case).items()
    }


def table(samples: Samples, driver: str) -> Table:
    mine = chosen(samples, driver=driver)
    keeping = {threads: by_round(mine, "requests_per_s", pool=KEEPING, threads=threads) for threads in (1, 8)}
    rows = []
    for pool in names(mine):
        if pool == NOTHING:
            continue
        row = [pool]
        for threads in (1, 8):
            pace = by_round(mine, "requests_per_s", pool=pool, threads=threads)
            row += [middle(list(pace.values())), spread(ratios(pace, keeping[threads]))]
        part = connection_part(mine, pool, driver)
        row += [middle(list(part.values())), spread(ratios(part, connection_part(mine, KEEPING, driver)))]
        rows.append(row)
    head = ["connections"]
    for threads in ("1 thread", "8 threads"):
        head += [f"{threads}: requests/s", f"compared with {KEEPING}"]
    head += ["connection part, µs", f"compared with {KEEPING}"]
    return Table(f"Django 5.2, {driver}", head, rows, "medians; ratios are min / median / max of the rounds")


def goals(samples: Samples, driver: str) -> list[Goal]:
    def pace(pool: str) -> dict[int, float]:
        return by_round(samples, "requests_per_s", pool=pool, driver=driver, threads=8)

    part = ratios(connection_part(samples, OURS, driver), connection_part(samples, KEEPING, driver))
    found = [
        Goal(
            f"{driver}, 8 threads, pool of 8: requests / {KEEPING}", ratios(pace(OURS_OF_8), pace(KEEPING)), least=0.95
        ),
        Goal(f"{driver}, 1 thread: connection part / {KEEPING}", part, most=1.3),
    ]
    if pace(NATIVE):
        found.insert(
            0, Goal(f"{driver}, 8 threads, pool of 4: requests / {NATIVE}", ratios(pace(OURS), pace(NATIVE)), least=1.3)
        )
    return found


def show(samples: Samples) -> Shown:
    shown = Shown()
    for driver in names(samples, "driver"):
        shown.items.append(table(samples, driver))
        shown.goals += goals(samples, driver)
    mine = [one for one in chosen(samples, driver="psycopg2", threads=8)]
    shown.items.append(
        Plot(
            "Requests per second, 8 threads, psycopg2",
            lambda axes: bars(
                axes,
                names(mine),
                [values(mine, "requests_per_s", pool=pool) for pool in names(mine)],
                "requests/s, logarithmic",
                logarithmic=True,
            ),
            "django",
            (7.0, 2.8),
        )
    )
    return shown
