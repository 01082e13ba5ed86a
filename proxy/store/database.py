"""SQLite or PostgreSQL; one transaction per write; group commit."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeVar

from sqlalchemy import Connection, make_url
from sqlalchemy.exc import ArgumentError, SQLAlchemyError

from proxy.store import sqlite
from proxy.store.backend import Backend, Bounds, DatabaseUnfit, LedgerUnavailable
from proxy.store.reader import Readers
from proxy.store.writer import Writer

__all__ = ["Bounds", "Connection", "Database", "DatabaseUnfit", "LedgerUnavailable"]

T = TypeVar("T")


class Database:
    """One database, its one writer and its few readers; made by `open`."""

    def __init__(self, backend: Backend, bounds: Bounds) -> None:
        """Take a backend that has been tried; callers use `open`."""
        self.backend = backend
        self._writer = Writer(backend, bounds)
        self._readers = Readers(backend, bounds)

    @classmethod
    def open(
        cls,
        url: str,
        *,
        bounds: Bounds | None = None,
        synchronous: str = sqlite.SYNCHRONOUS,
        begin: str | None = None,
    ) -> Database:
        """Open the database at `url` (`sqlite:///…` or `postgresql://…`) and try its writer.

        `synchronous` is SQLite's; `begin` replaces how a write begins, and with it what keeps
        limits exact. Raises `DatabaseUnfit` when acknowledged writes could be lost, and
        `LedgerUnavailable` when the database does not answer.
        """
        bounds = bounds or Bounds()
        backend = _backend(url, bounds, synchronous, begin)
        try:
            backend.connect_writer().close()
        except (SQLAlchemyError, backend.errors) as error:
            backend.dispose()
            message = f"the database does not answer: {error}"
            raise LedgerUnavailable(message) from error
        return cls(backend, bounds)

    @property
    def commits(self) -> int:
        """How many transactions the writer has committed."""
        return self._writer.commits

    async def write(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` answers, once its changes are durable; all of them are, or none.

        `fn` may run more than once, and shares its commit with other callers'. A caller who is
        cancelled takes nothing back. Raises what `fn` raises, and `LedgerUnavailable` when the
        write had no turn in time or could not be made durable.
        """
        value: T = await self._writer.submit(fn)
        return value

    async def read(self, fn: Callable[[Connection], T]) -> T:
        """What `fn` reads from one unchanging state, on a connection that cannot write.

        Raises what `fn` raises, and `LedgerUnavailable`.
        """
        return await self._readers.read(fn)

    def close(self) -> None:
        """Write what waits, end the threads and close every connection."""
        self._readers.close()
        self._writer.close()
        self.backend.dispose()


def _backend(url: str, bounds: Bounds, synchronous: str, begin: str | None) -> Backend:
    try:
        parsed = make_url(url)
    except ArgumentError as error:
        message = "the database address is not a URL such as sqlite:///file or postgresql://…"
        raise DatabaseUnfit(message) from error
    if parsed.get_backend_name() == "sqlite":
        return sqlite.Sqlite(parsed, bounds, synchronous, begin or sqlite.BEGIN)
    if parsed.get_backend_name() in {"postgresql", "postgres"}:
        from proxy.store import postgres

        return postgres.Postgres(parsed, bounds, begin or postgres.BEGIN)
    message = f"{parsed.get_backend_name()} is not a database that can keep this ledger"
    raise DatabaseUnfit(message)
