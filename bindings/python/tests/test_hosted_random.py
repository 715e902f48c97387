"""HostedPool against a model: random calls, one after the other."""

from __future__ import annotations

import contextlib

from drivers import DriverError, ScriptedDriver
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import Bundle, RuleBasedStateMachine, consumes, invariant, rule
from support import eventually

import dbpool
from dbpool._hosted import HostedPool

MAX_SIZE = 3


class Machine(RuleBasedStateMachine):
    """Each loan ends once, whatever else happens, and no object is lent to two or left open when it ended badly."""

    loans = Bundle("loans")
    ended = Bundle("ended")

    def __init__(self):
        super().__init__()
        self.driver = ScriptedDriver()
        self.pool = HostedPool(self.driver, max_size=MAX_SIZE, acquire_timeout=0)
        self.lent = {}

    @rule(target=loans, fault=st.sampled_from([None, None, None, DriverError(), KeyboardInterrupt()]))
    def acquire(self, fault):
        self.driver.failures = [fault] if fault else []
        try:
            token, connection = self.pool.acquire()
        except (dbpool.PoolTimeout, dbpool.ConnectError, dbpool.PoolPaused, DriverError, KeyboardInterrupt):
            return None
        assert id(connection) not in self.lent
        assert not connection.is_closed
        assert connection.server.fileno() >= 0
        self.lent[id(connection)] = connection
        return token, connection

    @rule(target=ended, loan=consumes(loans))
    def release(self, loan):
        if loan:
            self.pool.release(*loan)
            del self.lent[id(loan[1])]
        return loan

    @rule(target=ended, loan=consumes(loans))
    def discard(self, loan):
        if loan:
            self.pool.discard(*loan)
            del self.lent[id(loan[1])]
            assert loan[1].is_closed
        return loan

    @rule(loan=ended)
    def give_back_twice(self, loan):
        for give_back in (self.pool.release, self.pool.discard) if loan else ():
            with contextlib.suppress(dbpool.NotLeased):
                give_back(*loan)
                raise AssertionError("a second end of a loan was accepted")

    @rule(size=st.integers(1, MAX_SIZE))
    def resize(self, size):
        self.pool.resize(0, size)

    @rule()
    def reconnect(self):
        self.pool.reconnect()

    @rule()
    def pause_and_resume(self):
        self.pool.pause()
        self.pool.resume()

    @rule(number=st.integers(0, 5))
    def server_ends_a_session(self, number):
        # One that has ended before may not be closed yet.
        open_ones = [one for one in self.driver.opened if not one.is_closed and one.server.fileno() >= 0]
        idle = [one for one in open_ones if id(one) not in self.lent]
        if idle:
            lost = self.pool.stats().lost
            idle[number % len(idle)].server.close()
            # The watch tells within milliseconds.
            assert eventually(lambda: self.pool.stats().lost > lost)

    @invariant()
    def counts_agree(self):
        now = self.pool.stats()
        assert now.in_use == len(self.lent)
        assert now.internal_errors == 0
        assert now.total <= MAX_SIZE

    @invariant()
    def lent_objects_are_open(self):
        assert not any(connection.is_closed for connection in self.lent.values())

    def teardown(self):
        self.pool.close()
        assert {id(one) for one in self.driver.opened if not one.is_closed} == set(self.lent)


TestHostedPool = Machine.TestCase
TestHostedPool.settings = settings(max_examples=40, stateful_step_count=30, deadline=None)
