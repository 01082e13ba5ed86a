"""A few threads that read, each on its own connection, each time one unchanging state."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from sqlalchemy import Connection
from sqlalchemy.exc import SQLAlchemyError

from proxy.store.backend import Backend, Bounds, LedgerUnavailable, Trouble, driver_of, trouble_of

T = TypeVar("T")


class Readers:
    """A pool of reading threads; a connection lives as long as its thread or until trouble."""

    def __init__(self, backend: Backend, bounds: Bounds) -> None:
        """Start nothing yet: threads and connections come with the first reads."""
        self._backend = backend
        self._bounds = bounds
        self._trouble = (SQLAlchemyError, backend.errors)
        self._reading = 0
        self._closed = False
        self._mine = threading.local()
        self._opened: list[Connection] = []
        self._threads = ThreadPoolExecutor(bounds.readers_max, thread_name_prefix="ledger-reader")

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` reads. Raises `LedgerUnavailable`, or what `fn` raises."""
        if self._closed:
            message = "the ledger is closed"
            raise LedgerUnavailable(message)
        if self._reading >= self._bounds.waiting_reads_max:
            message = f"{self._bounds.waiting_reads_max} reads are waiting already"
            raise LedgerUnavailable(message)
        self._reading += 1
        try:
            async with asyncio.timeout(self._bounds.read_seconds_max):
                loop = asyncio.get_running_loop()
                return await loop.run_in_executor(self._threads, self._run, fn)
        except TimeoutError as error:
            message = f"a read took longer than {self._bounds.read_seconds_max:g} s"
            raise LedgerUnavailable(message) from error
        finally:
            self._reading -= 1

    def close(self) -> None:
        """Wait for the reads that run, then close their connections."""
        self._closed = True
        self._threads.shutdown(cancel_futures=True)
        for connection in self._opened:
            with contextlib.suppress(*self._trouble):
                connection.close()

    def _run(self, fn: Callable[[Connection], T]) -> T:
        try:
            connection = self._connected()
            driver = driver_of(connection)
            self._backend.begin_read(driver)
            try:
                return fn(connection)
            finally:
                driver.execute("ROLLBACK")
        except self._trouble as error:
            if trouble_of(error, self._backend) is Trouble.CALL:
                raise
            self._disconnect()
            message = f"{type(error).__name__}: {error}"
            raise LedgerUnavailable(message) from error

    def _connected(self) -> Connection:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is None:
            connection = self._backend.connect_reader()
            self._opened.append(connection)
            self._mine.connection = connection
        return connection

    def _disconnect(self) -> None:
        connection: Connection | None = getattr(self._mine, "connection", None)
        if connection is not None:
            self._mine.connection = None
            self._opened.remove(connection)
            with contextlib.suppress(*self._trouble):
                connection.close()
