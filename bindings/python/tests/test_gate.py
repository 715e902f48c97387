"""A fork waits for threads of ours that are inside a driver, and they for it."""

from __future__ import annotations

import os
import threading
import time

import pytest
from support import Thread, eventually

from dbpool import _gate


@pytest.fixture(autouse=True)
def ample_time(monkeypatch):
    """What waits here waits for an event, however slow the machine."""
    monkeypatch.setattr(_gate, "SECONDS", 30)


def fork_once():
    child = os.fork()
    if child == 0:
        is_clear = not (_gate._is_closed() or _gate._inside or _gate._ending or _gate._overdue)
        os._exit(0 if is_clear else 1)
    assert os.waitpid(child, 0)[1] == 0


class Visitor:
    """A thread that goes inside, and leaves when it may."""

    def __init__(self, may_leave=True):
        self.entered, self.may_leave, self.has_left = threading.Event(), threading.Event(), threading.Event()
        if may_leave:
            self.may_leave.set()
        self.thread = Thread(self.visit)

    def visit(self):
        with _gate.inside(), _gate.inside():
            self.entered.set()
            assert self.may_leave.wait(30)
            self.has_left.set()


def check_empty():
    assert not _gate._inside
    assert not _gate._overdue


def test_a_fork_waits_for_who_is_inside():
    visitor = Visitor(may_leave=False)
    assert visitor.entered.wait(10)
    order = []
    forker = Thread(lambda: (fork_once(), order.append(visitor.has_left.is_set())))
    assert eventually(_gate._is_closed)
    visitor.may_leave.set()
    visitor.thread.finish()
    forker.finish()
    assert order == [True]
    fork_once()
    assert not _gate._is_closed()
    check_empty()


def test_a_fork_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(_gate, "SECONDS", 0.2)
    visitor = Visitor(may_leave=False)
    assert visitor.entered.wait(10)
    fork_once()
    assert not visitor.has_left.is_set()
    visitor.may_leave.set()
    visitor.thread.finish()


def test_who_forks_inside_does_not_wait_for_himself():
    before = time.monotonic()
    with _gate.inside():
        fork_once()
    assert time.monotonic() - before < 20
    check_empty()


def test_nobody_goes_in_during_a_fork():
    _gate._before_fork()
    _gate._closed_until += 30
    visitor = Visitor()
    assert not visitor.entered.wait(0.2)
    assert eventually(lambda: _gate._overdue)
    _gate._after_fork_in_parent()
    visitor.thread.finish()
    check_empty()


def test_the_door_opens_by_itself():
    """Where a signal handler has cut short what is done after a fork."""
    _gate._before_fork()
    Visitor().thread.finish()
    _gate._closed_until = 0.0
    check_empty()


def test_a_signal_handler_that_raises_leaves_nobody_behind():
    _gate._before_fork()
    _gate._closed_until += 30

    def nap():
        raise KeyboardInterrupt

    original, _gate._nap = _gate._nap, nap
    try:
        with pytest.raises(KeyboardInterrupt), _gate.inside():
            pass
    finally:
        _gate._nap = original
        _gate._after_fork_in_parent()
    check_empty()


def test_forks_without_a_gap_let_threads_in():
    over = threading.Event()

    def fork_on():
        while not over.is_set():
            fork_once()

    forkers = [Thread(fork_on) for _ in range(3)]
    for visitor in [Visitor() for _ in range(8)]:
        visitor.thread.finish()
    over.set()
    for forker in forkers:
        forker.finish()
    check_empty()


def test_a_fork_waits_for_threads_that_end():
    """OpenSSL cleans up behind a thread after its last line of Python."""
    Thread(_gate.end_thread).finish()
    fork_once()
    assert not _gate._ending
    for _ in range(40):
        Thread(_gate.end_thread).finish()
    assert len(_gate._ending) < 40
    fork_once()
    assert not _gate._ending


def test_the_number_of_a_thread_that_ended_may_be_anothers():
    _gate._ending[_gate._own_number()] = time.monotonic() - 2 * _gate._END_SECONDS
    fork_once()
    assert not _gate._ending
