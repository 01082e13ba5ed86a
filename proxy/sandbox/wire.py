"""One answer on its way onto the socket, and the faults that bend it there.

Bytes of the body are counted before chunk framing, so `cut 300` means that exactly 300 bytes of the
body arrive, whatever framing the answer has.
"""

from __future__ import annotations

import asyncio
import zlib
from collections.abc import Sequence
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from proxy.sandbox.faults import Faults
from proxy.sandbox.http import Connection, Header, Reply, Request, Severed, head_bytes

_GZIP_WINDOW: Final = 31


class Wire:
    """Writes one answer: `reply` for a whole one, or `open`, `send` … and `finish`.

    Every method raises Severed once a fault has ended the connection, and ConnectionError when the
    caller has gone.
    """

    def __init__(self, connection: Connection, request: Request, faults: Faults) -> None:
        self.keep_alive = request.keep_alive and "close-delimited" not in faults
        self._connection = connection
        self._faults = faults
        self._bodiless = request.method == "HEAD"
        self._chunks_allowed = request.chunks_allowed
        self._chunked = False
        self._sent = 0
        self._stall_at = faults.whole("stall", "bytes")
        self._stall_seconds = faults.number("stall", "seconds")
        self._gzip = (
            zlib.compressobj(wbits=_GZIP_WINDOW)
            if "gzip" in faults and not self._bodiless
            else None
        )

    async def reply(self, reply: Reply) -> None:
        """Send a whole answer."""
        await self.open(reply.status, reply.headers, length=len(reply.body))
        if not self._bodiless:
            await self.send(reply.body)
        await self.finish()

    async def open(
        self, status: int, headers: Sequence[Header], *, length: int | None = None
    ) -> None:
        """Send the head; without `length` the body goes in chunks, or to the end of connection."""
        framing: list[Header] = [("Date", formatdate(usegmt=True))]
        if "close-delimited" in self._faults:
            length = None
        if self._gzip is not None:
            length = None
            framing.append(("Content-Encoding", "gzip"))
        if status == HTTPStatus.NOT_MODIFIED:
            length = None
        elif length is not None:
            framing.append(("Content-Length", str(length)))
        elif self._chunks_allowed and "close-delimited" not in self._faults:
            self._chunked = True
            framing.append(("Transfer-Encoding", "chunked"))
        else:
            self.keep_alive = False
        framing.append(("Connection", "keep-alive" if self.keep_alive else "close"))
        if self._stall_seconds >= 0 and self._stall_at < 0:
            await asyncio.sleep(self._stall_seconds)
        await self._connection.write(head_bytes(status, [*headers, *framing]))
        await self._bend()

    async def send(self, data: bytes) -> None:
        """Send a piece of the body."""
        if self._gzip is not None:
            data = self._gzip.compress(data) + self._gzip.flush(zlib.Z_SYNC_FLUSH)
        await self._send(data)

    async def finish(self) -> None:
        """End the body, so that the caller knows it is whole."""
        if self._gzip is not None:
            await self._send(self._gzip.flush())
        if self._chunked:
            await self._connection.write(b"0\r\n\r\n")

    async def junk(self) -> None:
        """Answer with bytes that no HTTP client can read."""
        await self._connection.write(b"\x00\x01 this is not HTTP\r\n\r\n")
        await self.sever()

    async def sever(self, *, reset: bool = False) -> None:
        """End the connection here: in the ordinary way, or by a reset after what was sent."""
        if reset:
            await self._connection.reset(after_sending=True)
        else:
            await self._connection.close()
        raise Severed

    async def _send(self, data: bytes) -> None:
        while data:
            size = 1 if "one-byte" in self._faults else len(data)
            for limit in self._limits():
                size = min(size, limit - self._sent)
            piece, data = data[:size], data[size:]
            if "slow" in self._faults:
                await asyncio.sleep(self._faults.number("slow", "seconds"))
            framed = b"%x\r\n%b\r\n" % (len(piece), piece) if self._chunked else piece
            await self._connection.write(framed)
            self._sent += len(piece)
            await self._bend()

    def _limits(self) -> list[int]:
        """The positions ahead at which something happens."""
        places = (self._cut_at("cut"), self._cut_at("reset-at"), self._stall_at)
        return [place for place in places if place > self._sent]

    def _cut_at(self, name: str) -> int:
        return self._faults.whole(name, "bytes")

    async def _bend(self) -> None:
        """Do what is due at this position of the body."""
        if self._stall_at == self._sent:
            self._stall_at = -1
            await asyncio.sleep(self._stall_seconds)
        if self._cut_at("cut") == self._sent:
            await self.sever()
        if self._cut_at("reset-at") == self._sent:
            await self.sever(reset=True)
