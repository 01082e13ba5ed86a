"""A server over real sockets that misbehaves on the wire in exactly the way it is told to."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Self

FOR_EVER = 3600.0
"""A hold that only the test's end or the client's leaving breaks."""


class Line:
    """One accepted connection, in the hands of a fault."""

    def __init__(
        self, server: FaultServer, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._writer = writer
        self.reader = reader

    async def request(self) -> bytes:
        """Read one whole request and count it; the request's bytes."""
        head = await self.head()
        length = 0
        for line in head.split(b"\r\n"):
            name, _, value = line.partition(b":")
            if name.lower() == b"content-length":
                length = int(value)
        body = await self.reader.readexactly(length)
        self._server.requests[-1] = head + body
        return head + body

    async def head(self) -> bytes:
        """Read the head alone and count the request."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        self._server.requests.append(head)
        return head

    async def send(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def hold(self, seconds: float = FOR_EVER) -> None:
        await asyncio.sleep(seconds)

    async def gone(self) -> None:
        """Wait until the client has left."""
        with contextlib.suppress(ConnectionError):
            while await self.reader.read(65536):
                pass

    def half_close(self) -> None:
        """Send a FIN and go on reading."""
        self._writer.write_eof()

    def reset(self) -> None:
        """Send a RST."""
        linger = struct.pack("ii", 1, 0)
        self._writer.get_extra_info("socket").setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, linger
        )
        self._writer.transport.abort()

    async def close(self) -> None:
        self._writer.close()
        with contextlib.suppress(ConnectionError):
            await self._writer.wait_closed()


Fault = Callable[[Line], Awaitable[None]]


class FaultServer:
    """Listens on a free port of the loopback; each connection goes through `fault` once."""

    def __init__(self, fault: Fault) -> None:
        self.fault = fault
        self.requests: list[bytes] = []
        self.connections = 0
        self.open = 0
        self._server: asyncio.Server | None = None
        self._tasks: set[asyncio.Task[None]] = set()

    @property
    def port(self) -> int:
        assert self._server is not None
        port: int = self._server.sockets[0].getsockname()[1]
        return port

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def _accepted(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        self.connections += 1
        self.open += 1
        line = Line(self, reader, writer)
        left = (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError)
        try:
            with contextlib.suppress(*left):
                await self.fault(line)
        finally:
            self.open -= 1
            writer.close()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_server(self._accepted, "127.0.0.1", 0)
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        assert self._server is not None
        self._server.close()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._server.wait_closed()
