"""fork() beneath Python: with loans out, with other threads inside the library, and in families."""

from __future__ import annotations

import os
from typing import Any

import kinds
from kinds import Load, ask, fill, use


def test_ten_children_at_once_and_their_parent(kind: Any, pool: Any, start_child: Any) -> None:
    parents = fill(kind, pool)

    def work() -> None:
        assert not use(kind, pool, 5) & parents

    with Load(kind, pool):
        for _ in range(10):
            start_child(work)


def test_children_that_are_forked_in_the_middle_of_loans(kind: Any, pool: Any, start_child: Any) -> None:
    """An open transaction, a table that only its session can see: all is as it was after the children's ends."""
    conns = [kind.get(pool) for _ in range(kinds.SIZE)]
    for i, conn in enumerate(conns):
        kind.value(conn, f"create temporary table mine as select {i} as number; begin; select 1")

    def work() -> None:
        for _ in range(3):
            assert not fill(kind, pool) & {kind.pid(conn) for conn in conns}

    for _ in range(5):
        os.waitpid(os.fork() or _leave(work), 0)
    start_child(work)
    for i, conn in enumerate(conns):
        assert kind.value(conn, "select number from mine") == str(i)
        kind.put(pool, conn)


def _leave(work: Any) -> int:
    """In a child: what follows is not for it."""
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def test_five_generations(kind: Any, pool: Any, start_child: Any) -> None:
    """Each has a loan of its own while the next one works."""

    def live(generation: int, known: set[int]) -> None:
        conn = kind.get(pool)
        mine = ask(kind, conn, f"generation.{generation}")
        assert mine not in known
        if generation < 5:
            child = os.fork()
            if child == 0:
                _leave(lambda: live(generation + 1, known | {mine}))
            assert os.waitpid(child, 0)[1] == 0
        assert ask(kind, conn, f"again.{generation}") == mine
        kind.put(pool, conn)
        assert not use(kind, pool) & known

    parents = fill(kind, pool)
    with Load(kind, pool):
        start_child(lambda: live(1, parents))


def test_a_child_that_closes_the_pool_leaves_the_family_alone(kind: Any, pool: Any, start_child: Any) -> None:
    def work() -> None:
        use(kind, pool)
        pool.close()

    with Load(kind, pool):
        for _ in range(10):
            start_child(work)


def test_a_pool_that_only_a_child_uses(kind: Any, start_child: Any) -> None:
    """As in a preforking server that makes its pools early."""
    made = kind.make()

    def work() -> None:
        use(kind, made, 10)

    for _ in range(8):
        start_child(work)
    assert made.stats().opened == 0
    made.close()


def test_a_child_outlives_its_parent(kind: Any, pool: Any, start_child: Any) -> None:
    """A daemon: it forks twice, and the one between ends at once."""
    told, tell = os.pipe()

    def daemon() -> None:
        os.setsid()
        text = ",".join(map(str, use(kind, pool)))
        os.write(tell, text.encode())

    def between() -> None:
        if os.fork() == 0:
            _leave(daemon)

    start_child(between)
    os.close(tell)
    with os.fdopen(told) as reader:
        pids = set(map(int, reader.read().split(",")))
    assert not pids & fill(kind, pool)
