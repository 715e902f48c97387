"""`python -m dbpool`: which versions are in use here. `python -m dbpool CONNINFO`: whether it works with a server."""

from __future__ import annotations

import argparse
import os
import platform
import statistics
import sys
import time
from collections.abc import Callable

from . import _lib, _libpq
from ._version import __version__
from .errors import Error
from .pool import Pool

MOST, SECONDS = 1000, 0.5


class _Parser(argparse.ArgumentParser):
    def parse(self) -> tuple[str | None, float]:
        known, unknown = self.parse_known_args()
        # None of them is repeated: a conninfo without quotes comes as several, and one has the password.
        if unknown:
            self.error("there is no such option")
        if len(known.conninfo) > 1:
            self.error("give the conninfo as one argument, in quotes")
        return (known.conninfo[0] if known.conninfo else None), known.timeout


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = 0.0
    if not 0 < value < _lib.INT_MAX / 1000:
        # The text is not repeated: it may be a conninfo.
        raise argparse.ArgumentTypeError("give a number of seconds above 0")
    return value


def _parse() -> tuple[str | None, float]:
    parser = _Parser(
        prog="python -m dbpool",
        description="Tells the versions in use; with a conninfo, tries a pool on that server and measures it.",
        epilog='The conninfo is that of dbpool.Pool; "" is the environment\'s (PGHOST, ...). On a command line others '
        "can read a password: keep it in PGPASSWORD or ~/.pgpass. Exit code: 0, 1 for an error, 2 for wrong use.",
        allow_abbrev=False,
    )
    parser.add_argument("conninfo", nargs="*", help='such as "postgresql://app@db/shop" or "host=db dbname=shop"')
    parser.add_argument("--timeout", type=_seconds, default=10.0, metavar="SECONDS", help="for the connect (10)")
    return parser.parse()


def _line(name: str, *columns: str) -> None:
    print(f"{name:<10}", *columns, flush=True)


def _show_versions() -> None:
    _line("dbpool", f"{__version__:<8}", os.path.dirname(os.path.abspath(__file__)))
    _line("libdbpool", f"{_lib.library_version:<8}", _lib.file_of(_lib.version))
    try:
        libpq = _libpq.Libpq()
    except OSError as error:
        _line("libpq", f"{'none':<8}", f"{error}: pools of a driver's connections work, dbpool.Pool does not")
    else:
        _line("libpq", f"{libpq.version:<8}", libpq.file)
    _line("Python", f"{platform.python_version():<8}", sys.executable)


def _median(work: Callable[[], None]) -> str:
    """Of up to MOST times, as many as SECONDS allow, but five at least."""
    times: list[int] = []
    end = time.perf_counter() + SECONDS
    while len(times) < 5 or (len(times) < MOST and time.perf_counter() < end):
        start = time.perf_counter_ns()
        work()
        times.append(time.perf_counter_ns() - start)
    return f"{statistics.median(times) / 1000:.1f} us, median of {len(times)}"


def _show_server(conninfo: str, timeout: float) -> None:
    with Pool(conninfo, min_size=1, connect_timeout=timeout, acquire_timeout=timeout, name="python -m dbpool") as pool:
        pool.wait(timeout)
        libpq = _libpq.Libpq()
        with pool.connection() as loan:
            _line("server", libpq.describe(loan))
        _line("get + put", _median(lambda: pool.put(pool.get())))
        with pool.connection() as loan:
            _line("SELECT 1", _median(lambda: libpq.run(loan, "SELECT 1")))
        _line("pool", ", ".join(f"{name} {value}" for name, value in pool.stats()._asdict().items() if value))


def main() -> int:
    conninfo, timeout = _parse()
    _show_versions()
    try:
        if conninfo is not None:
            _show_server(conninfo, timeout)
    except Error as error:
        print(f"dbpool: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
