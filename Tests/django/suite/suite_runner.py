"""The runner of Django's test-suite that writes down, as JSON in DBPOOL_SUITE_RECORD, what became of each test, which
interpreter, Django, driver and libpq were at work, and how many checkouts had a session that was there before.
"""

from __future__ import annotations

import json
import os
import platform
import tempfile
import traceback
import unittest
import weakref

import django
from django.db import connections
from django.test.runner import DiscoverRunner, ParallelTestSuite, RemoteTestResult, RemoteTestRunner
from django.test.utils import iter_test_cases

# What a test that got several verdicts counts as: the first of these.
VERDICTS = ("failed", "passed", "expected failure", "skipped")


def driver() -> str:
    from django.db.backends.postgresql.base import Database

    libpq = Database.pq.version() if hasattr(Database, "pq") else Database.extensions.libpq_version()
    version = Database.__version__.split()[0]
    return f"{Database.__name__} {version}, libpq {libpq // 10000}.{libpq % 10000}"


class Checkouts:
    """A byte for each checkout of this process and its children, who share the file: r if reused, n if new."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()
        self.seen: weakref.WeakSet[object] = weakref.WeakSet()
        for engine in {type(connection) for connection in connections.all()}:
            self.watch(engine)

    def watch(self, engine: type) -> None:
        original = engine.get_new_connection

        def get_new_connection(wrapper, *args, **kwargs):
            connection = original(wrapper, *args, **kwargs)
            os.write(self.file.fileno(), b"r" if connection in self.seen else b"n")
            self.seen.add(connection)
            return connection

        engine.get_new_connection = get_new_connection

    def count(self) -> dict[str, int]:
        self.file.seek(0)
        marks = self.file.read()
        return {"all": len(marks), "reused": marks.count(b"r")}


class RecordingResult(unittest.TextTestResult):
    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.verdicts: dict[str, tuple[str, str]] = {}

    def note(self, test, verdict: str, detail: str = "") -> None:
        name = getattr(test, "test_case", test).id()
        before = self.verdicts.get(name)
        if before is None or VERDICTS.index(verdict) < VERDICTS.index(before[0]):
            self.verdicts[name] = (verdict, detail)

    def note_error(self, test, error) -> None:
        last_line = str(error[1]).strip().splitlines()[-1:] or [error[0].__name__]
        self.note(test, "failed", last_line[0][:500])

    def addSuccess(self, test) -> None:
        super().addSuccess(test)
        self.note(test, "passed")

    def addError(self, test, err) -> None:
        super().addError(test, err)
        self.note_error(test, err)

    def addFailure(self, test, err) -> None:
        super().addFailure(test, err)
        self.note_error(test, err)

    def addSubTest(self, test, subtest, err) -> None:
        super().addSubTest(test, subtest, err)
        if err is not None:
            self.note_error(test, err)

    def addSkip(self, test, reason) -> None:
        super().addSkip(test, reason)
        self.note(test, "skipped", reason)

    def addExpectedFailure(self, test, err) -> None:
        super().addExpectedFailure(test, err)
        self.note(test, "expected failure")

    def addUnexpectedSuccess(self, test) -> None:
        super().addUnexpectedSuccess(test)
        self.note(test, "failed", "unexpected success")


class TestFailure(Exception):
    """The text of an exception in a worker: the exception itself may not survive the way to the parent."""


def as_text(error):
    return TestFailure, TestFailure("".join(traceback.format_exception(*error))), None


class WorkerResult(RemoteTestResult):
    def addError(self, test, err) -> None:
        super().addError(test, as_text(err))

    def addFailure(self, test, err) -> None:
        super().addFailure(test, as_text(err))

    def addExpectedFailure(self, test, err) -> None:
        super().addExpectedFailure(test, as_text(err))

    def addSubTest(self, test, subtest, err) -> None:
        if err is not None:
            self.addFailure(test, err)


class WorkerRunner(RemoteTestRunner):
    resultclass = WorkerResult


class Workers(ParallelTestSuite):
    runner_class = WorkerRunner


class RecordingRunner(DiscoverRunner):
    parallel_test_suite = Workers

    def __init__(self, *args, **kwargs) -> None:
        super().__init__(*args, **kwargs)
        self.checkouts = Checkouts()

    def get_resultclass(self):
        return super().get_resultclass() or RecordingResult

    def run_suite(self, suite, **kwargs):
        collected = [test.id() for test in iter_test_cases(suite)]
        self.result = super().run_suite(suite, **kwargs)
        for name in collected:
            self.result.verdicts.setdefault(name, ("skipped", "was not run"))
        return self.result

    def run_tests(self, *args, **kwargs) -> int:
        failures = super().run_tests(*args, **kwargs)
        record = {
            "python": platform.python_version(),
            "django": django.get_version(),
            "driver": driver(),
            "checkouts": self.checkouts.count(),
            "tests": self.result.verdicts,
        }
        with open(os.environ["DBPOOL_SUITE_RECORD"], "w", encoding="utf-8") as file:
            json.dump(record, file)
        return failures
