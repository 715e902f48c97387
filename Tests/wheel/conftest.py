"""Fresh virtual environments into which the wheel of build/wheel/dist is installed by its path."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

PROJECT = Path(__file__).resolve().parents[2]
BUILD = Path(os.environ["BUILD"])
DIST = BUILD / "wheel" / "dist"
# Of the project's own tree, where the installed package and its library must not come from.
FOREIGN = ("LD_LIBRARY_PATH", "DBPOOL_LIBRARY", "PYTHONPATH", "MAKEFLAGS", "MFLAGS")


def only(pattern):
    (found,) = DIST.glob(pattern)
    return found


WHEEL, SDIST = only("*.whl"), only("*.tar.gz")


class Program:
    """What a program that has ended has said."""

    def __init__(self, *command, **environment):
        kept = {name: value for name, value in os.environ.items() if name not in FOREIGN}
        done = subprocess.run(
            [str(part) for part in command],
            capture_output=True,
            text=True,
            timeout=120,
            cwd="/",
            env={**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1", **environment},
            check=False,
        )
        self.code, self.output, self.errors = done.returncode, done.stdout, done.stderr

    def succeeded(self):
        """Its output; it must have written no error."""
        assert (self.code, self.errors) == (0, ""), f"{self.code}\n{self.output}\n{self.errors}"
        return self.output


class Environment:
    """A fresh one, with its own pip, or managed by ours, which saves ten seconds."""

    def __init__(self, name, python, own_pip):
        self.folder = BUILD / "wheel" / "environments" / name
        shutil.rmtree(self.folder, ignore_errors=True)
        made = Program(python, "-m", "venv", *([] if own_pip else ["--without-pip"]), self.folder)
        assert made.code == 0, made.errors
        own = self.folder / "bin" / "python"
        self.pip = [own, "-m", "pip"] if own_pip else [sys.executable, "-m", "pip", f"--python={own}"]

    def install(self, *what):
        done = Program(*self.pip, "--quiet", "install", *what)
        assert done.code == 0, done.output + done.errors

    def uninstall(self, *names):
        assert Program(*self.pip, "--quiet", "uninstall", "--yes", *names).code == 0

    def python(self, *arguments, prefix=(), **environment):
        return Program(*prefix, self.folder / "bin" / "python", *arguments, **environment)

    def facts(self):
        return json.loads(self.python(PROJECT / "Tests" / "wheel" / "facts.py").succeeded())


def pins(*names):
    return [f"--requirement={PROJECT}/.ci/requirements-{name}.txt" for name in names]


INTERPRETERS = {"path": os.environ.get("PYTHON") or "python3", "debian": "/usr/bin/python3"}


def bare_environment(name):
    return Environment(name, INTERPRETERS["path"], own_pip=False)


@pytest.fixture(scope="session", params=INTERPRETERS)
def environment(request):
    """The wheel, Django and both drivers, which bring a libpq of their own."""
    made = Environment(request.param, INTERPRETERS[request.param], own_pip=True)
    made.install(f"{WHEEL}[django]", *pins("django-5.2", "psycopg2", "psycopg"))
    return made


@pytest.fixture(scope="session")
def without_libpq():
    """What a command line begins with to run where there is no libpq."""
    program = PROJECT / "Tests" / "wheel" / "without-libpq"
    tried = Program(program, sys.executable, "-c", "import ctypes; ctypes.CDLL('libpq.so.5')")
    if tried.code == 125:
        pytest.skip(tried.errors.strip())
    assert "libpq.so.5: cannot open shared object file" in tried.errors
    return (program,)


@pytest.fixture(scope="session")
def compile_library():
    """Compiles C source into a shared library."""

    def compiled(source, path, *flags):
        path.parent.mkdir(parents=True, exist_ok=True)
        command = ["cc", "-shared", "-fPIC", "-x", "c", "-o", str(path), "-", *flags]
        subprocess.run(command, input=source, text=True, check=True)
        return path

    return compiled
