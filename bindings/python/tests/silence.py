"""Servers that give no answer."""

from __future__ import annotations

import contextlib
import os
import select
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time
from pathlib import Path

# What a call may take beyond its timeout. The machine may have more to do.
MARGIN = 0.25 * int(os.environ.get("DBPOOL_TEST_SLOWNESS", "3"))


@contextlib.contextmanager
def within(seconds):
    """Of a call with this timeout."""
    start = time.monotonic()
    yield
    took = time.monotonic() - start
    assert took < seconds + MARGIN, f"took {took:.3f} s"


@contextlib.contextmanager
def frozen(*pids):
    """Sessions whose server process stands still."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Proxy:
    """To the server, as a thread. While it is `dark` it keeps what it gets, for both sides, and takes everyone in."""

    def __init__(self, port=0):
        self.dark = False
        self.accepted = 0
        self._pairs = {}
        self._listener = socket.create_server(("127.0.0.1", port))
        self.port = self._listener.getsockname()[1]
        self._is_closed = False
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def open_sessions(self):
        return len(self._pairs) // 2

    def close(self):
        self._is_closed = True
        self._thread.join(10)
        for end in (self._listener, *self._pairs):
            end.close()

    def _run(self):
        while not self._is_closed:
            ends = [] if self.dark else list(self._pairs)
            for ready in select.select([self._listener, *ends], [], [], 0.01)[0]:
                if ready is self._listener:
                    self._accept()
                elif ready in self._pairs:
                    self._forward(ready)
            if self.dark:
                self._drop_closed()

    def _accept(self):
        client = self._listener.accept()[0]
        self.accepted += 1
        server = socket.create_connection((os.environ["PGHOST"], int(os.environ["PGPORT"])))
        self._pairs[client], self._pairs[server] = server, client

    def _forward(self, source):
        try:
            data = source.recv(65536)
            self._pairs[source].sendall(data)
        except OSError:
            data = b""
        if not data:
            self._end(source)

    def _drop_closed(self):
        for end in list(self._pairs):
            if end in self._pairs and _has_ended(end):
                self._end(end)

    def _end(self, one):
        other = self._pairs.pop(one)
        self._pairs.pop(other)
        one.close()
        other.close()


def _has_ended(end):
    poll = select.poll()
    poll.register(end, select.POLLRDHUP)
    return bool(poll.poll(0))


class SlowLogin:
    """Asks for a SCRAM proof with so many rounds that a client is busy for long."""

    def __init__(self, rounds):
        self._rounds = rounds
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._run, daemon=True).start()

    def close(self):
        self._listener.close()

    def _run(self):
        with contextlib.suppress(OSError):
            while True:
                client = self._listener.accept()[0]
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client):
        with contextlib.suppress(OSError), client:
            client.recv(4096)
            _send(client, 10, b"SCRAM-SHA-256\0\0")
            nonce = client.recv(4096).rpartition(b"r=")[2]
            _send(client, 11, b"r=%sx,s=QUJDREVGR0hJSktMTU5PUA==,i=%d" % (nonce, self._rounds))
            client.recv(4096)


def _send(client, kind, body):
    client.sendall(b"R" + struct.pack("!II", 8 + len(body), kind) + body)


RESOLVER = r"""
#define _GNU_SOURCE
#include <dlfcn.h>
#include <netdb.h>
#include <string.h>
#include <unistd.h>

int getaddrinfo(const char *node, const char *service, const struct addrinfo *hints, struct addrinfo **found) {
  int (*real)(const char *, const char *, const struct addrinfo *, struct addrinfo **);
  *(void **)&real = dlsym(RTLD_NEXT, "getaddrinfo");
  if (node && strcmp(node, "hang.example") == 0)
    sleep(30);
  return real ? real(node, service, hints, found) : EAI_SYSTEM;
}
"""


def hanging_resolver(folder: Path) -> str | None:
    """The path of a library to preload: the name hang.example takes 30 seconds. None without a C compiler."""
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None:
        return None
    source, library = folder / "resolver.c", folder / "resolver.so"
    source.write_text(RESOLVER)
    subprocess.run(
        [compiler, "-O1", "-fPIC", "-shared", str(source), "-o", str(library), "-ldl"], check=True, timeout=60
    )
    return str(library)
