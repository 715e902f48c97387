"""A TCP proxy in a process of its own, whose mode is switched at run time.

    pass     forwards
    dark     swallows what arrives and answers nothing, while the kernel goes on acknowledging
    refuse   no listener: ECONNREFUSED; sessions are closed
    rst      sessions and new connections are reset; attempts are counted
    delay    new connections are forwarded after `seconds`
    cut      new connections end after `bytes` bytes from the server
    garbage  the next thing that the server says is replaced by `data` (hexadecimal)
    inject   the client gets `data` at once, and all else as with pass

The scope is "all", "existing" (the mode of new connections stays) or "new".
"""

from __future__ import annotations

import asyncio
import json
import socket
import struct
import subprocess
import sys
import time
from typing import Any

LINGER_RESET = struct.pack("ii", 1, 0)


class Proxy:
    """The handle: `port` is where it listens."""

    def __init__(self, target_port: int, target_host: str = "127.0.0.1") -> None:
        ours, theirs = socket.socketpair()
        with theirs:
            self._process = subprocess.Popen(
                [sys.executable, __file__, str(theirs.fileno()), target_host, str(target_port)],
                stdin=subprocess.DEVNULL,
                pass_fds=[theirs.fileno()],
            )
        self._control = ours.makefile("rw")
        self._socket = ours
        self.port = int(self._answer()["port"])

    def _answer(self) -> dict[str, Any]:
        line = self._control.readline()
        if not line:
            raise RuntimeError(f"the proxy has ended with code {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer

    def _ask(self, **command: object) -> dict[str, Any]:
        self._control.write(json.dumps(command) + "\n")
        self._control.flush()
        return self._answer()

    def mode(self, mode: str, scope: str = "all", count: int | None = None, **settings: object) -> None:
        """`count`: only so many of the existing sessions, the oldest first. It holds when this returns."""
        self._ask(do="mode", mode=mode, scope=scope, count=count, **settings)

    def target(self, port: int, host: str = "127.0.0.1") -> None:
        """For new connections, as when an address moves to another host."""
        self._ask(do="target", host=host, port=port)

    def attempts(self) -> list[float]:
        """When connections arrived (time.monotonic()), since the start. Refused ones never arrive."""
        return list(self._ask(do="look")["attempts"])

    def open_sessions(self) -> int:
        return int(self._ask(do="look")["open"])

    def most_at_once(self) -> int:
        """The most connections that were open at once."""
        return int(self._ask(do="look")["most"])

    def close(self) -> None:
        self._control.close()
        self._socket.close()
        self._process.wait(10)


# ----------------------------------------------------------------------------------------------- the other process


class End(asyncio.Protocol):
    """One side of a session."""

    def __init__(self, session: Session, is_client: bool) -> None:
        self.session, self.is_client = session, is_client
        self.transport: Any = None
        self.has_ended = False

    def connection_made(self, transport: Any) -> None:
        self.transport = transport
        transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if self.is_client:
            self.session.arrived()

    def data_received(self, data: bytes) -> None:
        self.session.received(data, self.is_client)

    def eof_received(self) -> bool:
        self.has_ended = True
        return self.session.mode == "dark"  # True: our end stays open

    def connection_lost(self, error: Exception | None) -> None:
        self.session.lost(self)


class Session:
    def __init__(self, server: Server) -> None:
        self.server = server
        self.mode = server.new_mode
        self.settings = dict(server.settings)
        self.client = End(self, True)
        self.backend: End | None = None
        self.waiting: list[bytes] = []
        self.from_server = 0

    def switch(self, mode: str, settings: dict[str, Any]) -> None:
        self.mode, self.settings, self.from_server = mode, settings, 0
        if mode == "inject":
            self.client.transport.write(bytes.fromhex(settings["data"]))
        if mode != "dark" and (self.client.has_ended or (self.backend is not None and self.backend.has_ended)):
            self.end()

    def arrived(self) -> None:
        self.server.note(self)
        if self.mode == "rst":
            asyncio.get_running_loop().call_soon(self.reset)
        elif self.mode == "delay":
            asyncio.get_running_loop().call_later(float(self.settings["seconds"]), self.open_backend)
        elif self.mode != "dark":
            self.open_backend()

    def open_backend(self) -> None:
        if self in self.server.sessions and self.mode != "dark":
            self.server.keep(asyncio.ensure_future(self.connect()))

    async def connect(self) -> None:
        loop = asyncio.get_running_loop()
        end = End(self, False)
        try:
            await loop.create_connection(lambda: end, *self.server.target)
        except OSError:
            self.end()
            return
        if self not in self.server.sessions:
            end.transport.abort()
            return
        self.backend = end
        for data in self.waiting:
            end.transport.write(data)
        self.waiting.clear()

    def received(self, data: bytes, from_client: bool) -> None:
        if self.mode == "dark":
            return
        if from_client:
            if self.backend is None:
                self.waiting.append(data)
            else:
                self.backend.transport.write(data)
            return
        if self.mode == "garbage":
            self.mode = "pass"
            data = bytes.fromhex(self.settings["data"])
        if self.mode == "cut":
            left = int(self.settings["bytes"]) - self.from_server
            data = data[: max(0, left)]
            self.from_server += len(data)
            self.client.transport.write(data)
            if self.from_server >= int(self.settings["bytes"]):
                self.end()
            return
        self.client.transport.write(data)

    def lost(self, end: End) -> None:
        if self.mode != "dark" or end.is_client:
            self.end()

    def end(self) -> None:
        self.server.sessions.pop(self, None)
        for end in (self.client, self.backend):
            if end is not None and end.transport is not None:
                end.transport.close()

    def reset(self) -> None:
        self.server.sessions.pop(self, None)
        if self.backend is not None:
            self.backend.transport.abort()
        number = self.client.transport.get_extra_info("socket")
        number.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_RESET)
        self.client.transport.abort()


