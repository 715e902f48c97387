"""What a borrower does that is psycopg2's own."""

from __future__ import annotations

import contextlib
from typing import Any

import psycopg2
from dbpool._psycopg2 import Psycopg2Pool
from hosted_jobs import Driver, Unfinished, Worker, noticing, notify_itself


def be_told(worker: Worker, conn: Any) -> None:
    with conn.cursor() as cursor:
        cursor.execute(noticing(worker.next_tag()))
    # A server that ends may say so meanwhile.
    notices = [text.split() for text in conn.notices if text.startswith("NOTICE:")]
    worker.check([(words[-1], worker.pid) for words in notices])
    del conn.notices[:]


def listen(worker: Worker, conn: Any) -> None:
    channel = notify_itself(worker, conn)
    with conn.cursor() as cursor:
        cursor.execute(f"unlisten {channel}")
    conn.poll()
    worker.check([(notify.payload, notify.pid) for notify in conn.notifies])
    del conn.notifies[:]


class HalfReader:
    def __init__(self, worker: Worker) -> None:
        self.worker = worker

    def write(self, data: bytes) -> None:
        tag, pid = bytes(data).decode().split("\n")[0].split("\t")
        self.worker.check([(tag, int(pid))])
        raise Unfinished


def leave_copy(worker: Worker, conn: Any) -> None:
    query = f"copy (select '{worker.next_tag()}', pg_backend_pid() from generate_series(1, 5000)) to stdout"
    with contextlib.suppress(Unfinished), conn.cursor() as cursor:
        cursor.copy_expert(query, HalfReader(worker))


def left_on(conn: Any) -> list[str]:
    # The last words of a server that has just ended the session may be there.
    notices = [text for text in conn.notices if text.startswith("NOTICE:")]
    return [repr(left) for left in (notices, conn.notifies) if left]


DRIVER = Driver(
    psycopg2,
    Psycopg2Pool,
    left_on,
    [
        (be_told, 40, False),
        (listen, 20, False),
        (leave_copy, 5, True),
    ],
)
