"""A file on its way into a folder: written, hashed, then published or dropped, never both.

One thread writes while another may drop it, because its caller left: each waits for the other, so
that no write ever meets a descriptor that was closed and given to somebody else.
"""

from __future__ import annotations

import errno
import hashlib
import os
import threading
from collections.abc import Callable
from pathlib import Path

from proxy.store.kept import HEAD_BYTES, Kept, Kind


class Part:
    """Whoever begins one publishes or drops it."""

    def __init__(self, descriptor: int, path: Path) -> None:
        """Own `descriptor`, which is open for writing at `path`."""
        self.path = path
        self.head = b""
        self.size_bytes = 0
        self._descriptor = descriptor
        self._hash = hashlib.sha256()
        self._lock = threading.Lock()
        self._placed = False

    def __del__(self) -> None:
        self.drop()

    def write(self, data: bytes) -> None:
        """Append `data`. Raises `OSError`."""
        with self._lock:
            left = memoryview(data)
            while left:
                left = left[os.write(self._descriptor, left) :]
            self._hash.update(data)
            self.size_bytes += len(data)
            if len(self.head) < HEAD_BYTES:
                self.head += data[: HEAD_BYTES - len(self.head)]

    def named(self, clip_id: str, kind: Kind) -> Kept:
        """What it will be once it is published."""
        return Kept(clip_id, kind, self._hash.hexdigest(), self.size_bytes)

    def reader(self) -> int:
        """Another descriptor of the same file, for whoever reads while it grows."""
        return os.dup(self._descriptor)

    def place(self, move: Callable[[Path], None]) -> None:
        """Make it durable, and `move` it to its place for good. Raises `OSError`."""
        with self._lock:
            if self._descriptor < 0:
                raise OSError(errno.EBADF, os.strerror(errno.EBADF))
            os.fsync(self._descriptor)
            move(self.path)
            self._placed = True

    def drop(self) -> None:
        """Close the file, and remove it unless it was published. May be repeated."""
        with self._lock:
            if self._descriptor >= 0:
                if not self._placed:
                    self.path.unlink(missing_ok=True)
                os.close(self._descriptor)
                self._descriptor = -1
