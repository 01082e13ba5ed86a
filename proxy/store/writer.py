"""The one thread that writes: many callers' writes in one commit.

Each write runs under its own savepoint, so one that fails rolls back alone; a commit that fails
fails them all. A caller learns its outcome only after the commit.
"""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable, Sequence
from queue import Empty, SimpleQueue
from typing import Any, Final

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from proxy.store.backend import (
    Backend,
    Bounds,
    DatabaseUnfit,
    LedgerUnavailable,
    Trouble,
    driver_of,
    trouble_of,
)

_SAVE: Final = "SAVEPOINT one_write"
_KEEP: Final = "RELEASE SAVEPOINT one_write"
_UNDO: Final = "ROLLBACK TO SAVEPOINT one_write"


class _Write:
    """One caller's write, from the queue to its outcome."""

    __slots__ = ("claim", "error", "fn", "future", "loop", "timer", "value")

    def __init__(self, fn: Callable[[Connection], Any], loop: asyncio.AbstractEventLoop) -> None:
        self.fn = fn
        self.loop = loop
        self.future: asyncio.Future[Any] = loop.create_future()
        self.timer: asyncio.TimerHandle | None = None
        self.claim = threading.Lock()
        self.value: Any = None
        self.error: BaseException | None = None

    def begin(self) -> bool:
        """Claim it for running; False when its caller has given up waiting."""
        return self.claim.acquire(blocking=False)

    def expire(self, why: str) -> None:
        """Fail it unless it has begun: what has begun is awaited, since it may commit."""
        if self.claim.acquire(blocking=False) and not self.future.done():
            self.future.set_exception(LedgerUnavailable(why))

    def answer(self) -> None:
        """Tell the caller, in the caller's loop."""
        if self.timer is not None:
            self.timer.cancel()
        if self.future.done():  # the caller was cancelled; the write stands all the same
            return
        if self.error is None:
            self.future.set_result(self.value)
        else:
            self.future.set_exception(_settable(self.error))


class Writer:
    """A thread with the only connection that writes; it connects anew after any trouble."""

    def __init__(self, backend: Backend, bounds: Bounds) -> None:
        """Start the thread; it connects when the first write comes."""
        self.commits = 0
        self._backend = backend
        self._bounds = bounds
        self._trouble = (SQLAlchemyError, backend.errors, DatabaseUnfit)
        self._queue: SimpleQueue[_Write | None] = SimpleQueue()
        self._closed = False
        self._abandoned = False
        self._connection: Connection | None = None
        self._thread = threading.Thread(target=self._run, name="ledger-writer", daemon=True)
        self._thread.start()

    def submit(self, fn: Callable[[Connection], Any]) -> asyncio.Future[Any]:
        """Queue `fn`; its outcome comes to the running loop. Raises `LedgerUnavailable`."""
        if self._closed:
            message = "the ledger is closed"
            raise LedgerUnavailable(message)
        if self._queue.qsize() >= self._bounds.waiting_writes_max:
            message = f"{self._bounds.waiting_writes_max} writes are waiting already"
            raise LedgerUnavailable(message)
        loop = asyncio.get_running_loop()
        write = _Write(fn, loop)
        seconds = self._bounds.wait_seconds_max
        write.timer = loop.call_later(seconds, write.expire, f"no turn to write in {seconds:g} s")
        self._queue.put(write)
        return write.future

    def close(self) -> None:
        """Write what waits, then end the thread; after `close_seconds_max` leave it to itself."""
        self._closed = True
        self._queue.put(None)
        self._thread.join(self._bounds.close_seconds_max)
        self._abandoned = self._thread.is_alive()

    def _run(self) -> None:
        open_for_more = True
        while open_for_more:
            batch, open_for_more = self._next_batch()
            if batch:
                self._write(batch)
                _answer(batch)
        self._disconnect()

    def _next_batch(self) -> tuple[list[_Write], bool]:
        """Whatever waits, at most a batch; False with the last there will be."""
        batch: list[_Write] = []
        with contextlib.suppress(Empty):
            write = self._queue.get()
            while True:
                if write is None:
                    return batch, False
                if write.begin():
                    batch.append(write)
                if len(batch) >= self._bounds.batch_writes_max:
                    break
                write = self._queue.get_nowait()
        return batch, True

    def _write(self, batch: Sequence[_Write]) -> None:
        """Give every write of `batch` its outcome, once; a conflict has each run again alone."""
        if self._abandoned:  # whoever closed the ledger may have let go of its lock
            for write in batch:
                write.error = LedgerUnavailable("the ledger was closed before its turn came")
            return
        trouble = self._transact(batch)
        if trouble is Trouble.AGAIN:
            for write in batch:
                self._write_again(write)

    def _write_again(self, write: _Write) -> None:
        for _ in range(self._bounds.retries_max):
            if self._transact([write]) is not Trouble.AGAIN:
                return
        write.error = LedgerUnavailable(f"still in conflict after {self._bounds.retries_max} tries")

    def _transact(self, batch: Sequence[_Write]) -> Trouble | None:
        """Run `batch` in one transaction; None once it is durable, else nothing of it is kept.

        Whatever goes wrong goes to those who wait: a thread that ended would leave them waiting.
        """
        committing = False
        try:
            connection = self._connected()
            driver = driver_of(connection)
            self._backend.begin(driver)
            for write in batch:
                self._run_one(write, connection, driver)
            committing = True
            self._backend.commit(driver)
        except Exception as error:  # noqa: BLE001 - told to every caller of the batch
            trouble = trouble_of(error, self._backend)
            if trouble is Trouble.AGAIN:
                self._roll_back()
                return trouble
            self._disconnect()
            maybe = committing and trouble is Trouble.AWAY
            for write in batch:
                write.error = LedgerUnavailable(
                    f"{type(error).__name__}: {error}", maybe_committed=maybe
                )
                write.error.__cause__ = error
            return Trouble.AWAY
        self.commits += 1
        return None

    def _run_one(self, write: _Write, connection: Connection, driver: Any) -> None:
        """Run one write under its savepoint; raises only what concerns the whole batch."""
        write.value = write.error = None
        driver.execute(_SAVE)
        try:
            write.value = write.fn(connection)
            driver.execute(_KEEP)
        except BaseException as error:
            if trouble_of(error, self._backend) is not Trouble.CALL:
                raise
            driver.execute(_UNDO)
            driver.execute(_KEEP)
            write.error = error

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self._backend.connect_writer()
        return self._connection

    def _roll_back(self) -> None:
        try:
            driver_of(self._connected()).execute("ROLLBACK")
        except self._trouble:
            self._disconnect()

    def _disconnect(self) -> None:
        """Close the connection, which rolls back whatever it had begun."""
        connection, self._connection = self._connection, None
        if connection is not None:
            with contextlib.suppress(*self._trouble):
                connection.close()


def _settable(error: BaseException) -> BaseException:
    """`error`, or what stands for one that no future takes."""
    return RuntimeError(repr(error)) if isinstance(error, StopIteration) else error


def _answer(batch: Sequence[_Write]) -> None:
    """Wake each loop once for all its callers."""
    by_loop: dict[asyncio.AbstractEventLoop, list[_Write]] = {}
    for write in batch:
        by_loop.setdefault(write.loop, []).append(write)
    for loop, writes in by_loop.items():
        with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to tell
            loop.call_soon_threadsafe(_answer_all, writes)


def _answer_all(writes: Sequence[_Write]) -> None:
    for write in writes:
        write.answer()
