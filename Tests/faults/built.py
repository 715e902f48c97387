"""Where the built library and its package are: `make` says it in the environment; by hand it is this tree."""

from __future__ import annotations

import os
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILD = ROOT / os.environ.get("BUILD", "build")

os.environ.setdefault("DBPOOL_LIBRARY", str(BUILD / "lib/libdbpool.so.0"))
if "PYTHONPATH" not in os.environ:
    os.environ["PYTHONPATH"] = str(ROOT / "bindings/python")
    sys.path.append(os.environ["PYTHONPATH"])