class Server:
    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.new_mode = "pass"
        self.settings: dict[str, Any] = {}
        self.sessions: dict[Session, None] = {}  # oldest first
        self.attempts: list[float] = []
        self.most = 0
        self.tasks: set[Any] = set()
        # Bound and never listening: nobody else gets the port while nothing listens there.
        self.holder = self.bound(0)
        self.port: int = self.holder.getsockname()[1]
        self.listener: asyncio.AbstractServer | None = None

    def bound(self, port: int) -> socket.socket:
        found = socket.socket()
        found.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        found.bind(("127.0.0.1", port))
        return found

    def keep(self, task: Any) -> None:
        self.tasks.add(task)
        task.add_done_callback(self.tasks.discard)

    def note(self, session: Session) -> None:
        self.attempts.append(time.monotonic())
        self.sessions[session] = None
        self.most = max(self.most, len(self.sessions))

    async def listen(self) -> None:
        if self.listener is None:
            loop = asyncio.get_running_loop()
            self.listener = await loop.create_server(self.accept, sock=self.bound(self.port), backlog=512)

    def accept(self) -> End:
        return Session(self).client

    async def stop_listening(self) -> None:
        if self.listener is not None:
            self.listener.close()
            self.listener = None

    async def set_mode(self, command: dict[str, Any]) -> None:
        mode, scope = command["mode"], command["scope"]
        settings = {name: value for name, value in command.items() if name not in ("do", "mode", "scope", "count")}
        if scope != "existing":
            self.new_mode, self.settings = mode, settings
            await (self.stop_listening() if mode == "refuse" else self.listen())
        if scope == "new":
            return
        for session in list(self.sessions)[: command["count"]]:
            if mode == "refuse":
                session.end()
            elif mode == "rst":
                session.reset()
            else:
                session.switch(mode, settings)

    async def handle(self, command: dict[str, Any]) -> dict[str, Any]:
        if command["do"] == "mode":
            await self.set_mode(command)
        elif command["do"] == "target":
            self.target = (command["host"], command["port"])
        return {"attempts": self.attempts, "open": len(self.sessions), "most": self.most}

    async def serve(self, control: socket.socket) -> None:
        await self.listen()
        reader, writer = await asyncio.open_connection(sock=control)
        writer.write(json.dumps({"port": self.port}).encode() + b"\n")
        while line := await reader.readline():
            writer.write(json.dumps(await self.handle(json.loads(line))).encode() + b"\n")


if __name__ == "__main__":
    number, host, port = sys.argv[1:]
    asyncio.run(Server(host, int(port)).serve(socket.socket(fileno=int(number))))
