"""What `Database` needs to know about one kind of database."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Any, Protocol

from sqlalchemy import Connection
from sqlalchemy.exc import DBAPIError


class LedgerUnavailable(Exception):
    """The database is away, locked, full, or asked for more than its limits.

    `maybe_committed` is True only when the connection broke while a commit was on its way.
    """

    def __init__(self, why: str, *, maybe_committed: bool = False) -> None:
        """Say `why`, in words for the operator's log."""
        super().__init__(why)
        self.maybe_committed = maybe_committed


class DatabaseUnfit(Exception):
    """The database answers, but would not keep what it acknowledges; nothing may run on it."""


class Trouble(Enum):
    """Whose an error of the database is."""

    CALL = "the one call's: a constraint it broke, a statement it got wrong"
    AGAIN = "nobody's: the same calls may succeed when run again"
    AWAY = "the database's: nobody can write just now"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The named limits of everything that waits for the database.

    A server ends a statement after `statement_seconds_max` or `read_seconds_max`; one that has said
    nothing `answer_slack_seconds` later is taken for gone.
    """

    batch_writes_max: int = 256
    waiting_writes_max: int = 10_000
    waiting_reads_max: int = 1_000
    wait_seconds_max: float = 10.0
    busy_seconds_max: float = 5.0
    connect_seconds_max: float = 5.0
    statement_seconds_max: float = 10.0
    read_seconds_max: float = 30.0
    readers_max: int = 4
    retries_max: int = 5
    answer_slack_seconds: float = 5.0
    close_seconds_max: float = 30.0
    wal_bytes_max: int = 64 * 1024 * 1024


class Backend(Protocol):
    """SQLite or PostgreSQL: how to connect, how to begin, and what its errors mean.

    Connections come in the driver's autocommit mode; `begin`, `commit` and `rollback` are said to
    the driver. Both `connect_…` raise `DatabaseUnfit` for settings that lose acknowledged writes.
    """

    @property
    def errors(self) -> type[Exception]:
        """The driver's base error."""

    def connect_writer(self) -> Connection:
        """A connection that may write."""

    def connect_reader(self) -> Connection:
        """A connection on which a write is an error."""

    def begin(self, driver: Any) -> None:
        """Begin to write: from here to the commit nobody else's write comes between."""

    def begin_read(self, driver: Any) -> None:
        """Begin to read one unchanging state."""

    def commit(self, driver: Any) -> None:
        """Make it durable, or raise."""

    def judge(self, error: BaseException) -> Trouble:
        """Whose trouble the driver's `error` is.

        Judging it the call's own harms nobody: rolling back to the savepoint comes next, and a
        connection that cannot do so is the trouble of all.
        """

    def dispose(self) -> None:
        """Forget every connection."""


def driver_of(connection: Connection) -> Any:
    """The driver's connection under SQLAlchemy's."""
    return connection.connection.dbapi_connection


def trouble_of(error: BaseException, backend: Backend) -> Trouble:
    """Whose trouble `error` is: the call's own, unless the database said otherwise."""
    return backend.judge(error) if isinstance(original(error), backend.errors) else Trouble.CALL


def original(error: BaseException) -> BaseException:
    """The driver's error inside SQLAlchemy's, or `error` itself."""
    if isinstance(error, DBAPIError) and error.orig is not None:
        return error.orig
    return error
