"""What the tests of hosted pools share: a driver whose connections are socket pairs, and the two real drivers."""

from __future__ import annotations

import importlib
import socket

import pytest


class DriverError(Exception):
    """The scripted driver's own."""


class Socket:
    """A connection: one end here, the other is the server's."""

    def __init__(self):
        self.ours, self.server = socket.socketpair()
        self.is_closed = False

    def close(self):
        self.is_closed = True
        self.ours.close()
        self.server.close()

    def __del__(self):  # as a driver's own
        self.close()


class ScriptedDriver:
    """Connects at once, or raises what stands in `failures` next."""

    transient = DriverError
    usual_seconds = None
    connects_in_caller = False

    def __init__(self):
        self.failures = []
        self.opened = []
        self.closed = []
        self.lost = []
        self.seconds = []
        self.fed = []

    def connect(self, seconds):
        self.seconds.append(seconds)
        if self.failures:
            raise self.failures.pop(0)
        self.opened.append(Socket())
        return self.opened[-1]

    def feed(self, token, connection):
        self.fed.append(connection)

    def fileno(self, connection):
        return connection.ours.fileno()

    def close(self, connection):
        self.closed.append(connection)
        connection.close()

    def is_lost(self, connection):
        return connection in self.lost

    def sqlstate(self, error):
        return getattr(error, "sqlstate", None)

    def message(self, error):
        return str(error)

    def failure(self, error):
        return error


def driver_pool(driver):
    """The class of pools for psycopg2 or psycopg; skips where that is not installed."""
    pytest.importorskip(driver)
    name = {"psycopg2": "Psycopg2Pool", "psycopg": "PsycopgPool"}[driver]
    return getattr(importlib.import_module(f"dbpool._{driver}"), name)


def value(connection, sql):
    """The first value of the first row; None if there is no row."""
    cursor = connection.cursor()
    cursor.execute(sql)
    row = cursor.fetchone() if cursor.description else None
    cursor.close()
    return row and row[0]


def pid(connection):
    return connection.info.backend_pid
