"""Other distributions with a folder `dbpool/`: in the same folder as this one they overwrite each other's files."""

from __future__ import annotations

import os
import re

# The folder names of installed distributions, as any installer has written them: django_db_pool-0.0.10-py3.11.egg-info.
_METADATA = re.compile(r"(django[-_.]+db[-_.]+pool|dbpool)(-[^/]*)?\.(dist|egg)-info", re.IGNORECASE)


def refuse_in(folder: str) -> None:
    """Raises ImportError when one is installed in `folder`, where this package is.

    Elsewhere they do no harm: Python takes the package `dbpool` that comes first on its path, and takes it whole.
    """
    # importlib.metadata would take longer to import than this package; it is asked only when there is something to ask.
    try:
        suspects = [match.group() for match in map(_METADATA.fullmatch, os.listdir(folder)) if match]
    except OSError:
        return  # a zip file, which nothing is installed into
    names = " ".join(sorted({name for name in map(_name_of, suspects, [folder] * len(suspects)) if name}))
    if names:
        raise ImportError(
            f"{names} is installed beside libdbpool in {folder}: both own a folder dbpool/, and neither is whole. "
            f"Run `pip uninstall {names} libdbpool`, then install libdbpool again"
        )


def _name_of(suspect: str, folder: str) -> str | None:
    """Its name; None when it is only the remains of one."""
    from importlib.metadata import Distribution

    name = Distribution.at(os.path.join(folder, suspect)).metadata["Name"]
    return re.sub(r"[-_.]+", "-", name).lower() if name else None
