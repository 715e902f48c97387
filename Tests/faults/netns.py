"""A network of the process's own, in which packets can be dropped: they vanish, nobody says so."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import threading
from typing import Any

from failures import Skip

CLONE_NEWNET = 0x40000000
TOOLS = ("ip", "iptables")


def enter() -> None:
    """From now on this process and what it starts are in a network namespace with a loopback device and nothing else.
    Threads that run already stay where they are, so there must be none. Raises Skip where that is not possible."""
    missing = [tool for tool in TOOLS if shutil.which(tool) is None]
    if missing:
        raise Skip(f"there is no {' and no '.join(missing)}: .ci/setup faults installs them")
    assert threading.active_count() == 1, "a thread would stay outside"
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.unshare(CLONE_NEWNET) != 0:
        raise Skip(f"no network namespace: {os.strerror(ctypes.get_errno())} (root can)")
    _run("ip", "link", "set", "lo", "up")
    try:
        _run("iptables", "-w", "-L", "-n")
    except AssertionError as error:
        raise Skip(f"iptables does not work here: {error}") from None


class Dropped:
    """`with Dropped(port):` what goes to this port or comes from it vanishes."""

    def __init__(self, port: int) -> None:
        self._rules = [
            [chain, "-i" if chain == "INPUT" else "-o", "lo", "-p", "tcp", side, str(port), "-j", "DROP"]
            for chain in ("INPUT", "OUTPUT")
            for side in ("--dport", "--sport")
        ]

    def __enter__(self) -> Dropped:
        for rule in self._rules:
            _run("iptables", "-w", "-A", *rule)
        return self

    def __exit__(self, *_: Any) -> None:
        for rule in self._rules:
            _run("iptables", "-w", "-D", *rule)


def _run(*command: str) -> None:
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(command)}: {done.stderr.strip()}"
