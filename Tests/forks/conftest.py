"""Pools of each kind, whose owner must have the same backends before and after a test."""

from __future__ import annotations

import contextlib
import os
import signal
import traceback
from collections.abc import Iterator
from typing import Any, Callable

import kinds
import pytest

CHILD_SECONDS = 30


@pytest.fixture(params=list(kinds.KINDS))
def kind(request: pytest.FixtureRequest) -> Any:
    return kinds.KINDS[request.param]


@pytest.fixture
def pool(kind: Any) -> Iterator[Any]:
    made = kind.make(min_size=kinds.SIZE)
    backends = kinds.fill(kind, made)
    yield made
    if not made.closed:
        assert kinds.fill(kind, made) == backends
        assert kinds.loans_lost(made) == 0
        made.close()


@pytest.fixture
def start_child() -> Iterator[Callable[[Callable[[], object]], int]]:
    """Forks; the child does that and ends as a program does, by exit(). At the end of the test all must have ended
    well."""
    children: list[int] = []

    def start(work: Callable[[], object]) -> int:
        child = os.fork()
        if child == 0:
            _live(work)
        children.append(child)
        return child

    yield start
    ends = [os.waitpid(child, 0)[1] for child in children]
    assert ends == [0] * len(ends)


def _live(work: Callable[[], object]) -> None:
    """Without returning into pytest. The C library's exit(), with all its handlers; Python's own end is tested by
    programs."""
    code = 1
    with contextlib.suppress(BaseException):
        signal.alarm(CHILD_SECONDS)
        try:
            work()
            code = 0
        except BaseException:
            traceback.print_exc()
    _exit_of_c(code)


def _exit_of_c(code: int) -> None:
    import ctypes

    ctypes.CDLL(None).exit(code)
