"""Packets that vanish: nobody says that the other side cannot be reached."""

from __future__ import annotations

import os
import socket
import threading
import time

import netns
from failures import QueryFailed
from table import OURS, fault
from trial import CONNECT_TIMEOUT, SIZE, TIMEOUT, Trial

# In seconds, where not in the name.
LIMITS: dict[str, object] = {
    "keepalives_idle": 1,
    "keepalives_interval": 1,
    "keepalives_count": 2,
    "tcp_user_timeout": 2000,
}
# Of a silence that is only noticed because of probes: idle time, probes, and a second.
NOTICED_MS = (1 + 2 + 1) * 1000
# What was sent and is not acknowledged.
UNSENT_MS = 2000 + 1000


# An attempt that began while nothing came through, and the pause before the next one.
SERVED_AGAIN_MS = CONNECT_TIMEOUT * 1000 + 1000


def fails(trial: Trial, pool: object, connection: object, sql: str) -> float:
    """When it has failed."""
    try:
        pool.query(connection, sql)  # type: ignore[attr-defined]
        trial.reasons.append(f"{sql} was answered")
    except QueryFailed:
        pass
    return time.monotonic()


@fault(
    "F03",
    "packets dropped while a query runs, and before one",
    noticed_ms=NOTICED_MS,
    unsent_ms=UNSENT_MS,
    served_again_ms=SERVED_AGAIN_MS,
)
def dropped(trial: Trial) -> None:
    netns.enter()
    trial.cluster.forget_admin()
    # The server has to notice, too.
    probes = {"tcp_keepalives_idle": "1", "tcp_keepalives_interval": "1", "client_connection_check_interval": "500"}
    trial.cluster = trial.own_cluster(**probes)
    pool = trial.pool(words=LIMITS)
    waiting, sending = pool.get(TIMEOUT), pool.get(TIMEOUT)
    failed: list[float] = []

    def wait_for_answer() -> None:
        failed.append(fails(trial, pool, waiting, "SELECT pg_sleep(20)"))

    waiter = threading.Thread(target=wait_for_answer, daemon=True)
    waiter.start()
    running = "SELECT count(*) FROM pg_stat_activity WHERE query LIKE '%pg_sleep(20)' AND state = 'active'"
    assert trial.until(lambda: int(trial.cluster.admin(running)[0][0]) >= 1, 10, 0.01) is not None
    silent = time.monotonic()
    with netns.Dropped(trial.cluster.port):
        sent = time.monotonic()
        sending_ms = (fails(trial, pool, sending, "SELECT 1") - sent) * 1000
        for _ in range(2):  # whoever comes now ends in time; what lay idle is silent too
            connection_ends(trial, pool)
        waiter.join(30)
        assert failed, "the query hangs"
        waiting_ms = (failed[0] - silent) * 1000
        pool.put(waiting)
        pool.put(sending)
    back = time.monotonic()
    trial.at_most("error of the query that runs", waiting_ms, trial.criteria["noticed_ms"], " ms")
    trial.at_most("error of the query that is sent", sending_ms, trial.criteria["unsent_ms"], " ms")
    trial.worst_ms = max(waiting_ms, sending_ms)
    trial.recovers("served again", lambda: trial.calls.use(pool).error is None, back, trial.criteria["served_again_ms"])
    trial.errors = 2
    trial.settled(pool, SIZE, seconds=10)


def connection_ends(trial: Trial, pool: object) -> None:
    """A get, without the query that would wait for TCP: that is not the pool's."""
    start = time.monotonic()
    try:
        connection = pool.get(TIMEOUT)  # type: ignore[attr-defined]
    except Exception:
        connection = None
    trial.at_most("get", (time.monotonic() - start) * 1000, TIMEOUT * 1000 + 250, " ms")
    if connection is not None:
        pool.discard(connection)  # type: ignore[attr-defined]


@fault("F03d", "default keepalives and tcp_user_timeout, also overridden", quick=True, pools=OURS)
def defaults(trial: Trial) -> None:
    wanted = {"TCP_KEEPIDLE": 30, "TCP_KEEPINTVL": 10, "TCP_KEEPCNT": 3, "TCP_USER_TIMEOUT": 30_000}
    check_socket(trial, {}, wanted)
    own = {"TCP_KEEPIDLE": 7, "TCP_KEEPINTVL": 8, "TCP_KEEPCNT": 9, "TCP_USER_TIMEOUT": 1234}
    names = ("keepalives_idle", "keepalives_interval", "keepalives_count", "tcp_user_timeout")
    check_socket(trial, dict(zip(names, own.values())), own)


def check_socket(trial: Trial, words: dict[str, object], wanted: dict[str, int]) -> None:
    pool = trial.pool(min_size=1, max_size=1, words=words)
    connection = pool.get(TIMEOUT)
    with socket.socket(fileno=os.dup(pool.socket(connection))) as ours:
        alive = ours.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)
        found = {name: ours.getsockopt(socket.IPPROTO_TCP, getattr(socket, name)) for name in wanted}
    trial.check(alive == 1 and found == wanted, f"keepalive {alive}, {found}")
    pool.put(connection)
    pool.close()
