"""Peers that are gone, or only half there."""

from __future__ import annotations

import os
import signal
import socket
import time
from pathlib import Path

import preload
import scripted
from calls import Users
from failures import GetFailed, QueryFailed, Skip
from scripted import ScriptedServer
from table import fault
from trial import CONNECT_TIMEOUT, SIZE, TIMEOUT, Trial


@fault("F30", "SIGPIPE at its default, peer gone while connections are out", quick=True)
def sigpipe(trial: Trial) -> None:
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)  # as in a C program: Python ignores it
    proxy = trial.proxy()
    pool = trial.pool(proxy)
    lent = [pool.get(TIMEOUT) for _ in range(SIZE)]
    for connection in lent:
        pool.query(connection, "BEGIN")
    proxy.mode("rst", "existing")
    start = time.monotonic()
    failed = 0
    for connection in lent[: SIZE // 2]:
        for _ in range(2):  # the second writes to a socket that is known to be dead
            try:
                pool.query(connection, "SELECT 1")
            except QueryFailed:
                failed += 1
    trial.check(failed == SIZE, f"{failed} of {SIZE} queries on dead connections failed")
    for connection in lent:  # those not used since are rolled back on a dead socket
        pool.put(connection)
    trial.check(signal.getsignal(signal.SIGPIPE) == signal.SIG_DFL, "the disposition of SIGPIPE has changed")
    trial.check(not is_blocked(signal.SIGPIPE), "SIGPIPE is blocked in the caller's thread")
    trial.replaced(pool, start, 2000)
    trial.settled(pool)


def is_blocked(number: signal.Signals) -> bool:
    return number in signal.pthread_sigmask(signal.SIG_BLOCK, [])


BOTH = "both.example"


def two_addresses(trial: Trial) -> None:
    """From now on BOTH is ::1 and 127.0.0.1, as localhost often is."""
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError as error:
        raise Skip(f"no IPv6 here: {error}") from None
    preload.require("two_addresses", trial.folder)
    assert len({family for family, *_ in socket.getaddrinfo(BOTH, None)}) == 2


@fault("N02", "name of an IPv6 and an IPv4 address, nobody listens on IPv6", served_ms=1000)
def ipv6_refuses(trial: Trial) -> None:
    two_addresses(trial)
    pool = trial.pool(full=False, min_size=0, words={"host": BOTH})
    call = trial.calls.use(pool)
    trial.check(call.error is None, f"not served: {call.error}")
    trial.at_most("served", call.total_ms, trial.criteria["served_ms"], " ms")


@fault("N02d", "name of an IPv6 and an IPv4 address, IPv6 is silent", served_ms=CONNECT_TIMEOUT * 1000 + 1000)
def ipv6_is_silent(trial: Trial) -> None:
    two_addresses(trial)
    with ScriptedServer(scripted.be_silent, "::1", trial.cluster.port):
        pool = trial.pool(full=False, min_size=0, words={"host": BOTH})
        for _ in range(3):
            call = trial.calls.use(pool, timeout=10)
            trial.check(call.error is None, f"not served: {call.error}")
        trial.at_most("served", trial.calls.worst_ms(), trial.criteria["served_ms"], " ms")


@fault("N03", "folder of the Unix socket is missing, then there", first_success_ms=1000, attempts=8)
def socket_folder(trial: Trial) -> None:
    later = Path(trial.folder) / "later"
    pool = trial.pool(full=False, words={"host": str(later), "user": "app", "password": ""})
    users = Users(8, lambda _number: trial.calls.use(pool, timeout=1) and None)
    try:
        time.sleep(3)
        failures = pool.stats().connect_failures if pool.stats() else 0
        os.symlink(trial.cluster.folder, later)
        back = time.monotonic()
        trial.until(lambda: trial.calls.first_success_after(back) is not None, 10, 0.01)
    finally:
        users.stop()
    trial.at_most("attempts in 3 s", failures, trial.criteria["attempts"])
    texts = [str(call.error) for call in trial.calls.errors if isinstance(call.error, GetFailed)]
    silent = [text for text in texts if "No such file or directory" not in text]
    trial.check(bool(texts) and not silent, f"{len(silent)} errors do not name the cause: {silent[:1]}")
    trial.recovery_ms = trial.calls.first_success_after(back)
    if trial.check(trial.recovery_ms is not None, "no success afterwards"):
        trial.at_most("first success", trial.recovery_ms or 0, trial.criteria["first_success_ms"], " ms")
