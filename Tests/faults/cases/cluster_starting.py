"""A server that is there and takes no sessions yet (57P03)."""

from __future__ import annotations

import time

import pq
from calls import Users
from cluster import server_program
from failures import GetFailed, QueryFailed
from proxy import Proxy
from standby import Standby
from table import fault
from trial import SIZE, Trial

CALLERS = 20
OUTAGE = 10.0


class Watch:
    """The most connections that the proxy had open at once, since the last look."""

    def __init__(self, trial: Trial, proxy: Proxy) -> None:
        self.most = 0
        self._proxy = proxy
        self._looking = Users(1, self._look)

    def _look(self, _number: int) -> None:
        self.most = max(self.most, self._proxy.open_sessions())
        time.sleep(0.001)

    def stop(self) -> int:
        self._looking.stop()
        return self.most


def call_all_the_time(trial: Trial, pool: object) -> Users:
    def work(_number: int) -> None:
        trial.calls.use(pool)
        time.sleep(0.001)

    return Users(CALLERS, work)


def check_return(trial: Trial, back: float, words: str) -> None:
    """`words`: of the server, in the errors while it was away."""
    trial.recovery_ms = trial.calls.first_success_after(back)
    limit = trial.criteria["first_success_ms"]
    if trial.check(trial.recovery_ms is not None, "no success afterwards"):
        trial.at_most("first success", trial.recovery_ms or 0, limit, " ms")
    late = [call for call in trial.calls.errors if call.end > back + limit / 1000]
    trial.check(not late, f"{len(late)} errors later than that: {late and late[0].error}")
    refused = [str(call.error) for call in trial.calls.errors if isinstance(call.error, GetFailed)]
    silent = [error for error in refused if words not in error]
    trial.check(not silent, f"{len(silent)} errors do not name the cause: {silent[:1]}")


@fault("F09", "standby that takes no sessions (57P03)", attempts=20, in_flight=1, first_success_ms=1000, limit=90)
def standby_without_sessions(trial: Trial) -> None:
    primary = trial.own_cluster()
    standby = Standby.of(primary, trial.folder / "standby", start=False, hot_standby="off")
    try:
        standby.start(wait=False)
        assert trial.until(lambda: "57P03" in refusal(standby), 30, 0.01) is not None, standby.log()
        proxy = trial.proxy(primary)
        pool = trial.pool(proxy)
        proxy.target(standby.port)
        proxy.mode("rst", "existing")
        hidden = time.monotonic()
        callers = call_all_the_time(trial, pool)
        try:
            # From the first refusal on the pool knows.
            assert trial.until(lambda: bool(proxy.attempts()[SIZE:]), 5) is not None
            watch = Watch(trial, proxy)
            time.sleep(OUTAGE - (time.monotonic() - hidden))
            most = watch.stop()
            attempts = [instant for instant in proxy.attempts() if instant > hidden]
            server_program(standby.folder, "pg_ctl", "-D", standby.data, "-w", "promote")
            standby.wait_until_up()
            back = time.monotonic()
            time.sleep(2)
        finally:
            callers.stop()
        trial.at_most("attempts in 10 s", len(attempts), trial.criteria["attempts"])
        trial.at_most("attempts in flight", most, trial.criteria["in_flight"])
        check_return(trial, back, "the database system is")
        trial.settled(pool, SIZE, cluster=standby)
    finally:
        standby.remove()


def refusal(cluster: Standby) -> str:
    """The SQLSTATE in the text of a session refused, in any language."""
    try:
        pq.Connection(cluster.conninfo(over_tcp=True)).close()
    except QueryFailed as error:
        return "57P03" if "the database system is" in str(error) else str(error)
    return ""


@fault("C09", "restart fails for an error in the configuration, for 5 s", own_server=True, first_success_ms=1000)
def configuration_error(trial: Trial) -> None:
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    callers = call_all_the_time(trial, pool)
    try:
        trial.cluster.stop("fast")
        stopped = time.monotonic()
        broken = trial.cluster.data / "postgresql.auto.conf"
        before = broken.read_text()
        broken.write_text("shared_buffers = 'a lot'\n")
        trial.cluster.start(wait=False)
        assert trial.cluster.process.wait(20) != 0, "it started"
        broken.write_text(before)
        time.sleep(max(0.0, 5 - (time.monotonic() - stopped)))
        trial.cluster.start()
        back = time.monotonic()
        time.sleep(2)
    finally:
        callers.stop()
    # Behind the proxy a server that is not there is a connection that ends; what was in flight is 57P01.
    check_return(trial, back, "")
    trial.settled(pool, SIZE)
