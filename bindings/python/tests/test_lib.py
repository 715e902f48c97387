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
    assert dbpool.__version__ == ".".join(str(defined[f"VERSION_{part}"]) for part in ("MAJOR", "MINOR", "PATCH"))
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


def import_error(**environment):
    """What `import dbpool` says that fails."""
    program = "try: import dbpool\nexcept ImportError as error: print(error)"
    environment["PYTHONPATH"] = str(PACKAGE)
    return subprocess.run(
        [sys.executable, "-c", program], check=True, env=environment, capture_output=True, text=True
    ).stdout


@pytest.mark.parametrize(
    ("library", "mention"), [("/nowhere/x.so", "DBPOOL_LIBRARY"), ("libpq.so.5", "not libdbpool: it has no")]
)
def test_a_library_that_is_not_ours_is_an_import_error(library, mention):
    assert mention in import_error(DBPOOL_LIBRARY=library)


LIBRARY = """
#include <dbpool.h>
const char *pool_version(void) { return "%s"; }
"""


@pytest.mark.skipif(shutil.which("gcc") is None, reason="no gcc")
@pytest.mark.parametrize("version", ["0.0.9", "1.1.0", "7", "0.x", ""])
def test_a_library_whose_version_does_not_fit_is_an_import_error(tmp_path, version):
    (tmp_path / "other.c").write_text(LIBRARY % version)
    library = tmp_path / "other.so"
    subprocess.run(
        ["gcc", "-shared", "-fPIC", "-I", str(PROJECT / "include"), str(tmp_path / "other.c"), "-o", str(library)],
        check=True,
    )
    said = import_error(DBPOOL_LIBRARY=str(library))
    assert f"{library} is libdbpool {version}, which does not fit the Python package, {dbpool.__version__}" in said
    assert "0.1 or a later 0.x. Install both in the same version, or unset DBPOOL_LIBRARY" in said


def test_only_two_files_import_ctypes():
    for file in (PACKAGE / "dbpool").glob("**/*.py"):
        if file.name not in ("_lib.py", "_libpq.py"):
            assert not re.search(r"^\s*(import|from) ctypes", file.read_text(), re.MULTILINE), file.name
