"""One process for one data folder: the lock that a second `serve` finds held."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Final, Self

LOCK_NAME: Final = "lock"


class Lock:
    """A held lock; the kernel lets go of it when the process ends, however it ends."""

    def __init__(self, descriptor: int) -> None:
        """Own `descriptor`, on which the lock is held."""
        self._descriptor: int | None = descriptor

    def release(self) -> None:
        """Let go; a second time does nothing."""
        descriptor, self._descriptor = self._descriptor, None
        if descriptor is not None:
            os.close(descriptor)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.release()


def hold_lock(data_dir: Path) -> Lock | None:
    """Hold `data_dir/lock`; None when another process holds it. Raises `OSError`."""
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    descriptor = os.open(data_dir / LOCK_NAME, flags, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        os.close(descriptor)
        return None
    except OSError:
        os.close(descriptor)
        raise
    return Lock(descriptor)
