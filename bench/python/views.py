"""Requests per second of a Django view with one `SELECT 1`: the whole of a request but the network, signals included.

Run with the driver that Django chooses; the native pool of Django takes part when that is psycopg 3."""

import os
import threading
import time
from statistics import median

import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from turns import QUICK, print_table, ratio, take_turns

SECONDS, REPEATS = (0.2, 5) if QUICK else (0.5, 12)
KEEPING, NATIVE = "CONN_MAX_AGE=None", "Django's own pool of 4"
NOTHING = "no database"
OURS = "dbpool.db.backends.postgresql"


def database(engine="django.db.backends.postgresql", age=0, **options):
    variables = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
    server = {name: os.environ.get(variable, "") for name, variable in variables.items()}
    return {"ENGINE": engine, "CONN_MAX_AGE": age, "OPTIONS": options, **server}


def configure():
    """Contestants by name, each a database of its own; the driver."""
    databases = {
        "CONN_MAX_AGE=0": database(),
        KEEPING: database(age=None),
        NATIVE: database(pool={"min_size": 4, "max_size": 4}),
        "**MAX_CONNS 4**": database(OURS, MAX_CONNS=4),
        "**MAX_CONNS 8**": database(OURS, MAX_CONNS=8),
    }
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATABASES={"default": {}, **databases})
    django.setup()
    driver = connections[KEEPING].Database.__name__
    if driver == "psycopg2":
        del databases[NATIVE]  # it is for psycopg 3 alone
    return list(databases), driver


def view(_request, alias):
    if alias != NOTHING:
        with connections[alias].cursor() as cursor:
            cursor.execute("SELECT 1")
            cursor.fetchone()
    return HttpResponse("fine")


urlpatterns = [path("<path:alias>", view)]


class Visitor:
    """Asks for the page of one database, as a WSGI server would."""

    def __init__(self, alias):
        self.environ = RequestFactory().get(f"/{alias}").environ
        self.handler = WSGIHandler()

    def visit(self):
        response = self.handler(dict(self.environ), lambda status, _headers: self.check(status))
        b"".join(response)
        response.close()  # sends request_finished

    def check(self, status):
        if status != "200 OK":
            raise AssertionError(status)


def work(alias, barrier, counts):
    visitor = Visitor(alias)
    visitor.visit()  # connects, where each thread has a connection of its own
    barrier.wait()
    end, count = time.monotonic() + SECONDS, 0
    while time.monotonic() < end:
        visitor.visit()
        count += 1
    counts.append(count)
    connections.close_all()


def requests(alias, threads, processor):
    """A function that measures once: requests per second. Seconds of processor time for each go to `processor`."""

    def measure():
        counts, barrier = [], threading.Barrier(threads + 1)
        workers = [threading.Thread(target=work, args=(alias, barrier, counts)) for _ in range(threads)]
        for worker in workers:
            worker.start()
        barrier.wait()
        start, start_processor = time.monotonic(), time.process_time()
        for worker in workers:
            worker.join()
        seconds = time.monotonic() - start
        if len(counts) != threads:
            raise SystemExit("views: a thread has failed")
        processor.append((time.process_time() - start_processor) / sum(counts))
        return sum(counts) / seconds

    return measure


def less_nothing(seconds):
    """What a request takes more than one without a database does."""
    return {
        name: [one - base for one, base in zip(figures, seconds[NOTHING])]
        for name, figures in seconds.items()
        if name != NOTHING
    }


def compare_requests(contestants, title):
    rivals = [KEEPING] + [NATIVE] * (NATIVE in contestants)
    compared = [f"compared with {rival}: min / median / max" for rival in rivals]
    rows, one_thread = [], {}
    for threads in (1, 8):
        names = contestants + [NOTHING] * (threads == 1)
        processor = {name: [] for name in names}
        figures = take_turns({name: requests(name, threads, processor[name]) for name in names}, REPEATS)
        if threads == 1:
            one_thread = figures, processor
        for name in contestants:
            ratios = [ratio(figures, name, rival) for rival in rivals]
            rows.append([threads, name, f"{median(figures[name]):,.0f}", *ratios])
    print_table(f"{title}, {REPEATS} rounds of {SECONDS} s", ["threads", "connections", "requests/s", *compared], rows)
    return one_thread


def compare_connection_parts(contestants, rates, processor):
    """Both by the clock, where the server's part counts, and in processor time, which other programs disturb less."""
    clock = less_nothing({name: [1 / rate for rate in figures] for name, figures in rates.items()})
    processor = less_nothing(processor)
    rows = [
        [name]
        + [
            cell
            for part in (clock, processor)
            for cell in (f"{median(part[name]) * 1e6:,.0f}", ratio(part, name, KEEPING))
        ]
        for name in contestants
    ]
    compared = f"compared with {KEEPING}: min / median / max"
    print_table(
        "Of that, the connection and its `SELECT 1`, at one thread: a request less one without a database",
        ("connections", "µs", compared, "µs of processor time", compared),
        rows,
    )


def main():
    contestants, driver = configure()
    one_thread = compare_requests(contestants, f"Django {django.get_version()}, {driver}, `SELECT 1` in each request")
    compare_connection_parts(contestants, *one_thread)


if __name__ == "__main__":
    main()
