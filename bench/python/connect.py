"""What opening and closing one connection takes: of the clock, and of this process's processor time.

The arguments: rounds, and a user and a password of one round of hashing."""

import os
import sys
import time

import psycopg2
from turns import take_turns

CONNECTS = 10


def connects(**words):
    """A function that measures once."""

    def measure():
        start, processor = time.perf_counter(), time.process_time()
        for _ in range(CONNECTS):
            psycopg2.connect(**words).close()
        found = {"ms": time.perf_counter() - start, "processor_ms": time.process_time() - processor}
        return {name: seconds * 1000 / CONNECTS for name, seconds in found.items()}

    return measure


def main():
    rounds, user, password = int(sys.argv[1]), *sys.argv[2:]
    local, plain, tls = {"host": os.environ["DBPOOL_PGSOCKET"]}, {"sslmode": "disable"}, {"sslmode": "require"}
    quick = {"user": user, "password": password}
    measures = {
        "Unix socket, SCRAM": connects(**local),
        "TCP, SCRAM": connects(**plain),
        "TCP with TLS, SCRAM": connects(**tls),
        "TCP, SCRAM of one round": connects(**plain, **quick),
        "TCP with TLS, SCRAM of one round": connects(**tls, **quick),
    }
    take_turns(measures, rounds)


if __name__ == "__main__":
    main()
