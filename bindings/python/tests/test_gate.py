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
        is_clear = not (_gate._forks or _gate._inside or _gate._ending or _gate._overdue)
        os._exit(0 if is_clear else 1)
    assert os.waitpid(child, 0)[1] == 0


def stay_inside(entered, may_leave, course):
    with _gate.inside():
        entered.set()
        assert may_leave.wait(30)
        course.append("left")


def test_a_fork_waits_for_who_is_inside():
    entered, may_leave, course = threading.Event(), threading.Event(), []
    thread = Thread(stay_inside, entered, may_leave, course)
    assert entered.wait(10)
    forker = Thread(lambda: (fork_once(), course.append("forked")))
    assert eventually(lambda: _gate._forks)
    assert not course
    may_leave.set()
    thread.finish()
    forker.finish()
    assert course == ["left", "forked"]
    fork_once()
    assert not _gate._forks
    assert not _gate._inside


def test_a_fork_does_not_wait_for_ever(monkeypatch):
    monkeypatch.setattr(_gate, "SECONDS", 0.2)
    entered, may_leave, course = threading.Event(), threading.Event(), []
    thread = Thread(stay_inside, entered, may_leave, course)
    assert entered.wait(10)
    fork_once()
    assert not course
    may_leave.set()
    thread.finish()


def test_who_forks_inside_does_not_wait_for_himself():
    before = time.monotonic()
    with _gate.inside():
        fork_once()
    assert time.monotonic() - before < 20
    assert not _gate._inside


def test_nobody_goes_in_during_a_fork():
    entered, may_leave, course = threading.Event(), threading.Event(), []
    may_leave.set()
    _gate._before_fork()
    thread = Thread(stay_inside, entered, may_leave, course)
    assert not entered.wait(0.2)
    assert eventually(lambda: _gate._overdue)
    _gate._after_fork_in_parent()
    thread.finish()
    assert course == ["left"]
    assert not _gate._inside
    assert not _gate._overdue


def test_forks_without_a_gap_let_threads_in():
    over = threading.Event()

    def fork_on():
        while not over.is_set():
            fork_once()

    forkers = [Thread(fork_on) for _ in range(3)]
    entered, may_leave, course = threading.Event(), threading.Event(), []
    may_leave.set()
    threads = [Thread(stay_inside, entered, may_leave, course) for _ in range(8)]
    for thread in threads:
        thread.finish()
    over.set()
    for forker in forkers:
        forker.finish()
    assert course == ["left"] * 8


def test_a_fork_waits_for_threads_that_end():
    """OpenSSL cleans up behind a thread after its last line of Python."""
    thread = Thread(_gate.end_thread)
    thread.finish()
    fork_once()
    assert not _gate._ending
    for _ in range(40):
        Thread(_gate.end_thread).finish()
    assert len(_gate._ending) < 40
    fork_once()
    assert not _gate._ending
