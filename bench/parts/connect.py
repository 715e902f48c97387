"""What a connection costs that is not kept."""

from __future__ import annotations

from figures import Samples, Shown, Table, by_round, names, ratios, spread, values
from logins import cheap_login

TITLE = "Opening a connection"
HOW = """`bench/python/connect.py`: `psycopg2.connect()` and `close()`, one after the other, to a server on the
same machine. A SCRAM password takes 4096 rounds of hashing at the client; a role whose password was made with
one round shows what is left without them."""

REFERENCE = "TCP, SCRAM of one round"


def measure(bench):
    bench.use_venvs()
    login = cheap_login()
    yield from bench.python("bench", "connect.py", bench.rounds(7, 21), login["PGUSER"], login["PGPASSWORD"])


def show(samples: Samples) -> Shown:
    rows = []
    for way in names(samples):
        against = ratios(by_round(samples, "processor_ms", pool=way), by_round(samples, "processor_ms", pool=REFERENCE))
        rows.append(
            [way, *(spread(values(samples, metric, pool=way)) for metric in ("ms", "processor_ms")), spread(against)]
        )
    head = ["connection", "ms", "ms of the client's processor", f"processor, compared with {REFERENCE}"]
    return Shown([Table("One connect and close", head, rows, "min / median / max of the rounds")])
