"""What a pool takes when nothing happens, and what loading the library takes."""

from __future__ import annotations

import os
import subprocess
import tempfile
from pathlib import Path
from statistics import median

from figures import Goal, Samples, Shown, Table, chosen, names, spread, values

TITLE = "Memory, threads, size"
FEW, MANY, POOLS = 1, 101, 100
HOW = f"""`bench/c/footprint.c`. Memory: what a process with {MANY} idle connections has written to
(`Private_Dirty`) less the same with {FEW}, for each further connection; bare libpq likewise, which is
subtracted; each in a fresh process. Attempts at a time is the option `connect_concurrency`: glibc keeps
memory of threads that have ended for the next ones, so that a pool which connects with many
threads at once leaves more behind than one that takes its time. Loading: a `dlopen` of the library in a fresh
process that has loaded libpq before. Size: the file without symbols."""

OURS = "libdbpool.so.0"
LIBRARIES = (OURS, "libzdb.so.11", "libaprutil-1.so.0", "libsoci_postgresql.so.4.0")
TRANSPORTS = {"Unix socket": "disable", "TCP": "disable", "TCP with TLS": "require"}


def environment(transport: str) -> list[str]:
    host = os.environ["DBPOOL_PGSOCKET"] if transport == "Unix socket" else os.environ["PGHOST"]
    return ["env", f"PGSSLMODE={TRANSPORTS[transport]}", f"PGHOST={host}"]


def file_of(bench, library: str) -> Path:
    folders = (bench.build / "lib", *(bench.build / "peers" / "usr" / "lib").glob("*-linux-gnu*"))
    return next(folder / library for folder in folders if (folder / library).exists())


def stripped_bytes(path: Path) -> int:
    with tempfile.NamedTemporaryFile() as copy:
        subprocess.run(["strip", "-o", copy.name, str(path.resolve())], check=True)
        return Path(copy.name).stat().st_size


def measure(bench):
    rounds = bench.rounds(2, 9)
    for number in range(rounds):
        for transport in TRANSPORTS:
            for kind in ("0", "1", "libpq"):
                for count in (FEW, MANY):
                    command = [*environment(transport), bench.program("footprint"), "memory", kind, count]
                    for sample in bench.output(command):
                        yield {"round": number, "transport": transport, "kind": kind, **sample}
    for number in range(rounds * 5):
        for library in LIBRARIES:
            for sample in bench.lines("footprint", "load", library):
                yield {"round": number, **sample}
    yield from bench.lines("footprint", "threads", POOLS)
    for library in LIBRARIES:
        yield {"pool": library, "bytes": stripped_bytes(file_of(bench, library))}


def per_connection(samples: Samples, transport: str, kind: str) -> list[float]:
    """KiB for each connection more."""
    few, many = (
        values(samples, "kilobytes", transport=transport, kind=kind, connections=count) for count in (FEW, MANY)
    )
    return [(more - less) / (MANY - FEW) for less, more in zip(few, many)]


def beyond_libpq(samples: Samples, transport: str, kind: str) -> list[float]:
    bare = median(per_connection(samples, transport, "libpq"))
    return [found - bare for found in per_connection(samples, transport, kind)]


def show(samples: Samples) -> Shown:
    loaded = [one for one in samples if "load_us" in one]
    memory = [
        [
            transport,
            spread(per_connection(samples, transport, "libpq")),
            spread(beyond_libpq(samples, transport, "1")),
            spread(beyond_libpq(samples, transport, "0")),
        ]
        for transport in TRANSPORTS
    ]
    size = {one["pool"]: one["bytes"] / 1000 for one in samples if "bytes" in one}
    libraries = [
        [library, f"{size[library]:.0f}", spread(values(loaded, "load_us", pool=library))] for library in names(loaded)
    ]
    threads = values(samples, "threads", pools=POOLS)
    note = "min / median / max of the rounds"
    head = ["transport", "libpq", "libdbpool on top, one attempt at a time", "libdbpool on top, all at once"]
    return Shown(
        [
            Table("KiB for each idle connection", head, memory, note),
            Table("The library", ["library", "kB, stripped", "loading beyond libpq, µs"], libraries, note),
            Table("Threads", ["", "threads of the library"], [[f"{POOLS} pools at rest", f"{threads[0]:.0f}"]]),
        ],
        [
            Goal(
                "memory on top of libpq for each idle connection (Unix socket, one attempt at a time), KiB",
                beyond_libpq(samples, "Unix socket", "1"),
                most=1,
            ),
            Goal(
                "the same, all connected at once, KiB",
                beyond_libpq(samples, "Unix socket", "0"),
                most=1,
            ),
            Goal(f"threads of {POOLS} pools at rest", threads, most=1),
            Goal("size of the library, stripped, kB", [size[OURS]], most=200),
            Goal("loading beyond libpq, µs", values(chosen(loaded, pool=OURS), "load_us"), most=300),
        ],
    )
