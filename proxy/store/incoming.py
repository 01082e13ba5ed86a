"""A clip on its way into the vault: a file that grows, and those who read it while it does.

A hundred callers who want a clip that is being fetched read the one file that the one fetch writes
(R59). Whether it will be kept is known at its end only; if it will not, they get an error and not
an end.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from typing import Final

from proxy.store.held import PIECE_BYTES, Held
from proxy.store.kept import HEAD_BYTES, Kind, Rejected, Source, VaultUnavailable, looks_right
from proxy.store.part import Part

WRITE_BYTES: Final = 256 * 2**10
"""As much as is gathered before it is written."""


class NotFinished(Exception):
    """The clip that was read while it came in will not be kept; what was read is incomplete."""


class Incoming:
    """`declared` is the length of the whole in bytes, where it was stated."""

    def __init__(self, part: Part, source: Source, threads: Executor) -> None:
        """Write what `source` gives into `part`."""
        self.declared = source.declared
        self._part = part
        self._source = source
        self._threads = threads
        self._readable = 0
        self._kept: bool | None = None
        self._news = asyncio.Event()

    async def receive(self, kind: Kind, bytes_max: int) -> Rejected | None:
        """Write all of it; what speaks against keeping it. Raises `VaultUnavailable`.

        Whoever opened the source closes it.
        """
        waiting = bytearray()
        async for chunk in self._source:
            waiting += chunk
            if self._part.size_bytes + len(waiting) > bytes_max:
                return Rejected.TOO_LARGE
            if len(waiting) >= WRITE_BYTES:
                await self._write(bytes(waiting))
                waiting.clear()
                if not looks_right(kind, self._part.head):
                    return Rejected.WRONG_MAGIC
                self._grow()
        if waiting:
            await self._write(bytes(waiting))
        size = self._part.size_bytes
        if not self._source.complete or self._source.declared not in {None, size}:
            return Rejected.SHORT
        if size < HEAD_BYTES or not looks_right(kind, self._part.head):
            return Rejected.WRONG_MAGIC
        self._grow()
        return None

    def end(self, *, kept: bool) -> None:
        """Tell those who read that nothing more comes. May be repeated; the first word counts."""
        if self._kept is None:
            self._kept = kept
            self._tell()

    async def ended(self) -> bool:
        """Wait until nothing more comes; whether it was kept."""
        while self._kept is None:
            await self._news.wait()
        return self._kept

    async def chunks(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, or to the end, as they come in.

        Raises `NotFinished` where they end too early, `VaultUnavailable` if the disk fails.
        """
        held = Held(self._part.reader(), self._threads)
        try:
            at = start
            while stop is None or at < stop:
                ready = self._readable if stop is None else min(self._readable, stop)
                if at < ready:
                    piece = await held.read(at, min(PIECE_BYTES, ready - at))
                    at += len(piece)
                    yield piece
                elif self._kept is None:
                    await self._news.wait()
                elif self._kept:
                    return
                else:
                    raise NotFinished("the clip could not be fetched to its end")
        finally:
            held.close()

    async def _write(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        try:
            await loop.run_in_executor(self._threads, self._part.write, data)
        except OSError as error:
            raise VaultUnavailable(f"a clip could not be written: {error.strerror}") from error

    def _grow(self) -> None:
        self._readable = self._part.size_bytes
        self._tell()

    def _tell(self) -> None:
        self._news.set()
        self._news = asyncio.Event()
