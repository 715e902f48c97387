"""In a process with the rights of another user (set-user-ID, file capabilities) the environment counts for nothing."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

PYTHON = Path("/usr/bin/python3")
NOBODY = 65534

# Not the package: with such rights no path of the environment is searched.
PROGRAM = """
import ctypes, sys
library = ctypes.CDLL(sys.argv[1])
library.pool_errmsg.restype = ctypes.c_char_p
library.pool_create.restype = ctypes.c_void_p
library.pool_create.argtypes = [ctypes.c_char_p, ctypes.c_void_p]
pool = library.pool_create(sys.argv[2].encode(), None)
print("made" if pool else library.pool_errmsg().decode())
"""


@pytest.fixture(scope="module")
def folder():
    """That others may enter."""
    with tempfile.TemporaryDirectory() as name:
        path = Path(name)
        path.chmod(0o755)
        yield path


@pytest.fixture(scope="module")
def program(folder):
    """Runs `pool_create(conninfo)` in such a process: what it says."""
    if os.geteuid() != 0:
        pytest.skip("only root can make a set-user-ID program")
    if os.statvfs(folder).f_flag & os.ST_NOSUID:
        pytest.skip(f"{folder}: set-user-ID programs are switched off there")
    if not PYTHON.exists():
        pytest.skip("no Python of the system, which needs no library from elsewhere")
    library = folder / "libdbpool.so.0"
    shutil.copy(os.environ["DBPOOL_LIBRARY"], library)
    python = folder / "python3"
    shutil.copy(PYTHON, python)
    os.chown(python, NOBODY, NOBODY)
    python.chmod(0o4755)

    def run(conninfo, **environment):
        command = [str(python), "-I", "-c", PROGRAM, str(library), conninfo]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=20)
        assert (done.returncode, done.stderr) == (0, "")
        return done.stdout.strip()

    return run


def test_a_variable_of_libpq_is_refused_by_its_name(program):
    for name in ("PGHOST", "PGPASSFILE", "PGSERVICEFILE", "PGTZ"):
        said = program("host=127.0.0.1", **{name: "canary-value"})
        assert f"the environment has {name}," in said
        assert "canary-value" not in said


def test_a_service_is_refused(program):
    assert "service is not to be used" in program("service=mine", HOME="/tmp")


def test_a_conninfo_alone_is_enough(program):
    assert program("host=127.0.0.1 user=u dbname=d", HOME="/tmp", PATH="/usr/bin") == "made"
