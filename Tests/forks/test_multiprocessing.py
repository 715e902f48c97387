"""multiprocessing and concurrent.futures, in each way of starting; the programs' ends are those of the interpreter."""

from __future__ import annotations

import multiprocessing
import os
import textwrap
from typing import Any

import kinds
import pytest
from kinds import KINDS, Load, fill, use
from support import run_program

# What the workers find: by fork, the pool of their parent; otherwise one of their own.
_pools: dict[str, Any] = {}


def _work(name: str) -> tuple[int, set[int]]:
    kind = KINDS[name]
    if name not in _pools:
        _pools[name] = kind.make()
    return os.getpid(), use(kind, _pools[name])


@pytest.mark.parametrize("method", ["fork", "spawn", "forkserver"])
def test_a_pool_of_processes(kind: Any, pool: Any, method: str) -> None:
    _pools[kind.name] = pool
    parents = fill(kind, pool)
    context = multiprocessing.get_context(method)
    with Load(kind, pool, 2), context.Pool(2) as workers:
        found = workers.map(_work, [kind.name] * 16, chunksize=1)
        workers.close()
        workers.join()
    del _pools[kind.name]
    by_process: dict[int, set[int]] = {}
    for process, pids in found:
        assert not pids & parents
        by_process.setdefault(process, set()).update(pids)
    assert os.getpid() not in by_process
    all_pids = [pid for pids in by_process.values() for pid in pids]
    assert len(all_pids) == len(set(all_pids)), "two processes had the same backend"


def test_processes_that_end_by_themselves(kind: Any, pool: Any) -> None:
    context = multiprocessing.get_context("fork")

    def work() -> None:
        use(kind, pool)

    with Load(kind, pool):
        for _ in range(2):
            workers = [context.Process(target=work) for _ in range(4)]
            for worker in workers:
                worker.start()
            for worker in workers:
                worker.join(kinds.SECONDS)
            assert [worker.exitcode for worker in workers] == [0] * 4


PROGRAM = """
    import multiprocessing, os, sys, threading, time, warnings
    from concurrent.futures import ProcessPoolExecutor
    import kinds

    warnings.filterwarnings("ignore", "This process", DeprecationWarning)  # fork with threads: that is the point
    kind = kinds.KINDS["{name}"]

    def work(number):
        return os.getpid(), kinds.use(kind, pool)

    pool = kind.make(min_size=kinds.SIZE)
    if __name__ == "__main__":
        backends = kinds.fill(kind, pool)
        lent = kind.get(pool)
        with kinds.Load(kind, pool):
            with ProcessPoolExecutor(3, mp_context=multiprocessing.get_context("fork")) as executor:
                found = list(executor.map(work, range(30)))
        assert not backends & set().union(*(pids for _, pids in found))
        assert kinds.ask(kind, lent, "parent") in backends
        # The rest is the interpreter's end, with a loan out and the pool open.
        print("END", flush=True)
"""


def test_an_executor_of_processes_and_the_end_of_the_interpreter(kind: Any) -> None:
    assert run_program(textwrap.dedent(PROGRAM.format(name=kind.name)), 60).endswith("END\n")
