"""identity.py NAME: prints which interpreter, Django, drivers and libpq are at work in build/django/NAME; fails if they
are not those that the name says, so that no combination is taken for another.
"""

from __future__ import annotations

import importlib
import platform
import sys
from importlib import metadata

import django

DJANGO = {"32": "3.2.", "42": "4.2.", "52": "5.2."}
# The distributions: psycopg2-binary brings a libpq of its own, psycopg2 has the system's.
DRIVERS = {
    "psycopg2": {"psycopg2-binary"},
    "psycopg2-source": {"psycopg2"},
    "psycopg": {"psycopg"},
    "both": {"psycopg2-binary", "psycopg"},
    "debian": {"psycopg2"},
}


def expectation(name: str) -> tuple[str, set[str]]:
    version, _, drivers = name.partition("-")
    if version == "debian":
        version, drivers = drivers, version
    return DJANGO[version], DRIVERS[drivers]


def installed() -> set[str]:
    found = set()
    for name in set().union(*DRIVERS.values()):
        try:
            metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
        found.add(name)
    return found


def describe(distribution: str) -> str:
    module = importlib.import_module(distribution.partition("-")[0])
    libpq = module.pq.version() if distribution == "psycopg" else module.extensions.libpq_version()
    return f"{distribution} {module.__version__.split()[0]} (libpq {libpq // 10000}.{libpq % 10000})"


def djangos_choice() -> str:
    from django.db.backends.postgresql.base import Database

    return Database.__name__


def main() -> int:
    name = sys.argv[1]
    version, drivers = expectation(name)
    found = installed()
    print(
        f"{name}: {platform.python_implementation()} {platform.python_version()} ({sys.executable}),"
        f" Django {django.__version__}, {', '.join(map(describe, sorted(found)))}; Django takes {djangos_choice()}"
    )
    if not django.__version__.startswith(version):
        print(f"{name}: wants Django {version}x", file=sys.stderr)
        return 1
    if found != drivers:
        print(f"{name}: wants {', '.join(sorted(drivers))} and nothing else", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
