"""A gateway's listening socket, which can be shut: connections refused, or never answered."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Awaitable, Callable
from typing import Final

from proxy.sandbox.http import HEAD_BYTES_MAX

Visit = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]

_BACKLOG: Final = 1024
# One connection fills a queue of length 0; the second shows that it is full.
_FILLERS: Final = 2


class Door:
    """Listens on one port for as long as it is open; keeps the port to itself while it is shut."""

    def __init__(self, host: str, port: int, visit: Visit) -> None:
        self._host = host
        self._visit = visit
        self._socket = self._bound(port)
        self.port: int = self._socket.getsockname()[1]
        self._accepting: asyncio.Task[None] | None = None
        self._visits: set[asyncio.Task[None]] = set()
        self._fillers: list[socket.socket] = []

    @property
    def is_open(self) -> bool:
        """Are connections taken?"""
        return self._accepting is not None

    async def open(self) -> None:
        """Take connections."""
        if self.is_open:
            return
        await self._rebind()
        self._socket.listen(_BACKLOG)
        self._accepting = asyncio.create_task(self._accept())

    async def shut(self, *, silent: bool = False) -> None:
        """Take no more: refuse connections, or leave attempts unanswered when `silent`.

        A bound socket that does not listen refuses; one whose queue is full drops (on Linux).
        """
        if self._accepting is not None:
            self._accepting.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._accepting
            self._accepting = None
        await self._rebind()
        if silent:
            self._socket.listen(0)
            for _ in range(_FILLERS):
                filler = socket.socket()
                filler.setblocking(False)
                filler.connect_ex((self._host, self.port))
                self._fillers.append(filler)

    async def close(self) -> None:
        """Give the port up and end every visit."""
        await self.shut()
        self._socket.close()
        for visit in self._visits:
            visit.cancel()
        await asyncio.gather(*self._visits, return_exceptions=True)

    async def _rebind(self) -> None:
        """A fresh socket on the same port, not listening yet."""
        for filler in self._fillers:
            filler.close()
        self._fillers.clear()
        self._socket.close()
        self._socket = self._bound(self.port)

    def _bound(self, port: int) -> socket.socket:
        bound = socket.socket()
        bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        bound.setblocking(False)
        try:
            bound.bind((self._host, port))
        except OSError:
            bound.close()
            raise
        return bound

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            try:
                connection, _ = await loop.sock_accept(self._socket)
            except ConnectionError:
                continue
            visit = asyncio.create_task(self._meet(connection))
            self._visits.add(visit)
            visit.add_done_callback(self._visits.discard)

    async def _meet(self, connection: socket.socket) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=HEAD_BYTES_MAX)
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await loop.connect_accepted_socket(lambda: protocol, connection)
        await self._visit(reader, asyncio.StreamWriter(transport, protocol, reader, loop))
