"""What a borrower does that is psycopg's (3) own."""

from __future__ import annotations

import contextlib
import itertools
import logging
import threading
import time
from typing import Any

import psycopg
from dbpool._psycopg import PsycopgPool
from hosted_jobs import (
    Driver,
    Unfinished,
    Worker,
    ask,
    ask_slowly,
    check_failure,
    failing,
    noticing,
    notify_itself,
)
from psycopg import adapt, pq, rows

# It warns of a pipeline that was left and lost its connection: that is the point.
logging.getLogger("psycopg").setLevel(logging.ERROR)

ASK = "select %s::text, pg_backend_pid()"
BOOL = 16  # its type's number


class Liar(adapt.Loader):
    """Of a borrower who wants it so."""

    def load(self, data: Any) -> str:
        return "a lie"


class Mine(psycopg.ServerCursor[Any]):
    """A cursor class of a borrower's."""


# ------------------------------------------------------------------------------------------------ notices, notifies


class Ear:
    """Hears notices; it may stay on the connection, and must hear nobody else's then."""

    def __init__(self, worker: Worker) -> None:
        self.worker = worker
        self.heard: list[str] = []

    def __call__(self, diagnostic: Any) -> None:
        # A server that ends may say so meanwhile.
        if diagnostic.severity_nonlocalized != "NOTICE":
            return
        text = diagnostic.message_primary
        self.heard.append(text)
        if text.split(".")[0] != str(self.worker.number):
            self.worker.ledger.complain("wrong_answers", f"worker {self.worker.number} hears {text}")


def be_told(worker: Worker, conn: Any) -> None:
    ear = Ear(worker)
    conn.add_notice_handler(ear)
    conn.execute(noticing(worker.next_tag()))
    worker.check([(text, worker.pid) for text in ear.heard])
    if worker.random.random() < 0.5:
        conn.remove_notice_handler(ear)


def listen(worker: Worker, conn: Any) -> None:
    channel = notify_itself(worker, conn)
    worker.check([(notify.payload, notify.pid) for notify in conn.notifies(timeout=1, stop_after=1)])
    conn.execute(f"unlisten {channel}")
    conn.commit()


def leave_notify_handler(worker: Worker, conn: Any) -> None:
    heard: list[Any] = []
    conn.add_notify_handler(heard.append)
    notify_itself(worker, conn)
    worker.check([(notify.payload, notify.pid) for notify in heard])


def leave_notifies(worker: Worker, conn: Any) -> None:
    """The generator has psycopg's lock of the connection."""
    notify_itself(worker, conn)
    notifies = conn.notifies(timeout=30)
    worker.kept.append(notifies)
    worker.check([(notify.payload, notify.pid) for notify in itertools.islice(notifies, 1)])


def leave_notification(worker: Worker, conn: Any) -> None:
    notify_itself(worker, conn)
    ask(worker, conn)


# ------------------------------------------------------------------------------------------------------------- COPY


def _copy_out(worker: Worker, conn: Any) -> Any:
    return conn.cursor().copy(f"copy ({ASK} from generate_series(1, 5000)) to stdout", (worker.next_tag(),))


def _read_one(worker: Worker, copy: Any) -> None:
    tag, pid = copy.read_row()
    worker.check([(tag, int(pid))])


def end_copy_out(worker: Worker, conn: Any) -> None:
    """psycopg has the server cancel it."""
    with contextlib.suppress(Unfinished), _copy_out(worker, conn) as copy:
        _read_one(worker, copy)
        raise Unfinished


def leave_copy_out(worker: Worker, conn: Any) -> None:
    block = _copy_out(worker, conn)
    worker.kept.append(block)
    _read_one(worker, block.__enter__())


def copy_in(worker: Worker, conn: Any) -> None:
    count = worker.random.randrange(1, 50)
    conn.execute("create temp table copied (tag text) on commit drop")
    with conn.cursor().copy("copy copied from stdin") as copy:
        tag = worker.next_tag()
        for _ in range(count):
            copy.write_row((tag,))
    worker.check(conn.execute("select tag, pg_backend_pid() from copied").fetchall(), count)
    conn.commit()


def end_copy_in(worker: Worker, conn: Any) -> None:
    with contextlib.suppress(Unfinished), conn.cursor().copy("copy leftover from stdin") as copy:
        copy.write_row((worker.next_tag(),))
        raise Unfinished


def leave_copy_in(worker: Worker, conn: Any) -> None:
    block = conn.cursor().copy("copy leftover from stdin")
    worker.kept.append(block)
    block.__enter__().write_row((worker.next_tag(),))


# -------------------------------------------------------------------------------------------------------- pipelines


def _send(worker: Worker, conn: Any) -> list[tuple[str, Any]]:
    """Some questions; what each is answered by."""
    tags = [worker.next_tag() for _ in range(worker.random.randrange(1, 20))]
    return [(tag, conn.execute(ASK, (tag,))) for tag in tags]


def _receive(worker: Worker, sent: list[tuple[str, Any]]) -> None:
    for worker.tag, cursor in sent:
        worker.check(cursor.fetchall())


def pipeline(worker: Worker, conn: Any) -> None:
    is_read_inside = worker.random.random() < 0.5
    with conn.pipeline():
        sent = _send(worker, conn)
        if is_read_inside:
            _receive(worker, sent)
    if not is_read_inside:
        _receive(worker, sent)


