"""Requests per second of a Django view with one `SELECT 1`: the whole of a request but the network, signals included.

Prints samples of so many rounds as the first argument says. Run with the driver that Django chooses; the native pool of
Django takes part when that is psycopg 3. The second argument is the folder with PgBouncer."""

import os
import sys
import threading
import time

import bouncer
import django
from django.conf import settings
from django.core.handlers.wsgi import WSGIHandler
from django.db import connections
from django.http import HttpResponse
from django.test import RequestFactory
from django.urls import path
from turns import take_turns

SECONDS = 0.3
THREADS = (1, 8)
KEEPING, NATIVE = "CONN_MAX_AGE=None", "Django's own pool of"
LIST = "a list of connections"
NOTHING = "no database"
OURS = "dbpool.db.backends.postgresql"


def database(engine="django.db.backends.postgresql", age=0, server=None, **options):
    variables = {"HOST": "PGHOST", "PORT": "PGPORT", "USER": "PGUSER", "PASSWORD": "PGPASSWORD", "NAME": "PGDATABASE"}
    found = {name: os.environ.get(variable, "") for name, variable in variables.items()}
    return {"ENGINE": engine, "CONN_MAX_AGE": age, "OPTIONS": options, **found, **(server or {})}


def configure(port):
    """Contestants by name, each a database of its own; the driver. `port` is PgBouncer's."""
    databases = {
        "CONN_MAX_AGE=0": database(),
        KEEPING: database(age=None),
        **{f"{NATIVE} {size}": database(pool={"min_size": size, "max_size": size}) for size in (4, 8)},
        **{
            f"PgBouncer, {mode} mode": database(server={"HOST": "127.0.0.1", "PORT": port, "NAME": mode})
            for mode in ("session", "transaction")
        },
        LIST: database("kept"),
        "dbpool, MAX_CONNS 4": database(OURS, MAX_CONNS=4),
        "dbpool, MAX_CONNS 8": database(OURS, MAX_CONNS=8),
    }
    settings.configure(ROOT_URLCONF=__name__, ALLOWED_HOSTS=["*"], DATABASES={"default": {}, **databases})
    django.setup()
    driver = connections[KEEPING].Database.__name__
    if driver == "psycopg2":  # the pool of Django is for psycopg 3 alone
        databases = {name: one for name, one in databases.items() if not name.startswith(NATIVE)}
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


def requests(alias, threads):
    """A function that measures once: requests per second, and seconds of processor time for each."""

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
        processor = (time.process_time() - start_processor) / sum(counts)
        return {"requests_per_s": sum(counts) / seconds, "processor_us": processor * 1e6}

    return measure


def main():
    rounds, peers = int(sys.argv[1]), sys.argv[2]
    with bouncer.running(peers, size=8) as port:
        contestants, driver = configure(port)
        for threads in THREADS:
            names = contestants + [NOTHING] * (threads == 1)
            measures = {name: requests(name, threads) for name in names}
            take_turns(measures, rounds, driver=driver, threads=threads)


if __name__ == "__main__":
    main()
