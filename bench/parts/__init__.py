"""The parts of the benchmark, a file each: how it measures (`measure`, which yields samples) and what it says of them
(`show`). `TITLE` and `HOW` stand in the report."""

from __future__ import annotations

import importlib
from types import ModuleType

ORDER = ("connect", "hot", "contention", "fill", "footprint", "scale", "python", "django", "outage")


def load(name: str) -> ModuleType:
    if name not in ORDER:
        raise SystemExit(f"bench: there is no part {name}: {' '.join(ORDER)}")
    return importlib.import_module(f"parts.{name}")
