"""The declarations in Python are those of dbpool.h."""

from __future__ import annotations

import ctypes
import inspect
import re
import shutil
import subprocess
import sys

import pytest
from conftest import PACKAGE, PROJECT

import dbpool
from dbpool import _lib, errors

HEADER = (PROJECT / "include" / "dbpool.h").read_text()
CODE = re.sub(r"/\*.*?\*/", "", HEADER, flags=re.DOTALL)


def test_every_function_is_declared_in_header_order():
    in_header = re.findall(r"^\w[\w ]*\**\s*\*?(pool_\w+)\(", CODE, re.MULTILINE)
    in_python = re.findall(r'_declare\(\s*_\w+, "(pool_\w+)"', inspect.getsource(_lib))
    assert len(in_header) >= 19
    assert in_python == in_header


def test_number_of_arguments_is_that_of_the_header():
    for name, arguments in re.findall(r"^\w[\w ]*\**\s*\*?pool_(\w+)\(([^)]*)\);", CODE, re.MULTILINE):
        expected = 0 if arguments == "void" else arguments.count(",") + 1
        assert len(getattr(_lib, name).argtypes) == expected, name


def test_constants_are_those_of_the_header():
    defined = {name: int(value) for name, value in re.findall(r"#define POOL_(\w+) \(?(-?\d+)\)?\s", HEADER)}
    for table, prefix in ((_lib.CHECKS, "CHECK_"), (_lib.RESETS, "RESET_"), (_lib.QUEUE_MODES, "")):
        for name, value in table.items():
            assert defined[prefix + name.upper()] == value
    assert defined["PENDING"] == _lib.PENDING
    assert (defined["TIMEOUT_DEFAULT"], defined["TIMEOUT_INFINITE"]) == (_lib.TIMEOUT_DEFAULT, _lib.TIMEOUT_INFINITE)
    assert (defined["VERSION_MAJOR"], defined["VERSION_MINOR"]) == _lib.HEADER_VERSION
    codes = {value for name, value in defined.items() if name.startswith("E") and value < 0}
    assert codes == set(errors.BY_CODE)


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize(("kind", "struct"), [("pool_options_t", _lib.Options), ("pool_stats_t", _lib.Stats)])
def test_struct_layout_is_that_of_c(tmp_path, kind, struct):
    names = [name for name, _ in struct._fields_]
    lines = [f'printf("{name} %zu %zu\\n", offsetof({kind}, {name}), sizeof(x.{name}));' for name in names]
    source = f"#include <dbpool.h>\n#include <stdio.h>\nint main(void) {{ {kind} x; {' '.join(lines)} }}"
    (tmp_path / "layout.c").write_text(f'{source[:-1]} printf("size %zu\\n", sizeof x); }}')
    subprocess.run(
        ["gcc", "-I", str(PROJECT / "include"), str(tmp_path / "layout.c"), "-o", str(tmp_path / "layout")], check=True
    )
    printed = subprocess.run([str(tmp_path / "layout")], check=True, capture_output=True, text=True).stdout.split("\n")
    fields = [(getattr(struct, name).offset, getattr(struct, name).size) for name in names]
    expected = [f"{name} {offset} {size}" for name, (offset, size) in zip(names, fields)]
    assert printed == [*expected, f"size {ctypes.sizeof(struct)}", ""]


def test_every_statistic_has_its_name():
    assert dbpool.PoolStats._fields == tuple(name for name, _ in _lib.Stats._fields_)[1:]


def test_defaults_are_those_of_the_library(monkeypatch):
    made = {}

    def create(_conninfo, options):
        made.update({name: getattr(options, name) for name, _ in options._fields_})
        raise dbpool.Canceled

    monkeypatch.setattr(_lib, "create", create)
    with pytest.raises(dbpool.Canceled):
        dbpool.Pool()
    defaults = _lib.new_options()
    for name, value in made.items():
        if name not in ("log", "configure", "conninfo_provider", "context_free"):
            assert value == getattr(defaults, name), name


def test_the_library_is_the_one_that_was_named():
    assert dbpool.library_version.split(".")[0] == "0"
    assert dbpool.library_path == _lib._candidates()[0]


@pytest.mark.parametrize(
    ("library", "mention"), [("/nowhere/x.so", "DBPOOL_LIBRARY"), ("libpq.so.5", "pool_options_init")]
)
def test_a_library_that_is_not_ours_is_an_import_error(library, mention):
    program = "try: import dbpool\nexcept ImportError as error: print(error)"
    environment = {"DBPOOL_LIBRARY": library, "PYTHONPATH": str(PACKAGE)}
    run = subprocess.run([sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True)
    assert mention in run.stdout


def test_only_lib_imports_ctypes():
    for file in (PACKAGE / "dbpool").glob("**/*.py"):
        if file.name != "_lib.py":
            assert not re.search(r"^\s*(import|from) ctypes", file.read_text(), re.MULTILINE), file.name
