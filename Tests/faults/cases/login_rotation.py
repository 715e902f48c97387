"""Passwords that change, and functions that supply them."""

from __future__ import annotations

import os
import threading
import time
from pathlib import Path
from typing import Any, Callable

import dbpool
import pools
from cluster import conninfo_text
from table import OURS, fault
from trial import CONNECT_TIMEOUT, SIZE, TIMEOUT, Trial

from cases.login_refused import role


class Secret:
    """What a vault would say now: in a password file, or to a function that asks."""

    def __init__(self, trial: Trial, user: str, password: str) -> None:
        self._words = trial.words(user=user)
        del self._words["password"]
        self._file = Path(trial.folder) / "passfile"
        self.set(password)

    def set(self, password: str) -> None:
        self.password = password
        new = self._file.with_suffix(".new")
        new.write_text(f"*:*:*:*:{password}\n")
        new.chmod(0o600)
        os.replace(new, self._file)

    def conninfo(self) -> str:
        return conninfo_text({**self._words, "password": self.password})

    def pool(self, trial: Trial, from_file: bool) -> Any:
        options: dict[str, Any] = {"max_size": SIZE, "timeout": TIMEOUT, "connect_timeout": CONNECT_TIMEOUT}
        options.update(min_size=SIZE, checked=True, reset="rollback")
        words = dict(self._words)
        if from_file:
            words["passfile"] = str(self._file)
        elif trial.pool_name == "native":
            options["conninfo_provider"] = self.conninfo
        else:
            words["password"] = lambda: self.password
        return pools.make(trial.pool_name, words, **options)


@fault("F37r", "password changed, sessions terminated; told by a function", replaced_ms=1000, pools=OURS)
def rotated(trial: Trial) -> None:
    rotate(trial, from_file=False)


@fault("F37f", "password changed, sessions terminated; told in the password file", replaced_ms=1000, pools=OURS)
def rotated_in_a_file(trial: Trial) -> None:
    rotate(trial, from_file=True)


def rotate(trial: Trial, from_file: bool) -> None:
    with role(trial, "LOGIN PASSWORD 'old'") as name:
        secret = Secret(trial, name, "old")
        pool = secret.pool(trial, from_file)
        try:
            trial.fill(pool, SIZE)
            secret.set("new")
            trial.cluster.admin(f"ALTER ROLE {name} PASSWORD 'new'")
            since = time.monotonic()
            trial.cluster.terminate(trial.application)
            for _ in range(40):
                trial.calls.use(pool)
            trial.at_most("errors", len(trial.calls.errors), 0)
            trial.replaced(pool, since, trial.criteria["replaced_ms"])
            trial.settled(pool)
            check_renewal(trial, pool)
        finally:
            pool.close()


def check_renewal(trial: Trial, pool: Any) -> None:
    """reconnect(): sessions made with an old password go without being terminated."""
    before = set(trial.cluster.sessions(trial.application))
    pool.pool.reconnect()
    if not pool.refills:
        trial.fill(pool, SIZE)
    gone = trial.until(lambda: not before & set(trial.cluster.sessions(trial.application)), 3)
    trial.check(gone is not None, "sessions stay after reconnect()")
    trial.settled(pool)


# ------------------------------------------------------------------------------------------- a provider that fails


def provided(trial: Trial, provider: Callable[[], Any], **options: Any) -> dbpool.Pool:
    return dbpool.Pool(
        conninfo_text(trial.words()), conninfo_provider=provider, acquire_timeout=TIMEOUT, connect_timeout=1, **options
    )


def get_fails(trial: Trial, pool: dbpool.Pool, words: str, timeout: float = 1) -> None:
    start = time.monotonic()
    try:
        pool.put(pool.get(timeout))
        trial.reasons.append("somebody was served")
    except dbpool.ConnectError as error:
        # What a callback in Python raised is the error's cause.
        named = f"{error} {error.__cause__}"
        trial.check(words in named, f"the error does not name the cause: {named}")
    except dbpool.Error as error:
        trial.reasons.append(f"{type(error).__name__}: {error}")
    took = (time.monotonic() - start) * 1000
    trial.worst_ms = max(trial.worst_ms or 0, took)
    trial.at_most("get", took, timeout * 1000 + 250, " ms")


def recovers(trial: Trial, pool: dbpool.Pool, seconds: float) -> None:
    start = time.monotonic()
    loan = pool.get(seconds)
    trial.recovery_ms = (time.monotonic() - start) * 1000
    pool.put(loan)


@fault("L10", "conninfo_provider raises", quick=True, pools=("native",))
def provider_raises(trial: Trial) -> None:
    is_broken = True

    def provider() -> str:
        if is_broken:
            raise LookupError("the vault is sealed")
        return conninfo_text(trial.words())

    with provided(trial, provider) as pool:
        get_fails(trial, pool, "sealed")
        is_broken = False
        recovers(trial, pool, 2)


GARBAGE: tuple[Any, ...] = ("host=", "nonsense", "=", "postgresql://[", "x" * 70_000, b"\xff\xfe", 42, None, "")


@fault("L11", "conninfo_provider returns garbage", pools=("native",))
def provider_returns_garbage(trial: Trial) -> None:
    for garbage in GARBAGE[:-1]:
        with provided(trial, lambda: garbage) as pool:  # noqa: B023
            get_fails(trial, pool, "", 0.5)


@fault("L12", "conninfo_provider hangs", pools=("native",))
def provider_hangs(trial: Trial) -> None:
    """The thread that calls it is stuck; others are not, nor is close()."""
    go_on = threading.Event()

    def provider() -> str:
        go_on.wait(30)
        return conninfo_text(trial.words())

    pool = provided(trial, provider)
    with dbpool.Pool(conninfo_text(trial.words())) as other:
        for _ in range(3):
            get_fails(trial, pool, "")
        threads = len(os.listdir("/proc/self/task"))
        for _ in range(3):
            get_fails(trial, pool, "")
        trial.at_most("threads more for each try", len(os.listdir("/proc/self/task")) - threads, 1)
        start = time.monotonic()
        other.put(other.get(1))
        trial.at_most("get of another pool", (time.monotonic() - start) * 1000, 250, " ms")
        go_on.set()
        recovers(trial, pool, 10)
        start = time.monotonic()
        pool.close()
        trial.at_most("close", (time.monotonic() - start) * 1000, 250, " ms")
