"""A caller's end of an answer: a bounded buffer that the pump fills and never waits for.

A caller who stops reading is dropped when the buffer is full; the pump, and so the metering, goes
on as if nobody had been there (laws 3 and 9).
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable

KEEPALIVE = b": keepalive\n\n"
"""An SSE comment (WHATWG HTML, "Authoring notes"): no event, and no byte of the vendor's."""


YIELD_BYTES = 16_384
"""With more than this in its buffer, a reader is given its turn."""


class Broken(Exception):
    """The answer broke off; what is sent to the caller must look broken too."""


class Listener:
    """One caller's buffer of at most `bytes_max` bytes."""

    __slots__ = (
        "_between",
        "_broken",
        "_bytes",
        "_chunks",
        "_ended",
        "_on_drop",
        "_waiter",
        "bytes_max",
        "dropped",
    )

    def __init__(self, bytes_max: int) -> None:
        """Begin before the first byte."""
        self.bytes_max = bytes_max
        self.dropped = False
        self._chunks: deque[bytes] = deque()
        self._bytes = 0
        self._between = True
        self._broken = False
        self._ended = False
        self._waiter: asyncio.Future[None] | None = None
        self._on_drop: Callable[[], object] | None = None

    def on_drop(self, tell: Callable[[], object]) -> None:
        """Have `tell` called when the caller is dropped, perhaps while it waits elsewhere."""
        self._on_drop = tell
        if self.dropped:
            tell()

    async def offer(self, chunk: bytes, *, between: bool) -> None:
        """Add bytes; `between` when they end between two events.

        The reader gets its turn before more comes, but not longer than that: it is never waited
        for.
        """
        self.add(chunk, between=between)
        if self.is_behind:
            await asyncio.sleep(0)

    @property
    def is_behind(self) -> bool:
        """Whether the reader should be given its turn."""
        return self._bytes > YIELD_BYTES

    def add(self, chunk: bytes, *, between: bool) -> None:
        """As `offer`, without a turn for the reader."""
        if self._ended or self.dropped or not chunk:
            return
        if self._bytes + len(chunk) > self.bytes_max and self._chunks:
            self.drop()
            return
        self._chunks.append(chunk)
        self._bytes += len(chunk)
        self._between = between
        self._wake()

    def catch_up(self, said: Iterable[bytes], *, between: bool) -> None:
        """Add all that was said before this one came, whatever its size."""
        self._chunks.extend(said)
        self._bytes = sum(map(len, self._chunks))
        self._between = between
        self._wake()

    def end(self, *, broken: bool = False) -> None:
        """No more bytes will come; `broken` when the answer broke off."""
        if not self._ended:
            self._ended = True
            self._broken = broken
            self._wake()

    def drop(self) -> None:
        """Forget the caller: it left, or it does not read."""
        if self.dropped:
            return
        self.dropped = self._broken = self._ended = True
        self._chunks.clear()
        self._bytes = 0
        self._wake()
        if self._on_drop is not None:
            self._on_drop()

    async def read(self, keepalive_seconds: float | None = None) -> bytes | None:
        """The next bytes; None at a proper end; `Broken` where the answer broke off.

        After `keepalive_seconds` of silence between two events the answer is a comment instead.
        """
        while not self._chunks:
            if self._ended:
                if self._broken:
                    raise Broken
                return None
            self._waiter = asyncio.get_running_loop().create_future()
            wait = keepalive_seconds if self._between else None
            try:
                async with asyncio.timeout(wait):
                    await self._waiter
            except TimeoutError:
                return KEEPALIVE
            finally:
                self._waiter = None
        if len(self._chunks) == 1:
            chunk = self._chunks.popleft()
        else:
            chunk = b"".join(self._chunks)
            self._chunks.clear()
        self._bytes = 0
        return chunk

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)
