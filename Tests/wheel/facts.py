"""Prints, as JSON, what is installed and what of it was loaded."""

import json
from importlib.metadata import distribution
from pathlib import Path

import dbpool
from dbpool import _lib

installed = distribution("libdbpool")
maps = Path("/proc/self/maps").read_text().splitlines()
print(
    json.dumps(
        {
            "version": installed.version,
            "requires_python": installed.metadata["Requires-Python"],
            "licence": installed.metadata["License-Expression"],
            "extras": installed.metadata.get_all("Provides-Extra"),
            "required": [line for line in installed.requires or () if "extra ==" not in line],
            "files": sorted(str(file) for file in installed.files or ()),
            "package": str(Path(dbpool.__file__).parent),
            "package_version": dbpool.__version__,
            "library_version": dbpool.library_version,
            "library": _lib.file_of(_lib.version),
            "loaded": sorted({line.split()[-1] for line in maps if "libdbpool" in line or "libpq" in line}),
        }
    )
)
