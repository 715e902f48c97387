"""Functions of the C library that misbehave: the C files in `shims`, built when they are needed, and preloaded."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

from failures import Skip

SOURCES = Path(__file__).parent / "shims"
FLAGS = ("-std=c11", "-D_GNU_SOURCE", "-Wall", "-Wextra", "-pedantic", "-Werror", "-O1", "-fPIC", "-shared", "-pthread")


def require(name: str, folder: Path) -> Any:
    """The shim's functions. Where it is not loaded yet, this process begins anew with it: call it first of all, while
    there is nothing to lose."""
    if os.environ.get("FAULTS_SHIM") != name:
        library = _build(name, folder)
        environment = {**os.environ, "FAULTS_SHIM": name, "LD_PRELOAD": str(library)}
        sys.stdout.flush()
        os.execve(sys.executable, [sys.executable, *sys.argv], environment)
    # What is started from here, a server for one, is to be spared.
    os.environ.pop("LD_PRELOAD", None)
    return ctypes.CDLL(None)


def _build(name: str, folder: Path) -> Path:
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        raise Skip("there is no C compiler: .ci/setup build installs one")
    library = folder / f"{name}.so"
    subprocess.run([compiler, *FLAGS, str(SOURCES / f"{name}.c"), "-o", str(library), "-ldl"], check=True, timeout=60)
    return library
