from __future__ import annotations

import pickle

import pytest

import dbpool
from dbpool import errors


def test_each_class_has_its_code():
    for code, kind in errors.BY_CODE.items():
        error = errors.from_code(code, "why")
        assert (type(error), error.code, str(error)) == (kind, code, "why")
        assert isinstance(error, dbpool.Error)


def test_an_unknown_code_is_kept():
    error = errors.from_code(-999, "why")
    assert (type(error), error.code) == (dbpool.Error, -999)


def test_python_finds_its_own_classes():
    assert issubclass(dbpool.InvalidArgument, ValueError)
    assert issubclass(dbpool.OutOfMemory, MemoryError)


@pytest.mark.parametrize("code", [-1, -4, -999])
def test_errors_travel_between_processes(code):
    error = pickle.loads(pickle.dumps(errors.from_code(code, "why")))
    assert (error.code, str(error)) == (code, "why")
