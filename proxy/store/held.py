"""A file held open: read from anywhere in it, whatever becomes of its name in the meantime.

What the page cache has is read at once, on the event loop; only what must come from the disk costs
a thread. Whoever held a file when it was evicted reads on to its end (R61, R70).
"""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import AsyncGenerator
from concurrent.futures import Executor
from types import TracebackType
from typing import Final, Self

from proxy.store.kept import Kept, VaultUnavailable

PIECE_BYTES: Final = 256 * 2**10
"""As much as is read, and passed on, at a time."""

# Linux alone can say "not without waiting".
_NOT_WAITING: Final = getattr(os, "RWF_NOWAIT", None)

Mark = tuple[int, int]
"""The size and the time of modification that a file must keep while it is read."""


def mark_of(status: os.stat_result) -> Mark:
    """The mark of a file as it is now."""
    return status.st_size, status.st_mtime_ns


class Held:
    """Owns a descriptor. `close` never waits; a read that is under way ends first."""

    def __init__(self, descriptor: int, threads: Executor, mark: Mark | None = None) -> None:
        """Read from `descriptor`; with a `mark`, only for as long as the file keeps it."""
        self._descriptor = descriptor
        self._threads = threads
        self._mark = mark
        self._lock = threading.Lock()
        self._closing = threading.Event()

    def __del__(self) -> None:
        self.close()

    async def read(self, at: int, count: int) -> bytes:
        """Up to `count` bytes from `at` on, at least one unless the file ends there.

        Raises `VaultUnavailable` if the disk fails or the file is no longer what it was.
        """
        if self._closing.is_set():
            raise ValueError("the file is closed")
        try:
            data = self._read_cached(at, count)
            if not data:
                loop = asyncio.get_running_loop()
                data = await loop.run_in_executor(self._threads, self._read, at, count)
        except OSError as error:
            raise VaultUnavailable(f"a clip could not be read: {error.strerror}") from error
        return data

    async def chunks(self, start: int, stop: int) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, in pieces; raises `VaultUnavailable`."""
        at = start
        while at < stop:
            piece = await self.read(at, min(PIECE_BYTES, stop - at))
            if not piece:
                raise VaultUnavailable("a clip became shorter while it was read")
            at += len(piece)
            yield piece

    def close(self) -> None:
        """Let go of the file. May be repeated."""
        self._closing.set()  # a thread that reads sees it when it is done
        if self._lock.acquire(blocking=False):
            self._let_go()
            self._lock.release()

    def _read_cached(self, at: int, count: int) -> bytes:
        """What of it is in memory already, perhaps nothing."""
        if _NOT_WAITING is None:
            return b""
        buffer = bytearray(count)
        try:
            got = os.preadv(self._descriptor, [buffer], at, _NOT_WAITING)
        except OSError:  # it would wait, or cannot tell; an ill disk says so again to the thread
            return b""
        self._check()
        return bytes(memoryview(buffer)[:got])

    def _read(self, at: int, count: int) -> bytes:
        with self._lock:
            if self._closing.is_set():
                self._let_go()
                raise ValueError("the file is closed")
            data = os.pread(self._descriptor, count, at)
            self._check()
        if self._closing.is_set():
            self.close()
        return data

    def _check(self) -> None:
        if self._mark is not None and mark_of(os.fstat(self._descriptor)) != self._mark:
            raise VaultUnavailable("a clip was changed while it was read")

    def _let_go(self) -> None:
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            os.close(descriptor)


class Reader:
    """Kept bytes, checked and held open; close it, or use it in a `with` statement."""

    def __init__(self, kept: Kept, held: Held) -> None:
        """Read `kept` from `held`."""
        self.kept = kept
        self._held = held

    def chunks(self, start: int = 0, stop: int | None = None) -> AsyncGenerator[bytes, None]:
        """The bytes from `start` up to `stop`, or to the end. Raises `VaultUnavailable`."""
        size = self.kept.size_bytes
        return self._held.chunks(start, size if stop is None else min(stop, size))

    def close(self) -> None:
        """Let go of the file, without waiting. May be repeated."""
        self._held.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
