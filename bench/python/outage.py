"""Eight threads that borrow, query and give back, while their sessions are killed and while the server is away.

Prints samples of so many rounds as the first argument says; the second is the folder Tests/faults, whose server, pools
and timed calls these are."""

import json
import logging
import sys
import tempfile
import time
from pathlib import Path

sys.path.append(sys.argv[2])

import pools  # noqa: E402
from calls import Calls, Users  # noqa: E402
from cluster import PASSWORD, Cluster  # noqa: E402

THREADS, SIZE = 8, 12
DOWN_SECONDS = 3
TIMEOUT, PATIENCE = 10, 20
NAMES = {
    "libdbpool": ("native", False),
    "libdbpool, tested at each get": ("native", True),
    "dbpool, psycopg2": ("psycopg2", False),
    "dbpool, psycopg2, tested at each get": ("psycopg2", True),
    "psycopg_pool": ("psycopg_pool", False),
    "psycopg_pool with check": ("psycopg_pool+check", True),
    "SQLAlchemy": ("SQLAlchemy", False),
    "SQLAlchemy with pre_ping": ("SQLAlchemy+pre_ping", True),
}


class Load:
    """The threads, and when each was first served after `up`."""

    def __init__(self, pool):
        self.calls, self.pool = Calls(TIMEOUT), pool
        self.up = float("inf")
        self.served = [None] * THREADS
        self.users = Users(THREADS, self.work)

    def work(self, number):
        call = self.calls.use(self.pool)
        if call.error is None and self.served[number] is None and call.start + call.total_ms / 1000 > self.up:
            self.served[number] = call.end
        time.sleep(0.001)

    def run(self, seconds):
        time.sleep(seconds)

    def wait_for_all(self):
        end = time.monotonic() + PATIENCE
        while None in self.served and time.monotonic() < end:
            time.sleep(0.002)

    def stop(self):
        self.users.stop()

    def figures(self, since):
        """`since`: what began later was not under way when it happened."""
        errors = self.calls.errors
        last = max((when for when in self.served if when), default=self.up)
        return {
            "errors": len(errors),
            "errors_of_later_calls": sum(call.start > since for call in errors),
            "first_served_ms": self.calls.first_success_after(self.up),
            "all_served_ms": (last - self.up) * 1000 if None not in self.served else None,
        }


def killed(cluster, load, application):
    cluster.terminate(application)
    load.up = time.monotonic()
    load.wait_for_all()
    load.run(0.3)
    return load.figures(load.up)


def restarted(cluster, load, _application):
    cluster.stop("fast")
    since = time.monotonic()
    time.sleep(DOWN_SECONDS)
    cluster.start()
    load.up = time.monotonic()
    load.wait_for_all()
    load.run(0.3)
    return load.figures(since)


def measure(cluster, name, event):
    kind, checked = NAMES[name]
    application = f"bench-{kind}"
    words = {"host": "127.0.0.1", "port": cluster.port, "user": "app", "dbname": "app", "password": PASSWORD}
    options = {"min_size": SIZE, "max_size": SIZE, "timeout": TIMEOUT, "connect_timeout": 5, "reset": "rollback"}
    pool = pools.make(kind, {**words, "application_name": application}, checked=checked, **options)
    loans = [pool.get(TIMEOUT) for _ in range(SIZE)]
    for loan in loans:
        pool.put(loan)
    load = Load(pool)
    try:
        load.run(0.3)
        return event(cluster, load, application)
    finally:
        load.stop()
        pool.close()
        cluster.forget_admin()


def main():
    logging.disable(logging.CRITICAL)  # psycopg_pool tells of each attempt
    with tempfile.TemporaryDirectory(prefix="dbpool-outage.") as folder:
        Path(folder).chmod(0o755)
        cluster = Cluster.create(Path(folder) / "cluster")
        try:
            for number in range(int(sys.argv[1])):
                for event in (killed, restarted):
                    for name in NAMES:
                        found = measure(cluster, name, event)
                        print(json.dumps({"event": event.__name__, "round": number, "pool": name, **found}), flush=True)
        finally:
            cluster.remove()


if __name__ == "__main__":
    main()
