"""What hatchling cannot know of the distribution `libdbpool`.

Without further ado the package is pure Python and uses the library of the system. A wheel carries the library that the
environment variable DBPOOL_WHEEL_LIBRARY names, and is one for the platform DBPOOL_WHEEL_PLATFORM: `make wheel`.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class CustomBuildHook(BuildHookInterface):
    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        project = Path(self.root).parents[1]
        header = project / "include" / "dbpool.h"
        if header.exists():  # not so where it is built from an sdist
            self._compare(header)
        if self.target_name == "sdist" and (project / "LICENSE").exists():
            build_data["force_include"][str(project / "LICENSE")] = "LICENSE"
        library = os.environ.get("DBPOOL_WHEEL_LIBRARY")
        if self.target_name == "wheel" and version == "standard" and library:
            build_data["force_include"][library] = "dbpool/libdbpool.so.0"
            build_data["pure_python"] = False
            build_data["tag"] = f"py3-none-{os.environ['DBPOOL_WHEEL_PLATFORM']}"

    def _compare(self, header: Path) -> None:
        """The header is the one place that knows the version; the package must not tell another."""
        found = re.search(r'^#define POOL_VERSION "(.*)"$', header.read_text(), re.MULTILINE)
        if found is None or found.group(1) != self.metadata.version:
            raise SystemExit(f"dbpool/_version.py says version {self.metadata.version}, {header} says another")
