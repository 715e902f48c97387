"""Runs cases, each in a process of its own with a time limit, and collects what they found."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from cluster import Cluster, kill_server
from table import Fault

HERE = Path(__file__).parent


@dataclass
class Outcome:
    fault: Fault
    pool: str
    errors: int | None = None
    worst_ms: float | None = None
    recovery_ms: float | None = None
    reasons: list[str] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    skipped: str | None = None
    seconds: float = 0
    printed: str = ""
    load: float = 0
    # How late this process woke at worst, in ms, meanwhile: the machine's doing.
    stall_ms: float = 0

    @property
    def verdict(self) -> str:
        if self.skipped is not None:
            return "skipped"
        return "FAIL" if self.reasons else "pass"

    @property
    def why(self) -> str:
        return self.skipped if self.skipped is not None else "; ".join(self.reasons)


class Servers:
    """The folder of a run: the template of all clusters, and the server that the harmless cases share."""

    def __enter__(self) -> Servers:
        # A socket's path is short, and the server's user must come there.
        self.folder = Path(tempfile.mkdtemp(prefix="dbpool-faults-", dir="/tmp"))
        self.folder.chmod(0o711)
        try:
            self._prepare()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _prepare(self) -> None:
        first = Cluster.create(self.folder / "template")
        first.stop()
        self.template = first.data
        self.shared = Cluster.copy_of(self.template, self.folder / "shared")
        self.shared.start()

    def __exit__(self, *_: object) -> None:
        stop_servers(self.folder)
        shutil.rmtree(self.folder, ignore_errors=True)


def stop_servers(folder: Path) -> None:
    for path in folder.glob("**/data/postmaster.pid"):
        kill_server(path.parent)


def run_case(fault: Fault, pool: str, servers: Servers, python: str, settle: float) -> Outcome:
    outcome = Outcome(fault, pool, load=wait_for_quiet(settle))
    folder = Path(tempfile.mkdtemp(prefix=f"{fault.id}-", dir=servers.folder))
    folder.chmod(0o711)
    job = {
        "fault": fault.id,
        "module": fault.run.__module__,
        "pool": pool,
        "folder": str(folder),
        "template": str(servers.template),
        "shared": str(servers.shared.folder),
        "port": servers.shared.port,
    }
    with open(folder / "printed", "w+") as printed:
        child = subprocess.Popen(
            [python, str(HERE / "child.py"), json.dumps(job)],
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        try:
            outcome.seconds, outcome.stall_ms = watch(child, fault.limit + 15)
        finally:
            is_over = child.poll() is not None
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
            stop_servers(folder)
        printed.seek(0)
        outcome.printed = printed.read()
    collect(outcome, folder / "result", child.returncode, is_over)
    shutil.rmtree(folder, ignore_errors=True)
    return outcome


def watch(child: subprocess.Popen[bytes], limit: float) -> tuple[float, float]:
    """Until it ends or the time is up: the seconds, and by how many ms this process woke too late at worst."""
    start = before = time.monotonic()
    stall = 0.0
    while child.poll() is None and time.monotonic() < start + limit:
        time.sleep(0.01)
        now = time.monotonic()
        stall, before = max(stall, now - before - 0.01), now
    return time.monotonic() - start, stall * 1000


def collect(outcome: Outcome, path: Path, code: int, is_over: bool) -> None:
    if path.exists():
        for name, value in json.loads(path.read_text()).items():
            setattr(outcome, name, value)
        if code != 0 and is_over:
            outcome.reasons.append(f"the process {ending(code)} after the case")
    elif not is_over or "Timeout (" in outcome.printed:
        outcome.reasons.append(f"hangs for more than {outcome.fault.limit:g} s")
    else:
        outcome.reasons.append(f"the process {ending(code)}")


def ending(code: int) -> str:
    return f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"


def busy_share(seconds: float) -> float:
    """Of all processors, from 0 to 1."""

    def read() -> tuple[int, int]:
        numbers = [int(word) for word in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
        return sum(numbers), numbers[3] + numbers[4]

    total, idle = read()
    time.sleep(seconds)
    total_after, idle_after = read()
    return 1 - (idle_after - idle) / max(1, total_after - total)


def wait_for_quiet(settle: float) -> float:
    """Up to so many seconds, for half of the processors to be idle; how busy they are."""
    end = time.monotonic() + settle
    busy = busy_share(0.05)
    while busy > 0.5 and time.monotonic() < end:
        busy = busy_share(0.2)
    return busy


def run_all(faults: list[Fault], pools: list[str], pythons: dict[str, str], settle: float, show: Any) -> list[Outcome]:
    outcomes = []
    with Servers() as servers:
        for fault in faults:
            for pool in pools:
                if fault.concerns(pool):
                    outcome = run_case(fault, pool, servers, pythons.get(pool, sys.executable), settle)
                    show(outcome)
                    outcomes.append(outcome)
    return outcomes
