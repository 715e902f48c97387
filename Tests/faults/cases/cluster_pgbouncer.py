"""Behind PgBouncer in transaction mode: a session is another backend in the next transaction."""

from __future__ import annotations

import time
from collections import Counter

from calls import Users, together
from pgbouncer import PgBouncer
from table import OURS, fault
from trial import SIZE, Trial

BACKENDS = 3


def words(trial: Trial, bouncer: PgBouncer) -> dict[str, object]:
    """psycopg prepares statements by itself; its manual says how to stop that behind PgBouncer before 1.21."""
    own: dict[str, object] = {"prepare_threshold": None} if trial.pool_name == "psycopg" else {}
    return {"port": bouncer.port, **own}


@fault("F34", "behind PgBouncer in transaction mode, 10 sessions on 3 backends", errors=0)
def transaction_mode(trial: Trial) -> None:
    with PgBouncer(trial.cluster, trial.folder / "bouncer", BACKENDS) as bouncer:
        pool = trial.pool(checked=True, words=words(trial, bouncer))
        backends: set[str] = set()
        of_one_session: set[str] = set()

        def ask_on_one_session() -> None:
            connection = trial.calls.get(pool)
            try:
                for _ in range(30):
                    of_one_session.add(pool.query(connection, "SELECT pg_backend_pid(), pg_sleep(0.002)")[0][0])
            finally:
                pool.put(connection)

        def work(number: int) -> None:
            if number == 0:
                return ask_on_one_session()
            for _ in range(30):
                # The same text often: a driver that prepares it by itself finds it gone, or there already.
                call = trial.calls.use(pool, "SELECT pg_backend_pid(), 'tag'", hold=0.001)
                backends.update(row[0] for row in call.rows or [])

        together(SIZE, work)
        errors = trial.calls.errors
        texts = sorted({str(call.error) for call in errors})
        trial.at_most(f"errors {texts[:2]}", len(errors), trial.criteria["errors"])
        trial.notes.append(f"backends of one session: {len(of_one_session)}")
        trial.at_least("backends of one session", len(of_one_session), 2)
        backends |= of_one_session
        trial.at_most("backends used", len(backends), BACKENDS)
        trial.settled(pool, sessions=bouncer.clients)


@fault("F34r", "behind PgBouncer in transaction mode, reset = full", errors=0, pools=OURS)
def reset_in_transaction_mode(trial: Trial) -> None:
    with PgBouncer(trial.cluster, trial.folder / "bouncer", BACKENDS) as bouncer:
        pool = trial.pool(reset="full", words=words(trial, bouncer))
        together(SIZE, lambda _number: [trial.calls.use(pool) for _ in range(20)] and None)
        texts = sorted({str(call.error) for call in trial.calls.errors})
        trial.at_most(f"errors {texts[:2]}", len(trial.calls.errors), trial.criteria["errors"])
        trial.settled(pool, sessions=bouncer.clients)


@fault("F34k", "PgBouncer ends its clients (KILL, 08P01), then serves again", first_success_ms=1000)
def killed(trial: Trial) -> None:
    with PgBouncer(trial.cluster, trial.folder / "bouncer", BACKENDS) as bouncer:
        pool = trial.pool(words=words(trial, bouncer))
        users = Users(4, lambda _number: trial.calls.use(pool) and None)
        try:
            assert trial.until(lambda: len(trial.calls.list) > 50, 10) is not None
            bouncer.admin("KILL app")
            time.sleep(1)
            bouncer.admin("RESUME app")
            back = time.monotonic()
            trial.until(lambda: trial.calls.first_success_after(back) is not None, 10, 0.01)
            time.sleep(1)
        finally:
            users.stop()
        trial.recovery_ms = trial.calls.first_success_after(back)
        if trial.check(trial.recovery_ms is not None, "no success afterwards"):
            trial.at_most("first success", trial.recovery_ms or 0, trial.criteria["first_success_ms"], " ms")
        late = [call for call in trial.calls.errors if call.end > back + 1]
        trial.check(not late, f"{len(late)} errors later than 1 s after the return: {late and late[0].error}")
        trial.settled(pool, sessions=bouncer.clients)


@fault("F34d", "PgBouncer up, server behind it dies and comes back", own_server=True, first_success_ms=2500)
def server_dies(trial: Trial) -> None:
    """PgBouncer itself tries the server again each second here (server_login_retry)."""
    with PgBouncer(trial.cluster, trial.folder / "bouncer", BACKENDS) as bouncer:
        pool = trial.pool(words=words(trial, bouncer))
        users = Users(4, lambda _number: trial.calls.use(pool) and None)
        try:
            assert trial.until(lambda: len(trial.calls.list) > 50, 10) is not None
            trial.cluster.stop("immediate")
            time.sleep(2)
            trial.cluster.start()
            back = time.monotonic()
            trial.until(lambda: trial.calls.first_success_after(back) is not None, 15, 0.01)
            time.sleep(2)
        finally:
            users.stop(40)
        trial.recovery_ms = trial.calls.first_success_after(back)
        if trial.check(trial.recovery_ms is not None, "no success afterwards"):
            trial.at_most("first success", trial.recovery_ms or 0, trial.criteria["first_success_ms"], " ms")
        texts = Counter(f"{type(call.error).__name__} {call.error}".splitlines()[0] for call in trial.calls.errors)
        trial.notes.append(f"errors: {texts.most_common(2)}")
        trial.check(trial.calls.use(pool).error is None, "not whole")
        trial.settled(pool, sessions=bouncer.clients)
