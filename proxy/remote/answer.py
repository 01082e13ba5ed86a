"""A gateway's answer as it arrives: raw bytes, and an honest word about how they ended.

The HTTP client calls some broken answers complete and drops bytes it has already received when a
connection breaks. Both matter here: a clip's link may stand in the last bytes before the break.
"""

from __future__ import annotations

import asyncio
from enum import StrEnum
from typing import Self

import aiohttp
from aiohttp.connector import Connection


class Ending(StrEnum):
    """How an answer's body ended."""

    COMPLETE = "complete"
    CUT = "cut"
    STALLED = "stalled"
    TIMED_OUT = "timed_out"


class RawResponse(aiohttp.ClientResponse):
    """The client's response, which also watches what becomes of its connection."""

    transport: asyncio.Transport | None = None
    _lost: asyncio.Future[None] | None = None

    async def start(self, connection: Connection) -> RawResponse:
        """Wait for the head; a wait that fails or is cancelled leaves no socket behind.

        Closing alone would go on sending what is left of the request.
        """
        self.transport = connection.transport
        self._lost = connection.protocol.closed if connection.protocol is not None else None
        if self._lost is not None:
            # A kept connection has many responses in turn; one of them marks its error as seen.
            self._lost.remove_done_callback(_see)
            self._lost.add_done_callback(_see)
        try:
            await super().start(connection)
        except BaseException:
            self.drop()
            raise
        if self._lost is not None:
            self._lost.add_done_callback(self._on_lost)
        return self

    @property
    def gone(self) -> bool:
        """Whether the connection has ended, however it did."""
        return self._lost is not None and self._lost.done()

    @property
    def reset(self) -> bool:
        """Whether the connection ended otherwise than by the other side's orderly close."""
        lost = self._lost
        return lost is not None and lost.done() and bool(not lost.cancelled() and lost.exception())

    def drop(self) -> None:
        """Let go: at once, whatever is still to be sent or received, of a connection in use.

        One that went back to the pool may be somebody else's by now, and is left alone.
        """
        if self._lost is not None:
            self._lost.remove_done_callback(self._on_lost)
        transport = self.transport
        if transport is not None and (self.connection is not None or transport.is_closing()):
            transport.abort()
        self.close()

    def leftover(self) -> bytes:
        """The bytes that have arrived; once the body broke off the client would withhold them."""
        # With the error taken back the reader gives out its buffer.
        self.content.set_exception(None)  # type: ignore[arg-type]
        return self.content.read_nowait()

    def _on_lost(self, _: asyncio.Future[None]) -> None:
        """The connection is gone; a body that nobody ended then is broken.

        The client closes it on a chunk that is no chunk, and leaves the reader waiting.
        """
        content = self.content
        if not content.is_eof() and content.exception() is None:
            content.set_exception(aiohttp.ClientPayloadError("the connection is gone"))


def _see(lost: asyncio.Future[None]) -> None:
    if not lost.cancelled():
        lost.exception()


class Answer:
    """Status, headers and body of what a gateway sent; iterating gives the body's raw bytes.

    Chunks come as they arrive, neither decompressed nor joined to a size. With the last one
    `ending` says how it ended; no byte that had arrived by then is withheld. `framed` is False for
    a body that only the end of the connection delimits: its `COMPLETE` proves little.
    """

    __slots__ = (
        "_ahead",
        "_deadline",
        "_response",
        "_stall_seconds",
        "ending",
        "framed",
        "headers",
        "status",
    )

    def __init__(self, response: RawResponse, stall_seconds: float, deadline: float) -> None:
        """Take over `response`; `deadline` is in the event loop's time."""
        self.status = response.status
        self.headers: tuple[tuple[bytes, bytes], ...] = tuple(response.raw_headers)
        self.framed = _is_framed(response)
        self.ending: Ending | None = None
        self._ahead = b""
        self._response = response
        self._stall_seconds = stall_seconds
        self._deadline = deadline

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> bytes:
        if self._ahead:
            ahead, self._ahead = self._ahead, b""
            return ahead
        if self.ending is not None:
            raise StopAsyncIteration
        chunk = await self._read()
        if not chunk:
            raise StopAsyncIteration
        return chunk

    async def peek(self, count: int) -> bytes:
        """The first `count` bytes, fewer if there are no more; iterating gives them again."""
        while len(self._ahead) < count and self.ending is None:
            self._ahead += await self._read()
        return self._ahead[:count]

    async def read_refusal_body(self, bytes_max: int) -> bytes:
        """The body of a refusal, cut after `bytes_max`; closes the answer.

        A refusal is short: the whole of it may take no longer than one silence may. What was
        longer than that ends as TIMED_OUT, what was more than `bytes_max` as CUT.
        """
        now = asyncio.get_running_loop().time()
        self._deadline = min(self._deadline, now + self._stall_seconds)
        body = bytearray()
        async for chunk in self:
            body += chunk
            if len(body) > bytes_max:
                self.close()
        return bytes(body[:bytes_max])

    def close(self) -> None:
        """Let go of the connection; an answer that was not read to its end is CUT. May be repeated.

        Nothing is awaited, so it can be called from anywhere.
        """
        self._ahead = b""
        if self.ending is None:
            self.ending = Ending.CUT
            self._response.drop()

    async def _read(self) -> bytes:
        """The next bytes; the last ones, perhaps none, once it has set `ending`."""
        content = self._response.content
        loop = asyncio.get_running_loop()
        now = loop.time()
        if now >= self._deadline:
            return self._end(Ending.TIMED_OUT)
        try:
            chunk = content.read_nowait()
            if not chunk and not content.at_eof():
                if self._response.gone:  # and the client has not come to say so yet
                    return self._end(Ending.CUT)
                async with asyncio.timeout_at(min(now + self._stall_seconds, self._deadline)):
                    chunk = await content.readany()
        except TimeoutError:
            late = loop.time() >= self._deadline
            return self._end(Ending.TIMED_OUT if late else Ending.STALLED)
        except (aiohttp.ClientError, OSError):
            return self._end(Ending.CUT)
        if chunk:
            return chunk
        torn = not self.framed and self._response.reset
        return self._end(Ending.CUT if torn else Ending.COMPLETE)

    def _end(self, ending: Ending) -> bytes:
        """End here; the bytes that were waiting to be read."""
        self.ending = ending
        rest = self._response.leftover()
        self._response.drop()
        return rest


def _is_framed(response: RawResponse) -> bool:
    """Whether the message itself says where its body ends (RFC 9112, 6.3)."""
    if response.method == "HEAD" or response.status in {204, 304}:
        return True
    for name, value in response.raw_headers:
        lower = name.lower()
        if lower == b"content-length":
            return True
        if lower == b"transfer-encoding" and b"chunked" in value.lower():
            return True
    return False
