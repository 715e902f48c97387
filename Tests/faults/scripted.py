"""Servers that only look like one: each connection is treated as a script says."""

from __future__ import annotations

import base64
import contextlib
import os
import socket
import struct
import threading
import time
from typing import Callable

AUTHENTICATED, SASL, SASL_CONTINUE = 0, 10, 11

Script = Callable[[socket.socket], None]


class ScriptedServer:
    """Listens on `port` of the host; `attempts` are the instants at which connections arrived."""

    def __init__(self, script: Script, host: str = "127.0.0.1", port: int = 0) -> None:
        self.attempts: list[float] = []
        self._script = script
        self._open: list[socket.socket] = []
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self._listener = socket.create_server((host, port), family=family, backlog=100)
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        with contextlib.suppress(OSError):
            while True:
                client, _ = self._listener.accept()
                self.attempts.append(time.monotonic())
                self._open.append(client)
                threading.Thread(target=self._serve, args=(client,), daemon=True).start()

    def _serve(self, client: socket.socket) -> None:
        # The client may go at any time.
        with contextlib.suppress(OSError), client:
            self._script(client)

    def __enter__(self) -> ScriptedServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for client in self._open:
            with contextlib.suppress(OSError):
                client.shutdown(socket.SHUT_RDWR)


def close_at_once(_client: socket.socket) -> None:
    """As a proxy does that has nobody behind it."""


def log_in_and_close(client: socket.socket) -> None:
    """As a proxy does that knows its users and has lost its server."""
    _startup(client)
    _send(client, AUTHENTICATED, b"")
    client.sendall(b"Z" + struct.pack("!i", 5) + b"I")


def be_silent(client: socket.socket) -> None:
    """Accepts what is said, says nothing."""
    while client.recv(4096):
        pass


def say_garbage(client: socket.socket) -> None:
    """No message of the protocol."""
    _startup(client)
    client.sendall(os.urandom(64).replace(b"\x00", b"\x01") * 4)
    be_silent(client)


def never_stop(client: socket.socket) -> None:
    """An error message whose end does not come, a little at a time."""
    _startup(client)
    client.sendall(b"E" + struct.pack("!i", 25_000) + b"SFATAL\x00M")
    while True:
        client.sendall(b"x" * 10)
        time.sleep(0.05)


def claim_a_gigabyte(client: socket.socket) -> None:
    """The length of the message is one that nobody should believe."""
    _startup(client)
    client.sendall(b"R" + struct.pack("!i", 0x7FFFFFF0) + b"x" * 4096)
    while True:
        client.sendall(b"x" * 65536)
        time.sleep(0.01)


class Demanding:
    """A SCRAM exchange whose password hash takes the client so many rounds. `asked` and `answered`: the instants at
    which it was told of them, and at which it had done them."""

    def __init__(self, iterations: int) -> None:
        self._iterations = iterations
        self.asked: list[float] = []
        self.answered: list[float] = []

    def __call__(self, client: socket.socket) -> None:
        _startup(client)
        _send(client, SASL, b"SCRAM-SHA-256\x00\x00")
        message = _receive(client)
        nonce = message.partition(b",r=")[2]
        salt = base64.b64encode(b"0123456789abcdef")
        first = b"r=" + nonce + b"abcdef,s=" + salt + b",i=" + str(self._iterations).encode()
        _send(client, SASL_CONTINUE, first)
        self.asked.append(time.monotonic())
        _receive(client)
        self.answered.append(time.monotonic())
        be_silent(client)


def _startup(client: socket.socket) -> None:
    """Reads the start-up message; TLS and GSS encryption are declined."""
    while True:
        length, code = struct.unpack("!ii", _exactly(client, 8))
        _exactly(client, length - 8)
        if code >> 16 == 3:
            return
        client.sendall(b"N")


def _send(client: socket.socket, kind: int, data: bytes) -> None:
    client.sendall(b"R" + struct.pack("!ii", 8 + len(data), kind) + data)


def _receive(client: socket.socket) -> bytes:
    _, length = struct.unpack("!ci", _exactly(client, 5))
    return _exactly(client, length - 4)


def _exactly(client: socket.socket, count: int) -> bytes:
    data = b""
    while len(data) < count:
        more = client.recv(count - len(data))
        if not more:
            raise ConnectionError("the client has gone")
        data += more
    return data