def fail_in_pipeline(worker: Worker, conn: Any) -> None:
    """What follows the failure is not executed."""
    tag = worker.next_tag()
    try:
        with conn.pipeline():
            _send(worker, conn)
            conn.execute(failing(tag))
            _send(worker, conn)
    except psycopg.Error as error:
        worker.tag = tag
        check_failure(worker, error)
    else:
        worker.check([])


def leave_pipeline(worker: Worker, conn: Any) -> None:
    block = conn.pipeline()
    worker.kept.append(block)
    block.__enter__()
    worker.kept.append(_send(worker, conn))


# ------------------------------------------------------------------------------------------------------------ others


def ask_prepared(worker: Worker, conn: Any) -> None:
    """More statements than the connection keeps prepared."""
    for _ in range(worker.random.randrange(1, 10)):
        query = f"{ASK}, {worker.random.randrange(150)}"
        worker.check(conn.execute(query, (worker.next_tag(),), prepare=True).fetchall())


def ask_in_blocks(worker: Worker, conn: Any) -> None:
    with conn.transaction():
        ask(worker, conn)
        with conn.transaction(force_rollback=True):
            ask(worker, conn)


def leave_block(worker: Worker, conn: Any) -> None:
    block = conn.transaction()
    worker.kept.append(block)
    block.__enter__()
    ask(worker, conn)


def leave_begun(worker: Worker, conn: Any) -> None:
    """A transaction of which psycopg was not told."""
    conn.rollback()
    conn.autocommit = True
    conn.execute("begin")
    ask(worker, conn)


def leave_settings(worker: Worker, conn: Any) -> None:
    conn.row_factory = rows.dict_row
    conn.cursor_factory = psycopg.ClientCursor
    conn.server_cursor_factory = Mine
    conn.prepare_threshold = 0
    conn.prepared_max = 3
    conn.adapters.register_loader("bool", Liar)
    conn.tenant = worker.number
    conn.rollback()
    conn.isolation_level = psycopg.IsolationLevel.SERIALIZABLE
    conn.read_only = True
    asked = conn.execute(ASK.replace(",", " as tag,") + " as pid, true as fact", (worker.next_tag(),)).fetchall()
    worker.check([(row["tag"], row["pid"]) for row in asked if row["fact"] == "a lie"])


def be_cancelled(worker: Worker, conn: Any) -> None:
    """From outside, while the query runs or after it."""
    timer = threading.Timer(worker.random.uniform(0, 0.03), _cancel, (conn,))
    timer.start()
    try:
        ask_slowly(worker, conn)
    except psycopg.errors.QueryCanceled:
        pass
    finally:
        timer.join()


def leave_cancel(worker: Worker, conn: Any) -> None:
    """On its way when the loan ends."""
    ask(worker, conn)
    canceller = threading.Thread(target=_cancel, args=(conn,))
    canceller.start()
    # Called later, it would be a mistake of the borrower's.
    while canceller.is_alive() and not conn._session.cancels:
        time.sleep(0)


def _cancel(conn: Any) -> None:
    """Not by cancel(), in either driver: it holds the interpreter's lock while it waits for the server. One that shuts
    down may itself wait for a login that another thread has begun: a minute, its authentication_timeout."""
    with contextlib.suppress(psycopg.Error):  # there may be no server just now
        conn.cancel_safe()


# ------------------------------------------------------------------------------------------------------------ loans


def left_on(conn: Any) -> list[str]:
    expected = {
        "row_factory": (conn.row_factory, rows.tuple_row),
        "cursor_factory": (conn.cursor_factory, psycopg.Cursor),
        "server_cursor_factory": (conn.server_cursor_factory, psycopg.ServerCursor),
        "prepare_threshold": (conn.prepare_threshold, 5),
        "prepared_max": (conn.prepared_max, 100),
        "isolation_level": (conn.isolation_level, None),
        "read_only": (conn.read_only, None),
        "a loader": (conn.adapters.get_loader(BOOL, pq.Format.TEXT) is Liar, False),
        "a tenant": (hasattr(conn, "tenant"), False),
        "a pipeline": (conn.pgconn.pipeline_status, pq.PipelineStatus.OFF),
        # psycopg shows these to nobody.
        "a Pipeline": (conn._pipeline, None),
        "notice handlers": (conn._notice_handlers, []),
        "notify handlers": (conn._notify_handlers, []),
        "notifications": (list(getattr(conn, "_notifies_backlog", None) or ()), []),
        "its lock": (conn.lock.locked(), False),
    }
    return [f"{name} {found!r}" for name, (found, wanted) in expected.items() if found != wanted]


DRIVER = Driver(
    psycopg,
    PsycopgPool,
    left_on,
    [
        (be_told, 40, False),
        (listen, 20, False),
        (leave_notify_handler, 10, True),
        (leave_notifies, 10, True),
        (leave_notification, 10, True),
        (end_copy_out, 5, True),
        (leave_copy_out, 5, True),
        (copy_in, 10, False),
        (end_copy_in, 10, True),
        (leave_copy_in, 5, True),
        (pipeline, 60, False),
        (fail_in_pipeline, 20, True),
        (leave_pipeline, 10, True),
        (ask_prepared, 60, False),
        (ask_in_blocks, 20, False),
        (leave_block, 10, True),
        (leave_begun, 10, True),
        (leave_settings, 40, True),
        (be_cancelled, 10, True),
        (leave_cancel, 10, True),
    ],
)
