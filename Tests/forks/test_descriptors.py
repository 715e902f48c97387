"""Children that close what they have inherited, as daemons and workers do; and programs that inherit nothing."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from typing import Any, Callable

import pytest
from kinds import Load, fill, use

MOST = os.sysconf("SC_OPEN_MAX") if os.sysconf("SC_OPEN_MAX") < 4096 else 4096

LIST = """
import json, os
found = {}
for name in os.listdir("/proc/self/fd"):
    try:
        found[int(name)] = os.readlink("/proc/self/fd/" + name)
    except OSError:
        pass
print(json.dumps({number: target for number, target in found.items() if number > 2}))
"""


def close_all() -> None:
    """closefrom(3)."""
    os.closerange(3, MOST)


def close_one_by_one() -> None:
    """Celery's way, from the highest down."""
    for number in sorted((int(name) for name in os.listdir("/proc/self/fd")), reverse=True):
        if number > 2:
            with contextlib.suppress(OSError):  # that of the listing
                os.close(number)


def replace_all() -> None:
    """Numbers that the library knew belong to somebody else now: to a file that must stay as it is."""
    null = os.open("/dev/null", os.O_RDWR)
    for number in map(int, os.listdir("/proc/self/fd")):
        if number > 2 and number != null:
            os.dup2(null, number)


CLOSERS = [close_all, close_one_by_one, replace_all]


@pytest.mark.parametrize("close", CLOSERS)
def test_a_child_that_has_closed_everything_works(
    kind: Any, pool: Any, start_child: Any, close: Callable[[], None]
) -> None:
    parents = fill(kind, pool)

    def work() -> None:
        close()
        assert not use(kind, pool, 5) & parents
        pool.close()

    with Load(kind, pool):
        for _ in range(4):
            start_child(work)


@pytest.mark.parametrize("close", [close_all, close_one_by_one])
def test_a_child_that_closes_everything_under_its_own_sessions_ends(
    kind: Any, pool: Any, start_child: Any, close: Callable[[], None]
) -> None:
    """Its pool cannot be used any more, but the child must end, and the parent must not notice."""

    def work() -> None:
        use(kind, pool)
        close()

    with Load(kind, pool):
        for _ in range(4):
            start_child(work)


def test_descriptors_opened_by_a_child_are_not_closed_by_the_library(kind: Any, pool: Any, start_child: Any) -> None:
    """After closing everything, a file gets a number that was a socket's in the parent."""

    def work() -> None:
        close_all()
        pipes = [os.pipe() for _ in range(20)]
        use(kind, pool, 5)
        pool.reconnect()
        use(kind, pool, 5)
        pool.close()
        for reader, writer in pipes:
            assert os.write(writer, b"x") == 1
            assert os.read(reader, 1) == b"x"

    start_child(work)


def _listed(**options: Any) -> dict[str, str]:
    done = subprocess.run(
        [sys.executable, "-S", "-c", LIST], capture_output=True, text=True, check=True, timeout=30, **options
    )
    found: dict[str, str] = json.loads(done.stdout)
    return found


def _sockets_and_events(found: dict[str, str]) -> dict[str, str]:
    kinds_of_ours = ("socket:", "anon_inode:")
    return {number: target for number, target in found.items() if target.startswith(kinds_of_ours)}


@pytest.mark.parametrize("spawns", ["vfork", "fork"])
def test_a_program_inherits_no_descriptor(kind: Any, pool: Any, spawns: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Even one that asks for all: what is ours is close-on-exec."""
    monkeypatch.setattr(subprocess, "_USE_VFORK", spawns == "vfork")
    conn = kind.get(pool)
    with Load(kind, pool, 2):
        for _ in range(5):
            assert _sockets_and_events(_listed(close_fds=False)) == {}
    kind.put(pool, conn)


def test_posix_spawn_inherits_no_descriptor(kind: Any, pool: Any) -> None:
    conn = kind.get(pool)
    with Load(kind, pool, 2):
        for _ in range(5):
            reader, writer = os.pipe()
            command = [sys.executable, "-S", "-c", LIST]
            actions = [(os.POSIX_SPAWN_DUP2, writer, 1)]
            child = os.posix_spawn(sys.executable, command, os.environ, file_actions=actions)
            os.close(writer)
            with os.fdopen(reader) as output:
                found = json.load(output)
            assert os.waitpid(child, 0)[1] == 0
            assert _sockets_and_events(found) == {}
    kind.put(pool, conn)


def test_exec_in_a_child_inherits_no_descriptor(kind: Any, pool: Any) -> None:
    """os.fork and os.exec, with sessions of the parent and of the child open."""
    conn = kind.get(pool)
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            use(kind, pool)
            own = kind.get(pool)
            assert own is not conn
            os.dup2(writer, 1)
            os.execv(sys.executable, [sys.executable, "-S", "-c", LIST])
        finally:
            os._exit(1)
    os.close(writer)
    with os.fdopen(reader) as output:
        found = json.load(output)
    assert os.waitpid(child, 0)[1] == 0
    assert _sockets_and_events(found) == {}
    kind.put(pool, conn)
