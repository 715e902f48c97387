"""A full reset takes what the driver has prepared by itself."""

from __future__ import annotations

from table import OURS, fault
from trial import Trial

# psycopg prepares what it has executed five times.
ENOUGH = 8


@fault("F20p", "the same query often, reset = full in between", pools=OURS)
def reset_of_prepared(trial: Trial) -> None:
    pool = trial.pool(min_size=1, max_size=1, reset="full", full=False)
    for _ in range(2):
        connection = pool.get(5)
        for _ in range(ENOUGH):
            pool.query(connection, "SELECT 'the same'")
        pool.put(connection)
    call = trial.calls.use(pool, "SELECT 'the same'")
    trial.check(call.rows == [("the same",)], f"the next user gets {call.rows or call.error}")
    trial.settled(pool, 1)
