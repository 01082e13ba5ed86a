"""SQLite: one file, one writer, every commit on the disk before it is acknowledged.

SQLite before 3.51.3 can corrupt a WAL when two connections write or checkpoint at once (reliability
facts, R4). Here one connection of one process writes, which `store/lock.py` guarantees, and readers
only query; so any version runs.
"""

from __future__ import annotations

import sqlite3
from typing import Any, Final

from sqlalchemy import URL, Connection, create_engine, event
from sqlalchemy.pool import NullPool

from proxy.store.backend import Bounds, DatabaseUnfit, Trouble, driver_of, original

SYNCHRONOUS: Final = "FULL"
"""NORMAL survives a killed process but loses acknowledged commits in a power cut."""

BEGIN: Final = "BEGIN IMMEDIATE"
"""Takes the write lock before the first read, so that what a limit's check read still holds."""

_DURABLE: Final = {2: "FULL", 3: "EXTRA"}

# What is left of SQLite's error codes is about the file, its lock or its disk.
_CALL_CODES: Final = frozenset(
    {
        sqlite3.SQLITE_ERROR,
        sqlite3.SQLITE_CONSTRAINT,
        sqlite3.SQLITE_MISMATCH,
        sqlite3.SQLITE_MISUSE,
        sqlite3.SQLITE_RANGE,
        sqlite3.SQLITE_TOOBIG,
    }
)


class Sqlite:
    """The embedded database at `url`."""

    errors = sqlite3.Error

    def __init__(self, url: URL, bounds: Bounds, synchronous: str, begin: str) -> None:
        """Prepare for the file that `url` names; raises `DatabaseUnfit` when it names none."""
        if url.database in (None, "", ":memory:"):
            message = "the SQLite address names no file, and nothing else survives the process"
            raise DatabaseUnfit(message)
        self._bounds = bounds
        self._synchronous = synchronous
        self._begin = begin
        self._engine = create_engine(
            url.set(drivername="sqlite"),
            poolclass=NullPool,
            isolation_level="AUTOCOMMIT",
            hide_parameters=True,
            connect_args={"timeout": bounds.busy_seconds_max, "check_same_thread": False},
        )
        event.listen(self._engine, "connect", _keep_references)

    def connect_writer(self) -> Connection:
        """A connection in WAL mode whose commits are fsynced: both are read back."""
        connection = self._engine.connect()
        driver = driver_of(connection)
        driver.execute("PRAGMA journal_mode = WAL")
        driver.execute(f"PRAGMA synchronous = {self._synchronous}")
        driver.execute(f"PRAGMA journal_size_limit = {self._bounds.wal_bytes_max}")
        # What undoes one write of a batch would else be a file as soon as it is 64 KiB, and the
        # disk that takes temporary files may be full, or not be there to be written at all.
        driver.execute("PRAGMA temp_store = MEMORY")
        mode = driver.execute("PRAGMA journal_mode").fetchone()[0]
        synchronous = driver.execute("PRAGMA synchronous").fetchone()[0]
        if mode != "wal" or synchronous not in _DURABLE:
            connection.close()
            message = (
                f"SQLite says journal_mode={mode}, synchronous={synchronous}; a ledger needs wal "
                "and FULL (2), on a disk of this host"
            )
            raise DatabaseUnfit(message)
        return connection

    def connect_reader(self) -> Connection:
        """A connection that SQLite keeps from writing."""
        connection = self._engine.connect()
        driver_of(connection).execute("PRAGMA query_only = ON")
        return connection

    def begin(self, driver: Any) -> None:
        """Begin with the write lock in hand, after at most `busy_seconds_max`."""
        driver.execute(self._begin)

    def begin_read(self, driver: Any) -> None:
        """Begin to read one state of the file."""
        driver.execute("BEGIN")

    def commit(self, driver: Any) -> None:
        """Commit; SQLite answers when the log is on the disk."""
        driver.execute("COMMIT")

    def judge(self, error: BaseException) -> Trouble:
        """A broken constraint or a wrong statement is the call's own, all else the file's.

        An error without a code is the driver's own, about a value that it cannot bind.
        """
        code = getattr(original(error), "sqlite_errorcode", sqlite3.SQLITE_ERROR)
        return Trouble.CALL if code & 0xFF in _CALL_CODES else Trouble.AWAY

    def dispose(self) -> None:
        """Forget the engine."""
        self._engine.dispose()


def _keep_references(driver: Any, _record: object) -> None:
    driver.execute("PRAGMA foreign_keys = ON")
